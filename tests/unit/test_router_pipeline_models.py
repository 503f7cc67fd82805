"""A name is an alias or a deployment; a key reaches what it may and hears what that is."""

from __future__ import annotations

import pytest

from router.errors import ModelNotAllowed, ModelNotFound
from router.pipeline.models import Alias, Models, allowed_deployments
from router.stores.base import Principal
from tests.support.pipeline_bench import deployment

SMALL, LARGE = deployment("small", "simple"), deployment("large", "complex")
AUTO = Alias("auto", (SMALL, LARGE), 0.3, 0.6, 2)
MODELS = Models({"auto": AUTO}, {"small": SMALL, "large": LARGE})


def key(*models: str) -> Principal:
    return Principal("k", "t", "application", frozenset(models) if models else None, ())


def test_names_lead_to_aliases_and_deployments() -> None:
    assert MODELS.resolve("auto") is AUTO
    assert MODELS.resolve("large") is LARGE


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match=r"no model 'x+'. Configured are: auto, large, small\.") as raised:
        MODELS.resolve("x" * 10_000)
    assert (raised.value.param, len(raised.value.message) < 250) == ("model", True)


@pytest.mark.parametrize(
    ("who", "model", "allowed"),
    [
        (key(), AUTO, None),
        (key("auto"), AUTO, None),
        (key("small"), AUTO, {"small"}),
        (key("small", "other"), AUTO, {"small"}),
        (key("small"), SMALL, None),
    ],
)
def test_what_a_key_may_use(who: Principal, model: Alias, allowed: set[str] | None) -> None:
    assert allowed_deployments(who, model) == allowed


@pytest.mark.parametrize(("who", "model"), [(key("small"), LARGE), (key("auto"), SMALL), (key("other"), AUTO)])
def test_what_it_may_not(who: Principal, model: Alias) -> None:
    with pytest.raises(ModelNotAllowed, match="it may use: "):
        allowed_deployments(who, model)
