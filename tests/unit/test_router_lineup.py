"""Either all models are real or all are simulated, by what is set; what is left out is said."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from classifiers import registry
from classifiers.adapted import AdaptedClassifier
from classifiers.artifact import MANIFEST, WEIGHTS
from classifiers.base import Classifier
from classifiers.calibration import Evidence, Scores
from classifiers.heuristic import NAME, HeuristicClassifier
from classifiers.learned import LearnedClassifier
from classifiers.posterior import LEVELS, Fit, Level, Posterior
from classifiers.quality import QualityTargets, quality_targets_of
from router.config import AliasConfig, ClassifierConfig, Config
from router.errors import ConfigError
from router.lineup import (
    Thresholds,
    choose_classifier,
    construct_classifier,
    deployment_of,
    line_up,
    quality_table,
    sha256_of,
    thresholds,
)
from router.prices import load_prices
from tests.support.administration import PRICES
from tests.support.calibrated import OWN_THRESHOLD, CalibratedRules, own_table

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


def limits(alias: AliasConfig, classifier: Classifier) -> Thresholds:
    return thresholds("auto", alias, classifier, quality_targets_of(classifier))


def test_an_alias_without_a_quality_target_keeps_its_thresholds() -> None:
    alias = AliasConfig(moderate_from=0.2, complex_from=0.9)
    assert limits(alias, HeuristicClassifier()) == Thresholds(0.2, 0.9)


@pytest.mark.parametrize("classifier", [HeuristicClassifier(), HeuristicClassifier(0.1, 0.2)])
def test_an_alias_that_says_nothing_has_the_classifiers_own(classifier: HeuristicClassifier) -> None:
    own = Thresholds(classifier.moderate_from, classifier.complex_from)
    assert limits(AliasConfig(), classifier) == own
    assert limits(AliasConfig(moderate_from=0.05), classifier) == Thresholds(0.05, classifier.complex_from)
    assert limits(AliasConfig(complex_from=0.9), classifier) == Thresholds(classifier.moderate_from, 0.9)


@pytest.mark.parametrize(
    ("alias", "found"),
    [
        (AliasConfig(moderate_from=0.7), "moderate_from 0.7 must not exceed complex_from 0.65"),
        (AliasConfig(complex_from=0.2), "moderate_from 0.35 must not exceed complex_from 0.2"),
    ],
)
def test_one_configured_must_be_in_order_with_the_classifiers_other(alias: AliasConfig, found: str) -> None:
    with pytest.raises(ConfigError, match=r"aliases\.auto: .*is the classifier's own") as raised:
        limits(alias, HeuristicClassifier())
    assert found in str(raised.value)


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the one that ships."""
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "artifacts")
    registry.shipped.cache_clear()
    yield tmp_path / "artifacts"
    registry.shipped.cache_clear()


