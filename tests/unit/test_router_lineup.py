"""Either all models are real or all are simulated, by what is set; what is left out is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from router.config import Config
from router.errors import ConfigError
from router.lineup import line_up

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
