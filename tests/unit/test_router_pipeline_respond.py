"""What no answer came of is charged for the attempts that may be billed, and for nothing else."""

from __future__ import annotations

import asyncio
from datetime import date

import orjson
import pytest

from policies.baseline import Baseline
from policies.routing import Choice, RouteDecision
from router.openai.requests import parse_chat_request
from router.pipeline.accounts import Accepted, Accountant
from router.pipeline.bounds import options_of
from router.pipeline.dispatch import Attempt
from router.pipeline.respond import Responder
from router.stores.base import Principal
from router.tokenizers import TokenCounter
from tests.support.pipeline_bench import BASELINE, TOKENIZER, HandClock, deployment

COUNTER = TokenCounter(TOKENIZER)
CHAIN = tuple(Choice(made, made.prices.prices[0], 7) for made in (deployment("small", "simple"),))
REQUEST = parse_chat_request(orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}))
ACCEPTED = Accepted(
    request_id="chatcmpl-1",
    started_s=0.0,
    started_at_ms=0,
    principal=Principal("key-1", "team-1", "application", None, ()),
    request=REQUEST,
    classification=None,
    tier="simple",
    decision=RouteDecision(CHAIN, 1, "simple", ()),
    options=options_of(CHAIN, REQUEST, attempts=2),
    cacheable=False,
    day=date(2026, 11, 1),
)


@pytest.fixture
def responder() -> Responder:
    accountant = Accountant(Baseline(BASELINE, CHAIN[0].deployment.prices, TOKENIZER), {TOKENIZER: COUNTER})
    return Responder(accountant, {}, HandClock().clock(), 0)


async def test_attempts_that_may_be_billed_are_charged_though_nothing_came_of_them(responder: Responder) -> None:
    attempts = [Attempt("small", "timeout", billed=True), Attempt("small", "lost", billed=True)]
    outcome = await responder.unanswered("error", ACCEPTED, attempts, "upstream_timeout")
    assert (outcome.status, outcome.choice, outcome.error_code) == ("error", CHAIN[0], "upstream_timeout")
    assert outcome.charge is not None
    assert outcome.charge.cost_nusd == outcome.charge.input_tokens == 2 * COUNTER.count_messages(REQUEST.messages)
    assert outcome.charge.cost_nusd <= ACCEPTED.options[0].base_nusd


@pytest.mark.parametrize("attempts", [[], [Attempt("small", "answered HTTP 500")]])
async def test_attempts_that_were_refused_are_not(responder: Responder, attempts: list[Attempt]) -> None:
    outcome = await responder.unanswered("cancelled", ACCEPTED, attempts)
    assert (outcome.status, outcome.choice, outcome.charge) == ("cancelled", None, None)
    assert outcome.attempts == tuple(attempts)


async def test_who_is_cancelled_while_it_is_counted_is_charged_all_the_same(responder: Responder) -> None:
    task = asyncio.ensure_future(responder.unanswered("cancelled", ACCEPTED, [Attempt("small", billed=True)]))
    await asyncio.sleep(0)
    task.cancel()
    assert (await task).charge is not None