def test_without_a_trained_model_the_rules_judge_and_a_warning_says_so(
    artifacts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(choose_classifier(config(LOCAL, REMOTE)), HeuristicClassifier)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert said.startswith("the rules judge in place of the classifier learned: no trained model: ")
    assert str(artifacts / WEIGHTS) in said and "make train" in said


def test_with_one_there_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(choose_classifier(config(LOCAL, REMOTE)), LearnedClassifier)
        assert isinstance(construct_classifier("heuristic"), HeuristicClassifier)
    assert caplog.records == []


def test_a_broken_trained_model_is_refused(artifacts: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Silently judging by the rules would pass for the model that somebody put there."""
    artifacts.mkdir()
    for name in (MANIFEST, WEIGHTS):
        (artifacts / name).write_bytes(b"{")
    with pytest.raises(ConfigError, match=r"classifier\.name: learned: ") as raised:
        choose_classifier(config(LOCAL, REMOTE))
    assert str(artifacts / MANIFEST) in str(raised.value)
    assert caplog.records == []


def test_a_trained_model_of_mixed_files_says_what_to_do(artifacts: Path) -> None:
    artifacts.mkdir()
    for name in (MANIFEST, WEIGHTS):
        (artifacts / name).write_bytes((Path(registry.__file__).parent / "artifacts" / name).read_bytes())
    (artifacts / WEIGHTS).write_bytes((artifacts / WEIGHTS).read_bytes() + b" ")
    with pytest.raises(ConfigError, match="take both files from one training") as raised:
        construct_classifier("learned")
    assert str(artifacts / WEIGHTS) in str(raised.value)


def test_a_classifier_that_does_not_exist_is_no_artifact_that_is_missing() -> None:
    with pytest.raises(ValueError, match="no classifier is named 'bert'"):
        construct_classifier("bert")


@pytest.mark.parametrize(("target", "threshold"), [(0.5, 0.6), (0.9, 0.6), (0.92, 0.52), (0.95, 0.52), (0.98, 0.0)])
def test_a_quality_target_sets_both_thresholds(target: float, threshold: float) -> None:
    alias = AliasConfig(quality_target=target)
    assert limits(alias, CalibratedRules()) == Thresholds(threshold, threshold, target)


def test_a_quality_target_that_no_threshold_keeps() -> None:
    alias = AliasConfig(quality_target=0.99)
    with pytest.raises(ConfigError, match=r"aliases\.auto\.quality_target: found 0\.99, .* has no calibrated"):
        limits(alias, HeuristicClassifier())
    with pytest.raises(
        ConfigError, match=r"found 0\.99: no threshold is calibrated .*; allowed: above 0 and up to 0\.98"
    ):
        limits(alias, CalibratedRules())


def table_of(**classifier: Path) -> QualityTargets | None:
    """The table that serves with the rules, and with what the section `classifier` says beside."""
    section = ClassifierConfig(name="heuristic", **classifier)
    settings = config(LOCAL, REMOTE).model_copy(update={"classifier": section})
    return quality_table(settings, choose_classifier(settings))


def test_a_table_of_ones_own_takes_the_place_of_the_classifiers(tmp_path: Path) -> None:
    assert table_of() is None
    assert quality_table(config(LOCAL), CalibratedRules()) is CalibratedRules.quality_targets
    own = table_of(quality_targets=own_table(tmp_path / "t.json"))
    found = thresholds("auto", AliasConfig(quality_target=0.95), CalibratedRules(), own)
    assert found == Thresholds(OWN_THRESHOLD, OWN_THRESHOLD, 0.95)


def test_with_evidence_it_must_be_that_of_the_moved_scores(tmp_path: Path) -> None:
    evidence = write_fit(tmp_path / "e.json", "local")
    scores = Scores(NAME + "+evidence", Evidence(sha256_of(evidence), "local"))
    path = own_table(tmp_path / "t.json", scores)
    assert table_of(quality_targets=path, evidence=evidence) is not None
    with pytest.raises(ConfigError, match=r"for the scores of heuristic@1\+evidence \(evidence on local, SHA-256 "):
        table_of(quality_targets=path)
    write_fit(evidence, "local", "remote")
    with pytest.raises(ConfigError, match="calibrate anew"):
        table_of(quality_targets=path, evidence=evidence)


def test_a_file_that_cannot_be_hashed(tmp_path: Path) -> None:
    assert sha256_of(None) == ""
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        sha256_of(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("said", "limits", "longest"),
    [
        ({}, False, None),
        ({"max_output_tokens": 100}, True, 100),
        ({"max_tokens_field": "max_completion_tokens"}, True, None),
        ({"max_output_tokens": 100, "context_window": 100}, False, 100),
    ],
)
def test_a_deployment_is_as_configured_and_else_as_its_price_says(
    said: dict[str, Any], limits: bool, longest: int | None
) -> None:
    settings = config({**REMOTE, "model": "wire-name", "price": "gpt-4o", **said}).deployments[0]
    prices = load_prices(PRICES)
    found, info = deployment_of(settings, prices), prices.model("gpt-4o")
    assert (found.name, found.model, found.prices) == ("remote", "wire-name", info.prices)
    assert (found.limits_output, found.max_output_tokens) == (limits, longest or info.max_output_tokens)
    assert found.context_window == said.get("context_window", info.context_window)
    assert deployment_of(settings, prices, simulated=True).model == "gpt-4o"
