"""A request is judged where it is routed, not where it is pinned; an obstacle becomes the error that says it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from classifiers.base import Classification, OutputLength, Prompt
from policies.pricing import cost_of_tokens_nusd
from policies.routing import EXPECTED_OUTPUT_TOKENS
from router.errors import ContextLengthExceeded, InvalidRequest, ModelNotAllowed, ModelNotFound
from router.openai.requests import ChatRequest, parse_chat_request
from router.pipeline.decide import IMAGE_TOKENS, Decided, Decider, input_tokens_estimate
from router.pipeline.models import Alias, Models
from router.stores.base import Principal
from tests.support.pipeline_bench import WordClassifier, deployment

NOW_S = 1_793_500_000.0
SMALL = deployment("small", "simple", context_window=100)
LARGE = deployment("large", "complex", context_window=1_000, capabilities=frozenset({"tools"}))
MODELS = Models(
    {"auto": Alias("auto", (SMALL, LARGE), 0.35, 0.65, 1), "eager": Alias("eager", (SMALL, LARGE), 0.0, 0.05, 0)},
    {"small": SMALL, "large": LARGE},
)
ANYONE = Principal("k", "t", "application", None, ())
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def request(content: Any = "Hello", **changes: Any) -> ChatRequest:
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]} | changes
    return parse_chat_request(orjson.dumps(body))


def decided(asked: ChatRequest, who: Principal = ANYONE, unavailable: frozenset[str] = frozenset()) -> Decided:
    return Decider(MODELS, WordClassifier(), lambda: unavailable).decide(who, asked, NOW_S)


def names(decision: Decided) -> list[str]:
    return [choice.deployment.name for choice in decision.decision.chain]


def test_the_score_and_the_aliass_thresholds_make_the_tier() -> None:
    easy, hard = decided(request()), decided(request("hard"))
    assert (easy.tier, names(easy)) == ("simple", ["small", "large"])
    assert (hard.tier, names(hard)) == ("complex", ["large", "small"])
    assert easy.classification is not None
    assert easy.classification.score == 0.1
    assert (decided(request(model="eager")).tier, names(decided(request(model="eager")))) == ("complex", ["large"])
    assert easy.day.isoformat() == "2026-11-01"


def test_a_quality_target_parts_small_from_large_and_is_told() -> None:
    medium = deployment("medium", "moderate")
    alias = Alias("kept", (SMALL, medium, LARGE), 0.5, 0.5, 1, quality_target=0.95)
    decider = Decider(Models({"kept": alias}, {}), WordClassifier(), lambda: frozenset())
    easy, hard = (decider.decide(ANYONE, request(text, model="kept"), NOW_S) for text in ("Hello", "hard"))
    assert (easy.tier, names(easy)[0], easy.quality) == ("simple", "small", (0.95, 0.5))
    assert (hard.tier, names(hard)[0], hard.quality) == ("complex", "large", (0.95, 0.5))
    assert decided(request()).quality is None


def test_a_pinned_deployment_is_not_judged() -> None:
    pinned = decided(request("hard", model="small"))
    assert (pinned.classification, pinned.tier, pinned.decision.reason) == (None, None, "pinned")
    assert names(pinned) == ["small"]


class LengthClassifier:
    """Expects as many tokens as it was told."""

    def __init__(self, length: OutputLength | None) -> None:
        self._length = length

    def classify(self, prompt: Prompt) -> Classification:
        return Classification(0.1, "simple", (), "lengths", output_length=self._length)


@pytest.mark.parametrize(("length", "tokens"), [(OutputLength(7, 90), 7), (None, EXPECTED_OUTPUT_TOKENS)])
def test_the_expected_length_prices_the_choice(length: OutputLength | None, tokens: int) -> None:
    asked = request()
    choice = Decider(MODELS, LengthClassifier(length), frozenset).decide(ANYONE, asked, NOW_S).decision.chain[0]
    assert choice.expected_cost_nusd == cost_of_tokens_nusd(input_tokens_estimate(asked), tokens, choice.price)


def test_open_circuits_and_rights_narrow_the_choice() -> None:
    assert names(decided(request(), unavailable=frozenset({"small"}))) == ["large"]
    assert names(decided(request(), Principal("k", "t", "application", frozenset({"large"}), ()))) == ["large"]


@pytest.mark.parametrize(
    ("asked", "error", "param", "says"),
    [
        (request(model="none"), ModelNotFound, "model", "no model 'none'"),
        (request([IMAGE]), InvalidRequest, "model", "small: lacks images; large: lacks images"),
        (request("word " * 5_000), ContextLengthExceeded, "messages", "context window of 1000 tokens is too small"),
        (request("word " * 500, model="small"), ContextLengthExceeded, "messages", "every model behind 'small'"),
        (request(tools=[{"x": "y" * 9_000}]), ContextLengthExceeded, "messages", "context window of 1000 tokens"),
        (request(model="small", tools=[{}]), InvalidRequest, "model", "small: lacks tools"),
    ],
    ids=["unknown", "images", "long", "pinned and long", "long tools", "pinned and unable"],
)
def test_what_no_model_can_take_is_explained(asked: ChatRequest, error: type, param: str, says: str) -> None:
    with pytest.raises(error) as raised:
        decided(asked)
    assert raised.value.param == param
    assert says in raised.value.message


def test_a_key_without_rights_is_refused() -> None:
    with pytest.raises(ModelNotAllowed):
        decided(request(), Principal("k", "t", "application", frozenset({"other"}), ()))


def test_images_count_in_the_estimate() -> None:
    assert input_tokens_estimate(request([IMAGE, IMAGE])) == 2 * IMAGE_TOKENS
    assert 0 < input_tokens_estimate(request("你好,世界")) < 20


# ---- observing -------------------------------------------------------------------------------------

OBSERVED = Alias("watched", (SMALL, LARGE), 0.35, 0.65, 1, answered_by=LARGE)


def observed(asked: ChatRequest, who: Principal = ANYONE) -> Decided:
    decider = Decider(
        Models({"watched": OBSERVED}, {"small": SMALL, "large": LARGE}), WordClassifier(), lambda: frozenset()
    )
    return decider.decide(who, asked, NOW_S)


@pytest.mark.parametrize(("text", "would_be"), [("Hello", "small"), ("hard", "large")])
def test_observing_sends_all_to_the_baseline_and_keeps_what_routing_would_have_done(text: str, would_be: str) -> None:
    found = observed(request(text, model="watched"))
    assert (names(found), found.decision.reason, found.decision.most) == (["large"], "observed", 1)
    assert found.observed is not None
    assert found.observed.deployment.name == would_be
    assert found.classification is not None
    assert found.tier == ("simple" if would_be == "small" else "complex")


def test_what_is_routed_is_not_observed() -> None:
    assert decided(request()).observed is None


def test_what_only_the_baseline_can_take_is_observed_as_going_nowhere_else() -> None:
    found = observed(request("word " * 300, model="watched"))
    assert found.observed is not None
    assert found.observed.deployment.name == "large"


def test_a_baseline_that_cannot_take_it_refuses_it_as_it_always_did() -> None:
    with pytest.raises(ContextLengthExceeded):
        observed(request("word " * 3_000, model="watched"))
    with pytest.raises(ModelNotAllowed):
        observed(request(model="watched"), Principal("k", "t", "application", frozenset({"small"}), ()))
