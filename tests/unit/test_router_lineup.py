"""Either all models are real or all are simulated, by what is set; what is left out is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from classifiers.adapted import AdaptedClassifier
from classifiers.heuristic import NAME, HeuristicClassifier
from classifiers.posterior import LEVELS, Fit, Level, Posterior
from router.config import AliasConfig, ClassifierConfig, Config
from router.errors import ConfigError
from router.lineup import Thresholds, choose_classifier, line_up, thresholds
from tests.support.calibrated import CalibratedRules

LOCAL = {"name": "local", "base_url_env": "LOCAL_URL", "tier": "simple"}
REMOTE = {"name": "remote", "base_url": "https://api.example/v1", "api_key_env": "KEY", "tier": "complex"}
MADE_UP = {"name": "made-up", "provider": "simulated", "tier": "simple"}


def config(*deployments: Mapping[str, Any], simulate: str = "auto") -> Config:
    common = {"provider_name": "p", "model": "m", "price": "p"}
    return Config.model_validate(
        {"deployments": [common | dict(one) for one in deployments], "aliases": {"auto": {}}, "simulate": simulate}
    )


def names(settings: Config, **environ: str) -> tuple[list[str], bool, dict[str, str]]:
    lineup = line_up(settings, environ)
    return [one.name for one in lineup.active], lineup.simulated, dict(lineup.disabled)


def test_with_nothing_set_everything_is_simulated() -> None:
    assert names(config(LOCAL, REMOTE)) == (["local", "remote"], True, {})


def test_what_is_set_serves_and_the_rest_is_left_out() -> None:
    assert names(config(LOCAL, REMOTE, MADE_UP), KEY="k") == (["remote"], False, {"local": "LOCAL_URL is not set"})
    both = names(config(LOCAL, REMOTE, MADE_UP), KEY="k", LOCAL_URL="http://l/v1")
    assert both == (["local", "remote"], False, {})


def test_always_means_always() -> None:
    assert names(config(LOCAL, REMOTE, simulate="always"), KEY="k") == (["local", "remote"], True, {})


def test_never_means_never() -> None:
    assert names(config(LOCAL, REMOTE, simulate="never"), KEY="k")[1] is False
    with pytest.raises(ConfigError, match="'never': local: LOCAL_URL is not set; remote: KEY is not set"):
        line_up(config(LOCAL, REMOTE, simulate="never"), {})


def test_simulated_deployments_alone_are_simulated() -> None:
    assert names(config(MADE_UP)) == (["made-up"], True, {})


def write_fit(path: Path, *small_models: str) -> Path:
    levels = tuple(Level(0.5, {}) for _ in LEVELS)
    posteriors = [Posterior(NAME, name, 0.0, 0.0, 0.0, 1.0, 1.0, 5.0, levels) for name in small_models]
    Fit(NAME, 0.0, 30.0, tuple(posteriors)).write(path)
    return path


def test_without_evidence_the_classifier_is_as_configured() -> None:
    settings = config(LOCAL, REMOTE).model_copy(update={"classifier": ClassifierConfig(name="heuristic")})
    assert isinstance(choose_classifier(settings), HeuristicClassifier)


def test_with_it_the_evidence_on_the_smallest_model_counts(tmp_path: Path) -> None:
    middle = {"name": "middle", "base_url": "https://api.example/v1", "tier": "moderate"}
    settings = config(REMOTE, middle, LOCAL)
    for small_models in (("remote", "middle", "local"), ("middle", "local"), ("local",)):
        path = write_fit(tmp_path / "e.json", *small_models)
        chosen = choose_classifier(
            settings.model_copy(update={"classifier": ClassifierConfig(name="heuristic", evidence=path)})
        )
        assert isinstance(chosen, AdaptedClassifier)
        assert chosen.posterior.small_model == "local"


@pytest.mark.parametrize("small_model", ["other", "remote"])
def test_evidence_on_none_of_the_small_ones_is_refused(tmp_path: Path, small_model: str) -> None:
    path = write_fit(tmp_path / "e.json", small_model)
    settings = config(LOCAL, REMOTE).model_copy(
        update={"classifier": ClassifierConfig(name="heuristic", evidence=path)}
    )
    with pytest.raises(ConfigError, match=f"holds evidence on {small_model}; deployed are local, m, p"):
        choose_classifier(settings)


def test_an_alias_without_a_quality_target_keeps_its_thresholds() -> None:
    alias = AliasConfig(moderate_from=0.2, complex_from=0.9)
    assert thresholds("auto", alias, HeuristicClassifier()) == Thresholds(0.2, 0.9)


@pytest.mark.parametrize(("target", "threshold"), [(0.5, 0.6), (0.9, 0.6), (0.92, 0.52), (0.95, 0.52), (0.98, 0.0)])
def test_a_quality_target_sets_both_thresholds(target: float, threshold: float) -> None:
    alias = AliasConfig(quality_target=target)
    assert thresholds("auto", alias, CalibratedRules()) == Thresholds(threshold, threshold, target)


def test_a_quality_target_that_no_threshold_keeps() -> None:
    alias = AliasConfig(quality_target=0.99)
    with pytest.raises(ConfigError, match=r"aliases\.auto\.quality_target: found 0\.99, .* has no calibrated"):
        thresholds("auto", alias, HeuristicClassifier())
    with pytest.raises(
        ConfigError, match=r"found 0\.99: no threshold is calibrated .*; allowed: above 0 and up to 0\.98"
    ):
        thresholds("auto", alias, CalibratedRules())
