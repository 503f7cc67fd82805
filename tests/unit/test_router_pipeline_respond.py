"""An answer is charged however its end goes; what none came of, for the attempts that may be billed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest

from policies.baseline import Baseline
from policies.routing import Choice, RouteDecision
from policies.usage import TokenUsage
from router.openai.requests import parse_chat_request
from router.pipeline.accounts import Accountant
from router.pipeline.bounds import options_of
from router.pipeline.circuit import Circuit
from router.pipeline.dispatch import Attempt, Call, Target, Timeouts
from router.pipeline.facts import Accepted
from router.pipeline.respond import Responder
from router.stores.base import Principal
from router.tokenizers import TokenCounter
from tests.support.pipeline_bench import BASELINE, TOKENIZER, CollectedReply, HandClock, deployment
from tests.support.scripted_provider import ScriptedAnswer, ScriptedProvider, completion, stream_of

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
STREAMED = replace(ACCEPTED, request=replace(REQUEST, stream=True))


@pytest.fixture
def responder() -> Responder:
    accountant = Accountant(Baseline(BASELINE, CHAIN[0].deployment.prices, TOKENIZER), {TOKENIZER: COUNTER})
    target = Target("small", ScriptedProvider(b""), Circuit(3, 10.0), Timeouts(1.0, 1.0), "wire-small", True)
    return Responder(accountant, {"small": target}, HandClock().clock(), 0)


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


class LastingClose(ScriptedAnswer):
    """Closed only by whoever stops waiting for it."""

    def __init__(self) -> None:
        super().__init__(stream_of("Hel", "lo"))
        self.is_closing = asyncio.Event()

    async def close(self) -> None:
        self.is_closing.set()
        await asyncio.Event().wait()


class FailingClose(ScriptedAnswer):
    async def close(self) -> None:
        raise RuntimeError("the library is at a loss")


class BrokenReply(CollectedReply):
    async def send(self, data: bytes, *, last: bool = False) -> None:
        raise OSError("the server is at a loss")


def call(answer: ScriptedAnswer, first: bytes, whole: dict[str, Any] | None = None) -> Call:
    return Call(CHAIN[0], answer, first, whole, deadline_s=10.0**9)


async def test_who_leaves_while_the_call_is_closed_is_charged_for_the_answer(responder: Responder) -> None:
    answer = LastingClose()
    task = asyncio.ensure_future(responder.respond(STREAMED, call(answer, b""), CollectedReply()))
    await answer.is_closing.wait()
    task.cancel()
    served = await task
    assert isinstance(served.error, asyncio.CancelledError)
    assert served.outcome.status == "ok", "the client has it all"
    assert served.outcome.charge is not None and served.outcome.charge.usage == TokenUsage(10, 2)


async def test_an_answer_stands_though_its_call_cannot_be_closed(responder: Responder) -> None:
    served = await responder.respond(STREAMED, call(FailingClose(stream_of("Hello")), b""), CollectedReply())
    assert (served.outcome.status, served.error) == ("ok", None)
    assert served.outcome.charge is not None and served.outcome.charge.usage == TokenUsage(10, 2)


async def test_an_answer_that_cannot_be_sent_is_charged(responder: Responder) -> None:
    raw = completion()
    served = await responder.respond(ACCEPTED, call(ScriptedAnswer(raw), raw, orjson.loads(raw)), BrokenReply())
    assert isinstance(served.error, OSError)
    assert (served.outcome.status, served.outcome.error_code, served.storable) == ("error", "internal_error", False)
    assert served.outcome.charge is not None and served.outcome.charge.usage == TokenUsage(10, 2)
