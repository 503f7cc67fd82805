"""Calls are retried, passed on and given up within stated bounds; the body changes no more than it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.routing import Choice
from router.errors import UpstreamContextExceeded, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from router.pipeline.circuit import Circuit
from router.pipeline.dispatch import Attempt, Dispatcher, DispatchFailed, RetryPolicy, Target, Timeouts
from tests.support.pipeline_bench import HandClock, deployment
from tests.support.scripted_provider import Hangs, ScriptedProvider, completion, stream_of

DOWN = UpstreamUnavailable("down")
BODY = {"model": "auto", "messages": [], "x": 1}


def choice(name: str) -> Choice:
    made = deployment(name, "simple")
    return Choice(made, made.prices.prices[0], 1)


CHAIN = (choice("small"), choice("large"))


class Fleet:
    def __init__(
        self,
        small: ScriptedProvider,
        large: ScriptedProvider,
        attempts: int = 1,
        failures: int = 9,
        max_tokens_field: Any = "max_tokens",
    ) -> None:
        self.hand = HandClock()
        self.circuits = {name: Circuit(failures, 10.0) for name in ("small", "large")}
        targets = {
            name: Target(
                name, provider, self.circuits[name], Timeouts(0.02, 0.02), f"wire-{name}", True, max_tokens_field
            )
            for name, provider in (("small", small), ("large", large))
        }
        self.dispatcher = Dispatcher(targets, RetryPolicy(attempts, 0.0, 1.0), self.hand.clock(), jitter=lambda: 0.0)


async def test_the_first_that_answers_is_taken() -> None:
    small, large = ScriptedProvider(completion()), ScriptedProvider(completion())
    call = await Fleet(small, large).dispatcher.call(CHAIN, BODY, stream=False)
    assert (call.choice, call.first) == (CHAIN[0], completion())
    assert [attempt.to_json() for attempt in call.attempts] == [{"deployment": "small", "error": None}]
    assert small.bodies == [BODY | {"model": "wire-small"}]
    assert (BODY["model"], large.bodies) == ("auto", [])


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False, "other": 1}])
async def test_a_stream_is_asked_for_its_usage(options: dict[str, object] | None) -> None:
    small = ScriptedProvider(stream_of("Hello"))
    body = BODY | {"stream": True, "stream_options": options}
    call = await Fleet(small, small).dispatcher.call(CHAIN, body, stream=True)
    assert small.bodies[0]["stream_options"] == (options or {}) | {"include_usage": True}
    await call.answer.close()


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("unset", [{}, {"max_tokens": None}, {"max_completion_tokens": None}])
async def test_a_cap_goes_out_under_the_deployments_own_name(field: Any, unset: dict[str, None]) -> None:
    small, large = ScriptedProvider(DOWN), ScriptedProvider(completion())
    fleet = Fleet(small, large, max_tokens_field=field)
    await fleet.dispatcher.call(CHAIN, BODY | unset, stream=False, caps={"small": 7})
    assert small.bodies == [BODY | {"model": "wire-small", field: 7}]
    assert large.bodies == [BODY | unset | {"model": "wire-large"}]


@pytest.mark.parametrize("asked", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", None])
async def test_a_request_keeps_its_own_limit_by_the_name_that_the_deployment_knows(asked: str, field: Any) -> None:
    small = ScriptedProvider(completion())
    fleet = Fleet(small, small, max_tokens_field=field)
    await fleet.dispatcher.call(CHAIN, BODY | {asked: 9}, stream=False, caps={"small": 7})
    assert small.bodies == [BODY | {field or asked: 9, "model": "wire-small"}]


@pytest.mark.parametrize(("tier", "sent"), [("priority", False), ("scale", False), ("flex", True), ("auto", True)])
async def test_a_service_that_costs_more_than_the_list_says_is_not_asked_for(tier: str, sent: bool) -> None:
    small = ScriptedProvider(completion())
    await Fleet(small, small).dispatcher.call(CHAIN, BODY | {"service_tier": tier}, stream=False)
    assert ("service_tier" in small.bodies[0]) is sent


REFUSED = UpstreamUnavailable("answered HTTP 500")
LOST = UpstreamUnavailable("broke off while it was waited for")
LOST.may_be_billed = True


@pytest.mark.parametrize(
    ("script", "stream", "billed"),
    [
        (REFUSED, False, False),
        (UpstreamRejected("no", status=400, body=b"{}"), False, False),
        (LOST, False, True),
        (Hangs, False, True),
        (Hangs, True, True),
        (b"<html>log in</html>", False, True),
        ([b"<html>"], True, True),
        ([UpstreamUnavailable("broke off in the body")], True, True),
        ([], True, True),
    ],
)
async def test_an_attempt_is_billed_unless_it_was_refused(script: Any, stream: bool, billed: bool) -> None:
    attempts: list[Attempt] = []
    fleet = Fleet(ScriptedProvider(script), ScriptedProvider(REFUSED))
    with pytest.raises(DispatchFailed):
        await fleet.dispatcher.call(CHAIN, BODY, stream=stream, attempts=attempts)
    assert (attempts[0].deployment, attempts[0].billed) == ("small", billed)
    assert not any(attempt.billed for attempt in attempts[1:])


async def test_each_is_tried_as_often_as_allowed_before_the_next() -> None:
    small, large = ScriptedProvider(DOWN), ScriptedProvider(DOWN)
    with pytest.raises(DispatchFailed) as raised:
        await Fleet(small, large, attempts=3).dispatcher.call(CHAIN, BODY, stream=False)
    assert [attempt.deployment for attempt in raised.value.attempts] == ["small"] * 3 + ["large"] * 3
    assert (raised.value.error, raised.value.choice) == (DOWN, CHAIN[1])


async def test_a_rejection_ends_it_and_says_that_the_deployment_lives() -> None:
    small = ScriptedProvider(DOWN, UpstreamRejected("no", status=400, body=b"{}"))
    fleet = Fleet(small, ScriptedProvider(completion()), attempts=3, failures=2)
    with pytest.raises(DispatchFailed) as raised:
        await fleet.dispatcher.call(CHAIN, BODY, stream=False)
    assert len(raised.value.attempts) == 2
    fleet.circuits["small"].failed(fleet.hand.now_s)
    assert fleet.dispatcher.unavailable() == frozenset()


async def test_a_prompt_too_long_for_one_goes_to_the_next_at_once() -> None:
    too_long = UpstreamContextExceeded("too long", status=400, body=b"{}")
    small = ScriptedProvider(too_long, completion())
    call = await Fleet(small, ScriptedProvider(completion()), attempts=3).dispatcher.call(CHAIN, BODY, stream=False)
    assert (call.choice, len(small.bodies)) == (CHAIN[1], 1)


async def test_who_cancels_knows_of_the_calls_that_were_made() -> None:
    attempts: list[Attempt] = []
    fleet = Fleet(ScriptedProvider(Hangs), ScriptedProvider(completion()))
    call = asyncio.ensure_future(fleet.dispatcher.call(CHAIN, BODY, stream=True, attempts=attempts))
    await asyncio.sleep(0.005)
    call.cancel()
    await asyncio.wait([call])
    assert [(attempt.deployment, attempt.billed) for attempt in attempts] == [("small", True)]


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_hangs_is_a_timeout_and_counts_as_failed(stream: bool) -> None:
    fleet = Fleet(ScriptedProvider(Hangs), ScriptedProvider(Hangs), failures=1)
    with pytest.raises(DispatchFailed) as raised:
        await fleet.dispatcher.call(CHAIN, BODY, stream=stream)
    assert isinstance(raised.value.error, UpstreamTimeout)
    assert fleet.dispatcher.unavailable() == {"small", "large"}


async def test_a_fallback_whose_circuit_is_open_is_passed_over_but_the_first_is_tried() -> None:
    small, large = ScriptedProvider(DOWN), ScriptedProvider(completion())
    fleet = Fleet(small, large, failures=1)
    for name in ("small", "large"):
        fleet.circuits[name].failed(fleet.hand.clock().monotonic())
    with pytest.raises(DispatchFailed):
        await fleet.dispatcher.call(CHAIN, BODY, stream=False)
    assert (len(small.bodies), len(large.bodies)) == (1, 0)
    assert fleet.dispatcher.circuit_states() == {"small": "open", "large": "open"}
    fleet.hand.now_s += 10
    assert fleet.dispatcher.circuit_states() == {"small": "half_open", "large": "half_open"}
    assert fleet.dispatcher.unavailable() == frozenset()


POLICY = RetryPolicy(max_attempts=5, base_s=0.1, max_s=2.0)


@given(st.integers(1, 50), st.none() | st.floats(0, 2), st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded_and_at_least_what_the_provider_asks(
    attempt: int, retry_after_s: float | None, jitter: float
) -> None:
    wait_s = POLICY.wait_s(attempt, retry_after_s, jitter)
    assert wait_s is not None
    assert (retry_after_s or 0) <= wait_s <= POLICY.max_s


@pytest.mark.parametrize(("attempt", "most_s"), [(1, 0.1), (2, 0.2), (3, 0.4), (5, 1.6), (6, 2.0), (40, 2.0)])
def test_waits_double_up_to_their_bound(attempt: int, most_s: float) -> None:
    assert POLICY.wait_s(attempt, None, 0.5) == pytest.approx(most_s / 2)
    assert POLICY.wait_s(attempt, None, 0.0) == 0


def test_a_provider_that_asks_for_more_is_left_alone() -> None:
    assert POLICY.wait_s(1, 2.1, 0.5) is None
