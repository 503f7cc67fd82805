"""Either all models are real or all are simulated, by what is set; what is left out is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from classifiers.heuristic import HeuristicClassifier
from router.config import AliasConfig, Config
from router.errors import ConfigError
from router.lineup import Thresholds, line_up, thresholds
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
