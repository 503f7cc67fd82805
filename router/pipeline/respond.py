"""Passes a provider's answer to the client: whole, or as it streams in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from classifiers.records import record
from policies.routing import Choice, Reason
from policies.spend import Status
from router.clock import Clock
from router.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from router.openai.errors import error_body
from router.openai.responses import AnswerFacts, completion_facts, id_fragment, our_id_fragment
from router.openai.sse import DONE, EventTooLarge, StreamRelay, error_event
from router.pipeline import headers
from router.pipeline.accounts import Accountant
from router.pipeline.dispatch import Attempt, Call, Target
from router.pipeline.facts import Accepted, Charge, Outcome
from router.pipeline.reply import Reply

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REPEATABLE = frozenset({"stop", "length", "tool_calls", "function_call"})
"""Finish reasons of answers worth repeating; a content filter's, or none at all, is not."""

LAST_WORD_SECONDS = 5.0
"""How long a client may take to accept the error frame that ends its stream."""

COUNTED_INLINE_BYTES = 65_536
"""About 6 ms of counting."""

_LAST_BYTES_SECONDS = 1.0
"""How long a provider may take to close a stream whose `[DONE]` has come."""


@record()
class Served:
    """How serving ended. `body` is what the client got, kept where it is `storable`.

    `error` is still to be raised; an error that went out in mid-stream is none.
    """

    outcome: Outcome
    error: BaseException | None = None
    body: bytes = b""
    storable: bool = False


class Responder:
    def __init__(
        self, accountant: Accountant, targets: Mapping[str, Target], clock: Clock, max_kept_bytes: int
    ) -> None:
        self._accountant = accountant
        self._targets = targets
        self._clock = clock
        self._max_kept_bytes = max_kept_bytes

    async def respond(self, accepted: Accepted, call: Call, reply: Reply) -> Served:
        """Raises nothing: see `Served`."""
        first_token_s = self._clock.monotonic()
        if accepted.request.stream:
            return await self._stream(accepted, call, reply, first_token_s)
        return await self._whole(accepted, call, reply, first_token_s)

    async def _whole(self, accepted: Accepted, call: Call, reply: Reply, first_token_s: float) -> Served:
        raw, completion = call.first, call.completion or {}
        answer = completion_facts(completion)
        theirs = id_fragment(raw, completion.get("id"))
        body = raw.replace(theirs, our_id_fragment(accepted.request_id), 1) if theirs else raw
        outcome = await self._outcome("ok", accepted, call, answer, first_token_s)
        try:
            await reply.start(200, headers.of_call(accepted, call, outcome.reason, outcome.charge))
            await reply.send(body, last=True)
        except asyncio.CancelledError as cancelled:  # it went away; the answer was made all the same
            return Served(outcome, cancelled, body, storable=_repeatable(answer))
        except Exception as error:  # a fault of ours: the answer is charged all the same
            logger.exception("request %s failed", accepted.request_id)
            return Served(replace(outcome, status="error", error_code="internal_error"), error)
        return Served(outcome, None, body, storable=_repeatable(answer))

    async def _stream(self, accepted: Accepted, call: Call, reply: Reply, first_token_s: float) -> Served:
        target = self._targets[call.choice.deployment.name]
        relay = StreamRelay(accepted.request_id, drop_usage=target.stream_usage and not accepted.request.include_usage)
        kept = _Kept(self._max_kept_bytes if accepted.cacheable else 0)
        failure: UpstreamError | None = None
        cancelled: asyncio.CancelledError | None = None
        fault: Exception | None = None
        try:
            await reply.start(200, headers.of_call(accepted, call, _reason(accepted, call)))
            failure = await self._relay(call, relay, reply, kept)
            if failure is not None and not await _told(reply, failure):
                failure = None  # it was the client that kept us waiting, and does still
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception as error:  # a fault of ours: what has come until now is charged all the same
            logger.exception("request %s failed", accepted.request_id)
            fault = error
        cancelled = await _closed(call) or cancelled
        answer = relay.facts()
        # Clients hang up once they have read [DONE]: whoever has that has the whole answer.
        status: Status = "cancelled" if (cancelled or reply.gone) and not relay.done else "ok"
        error_code = _error_code(relay, failure, fault)
        if error_code is not None:
            status = "error"
        outcome = await self._outcome(status, accepted, call, answer, first_token_s, error_code)
        storable = status == "ok" and _repeatable(answer) and kept.whole
        return Served(outcome, cancelled or fault, kept.body() if storable else b"", storable)

    async def _relay(self, call: Call, relay: StreamRelay, reply: Reply, kept: _Kept) -> UpstreamError | None:
        """Moves the stream, event by event. Returns what broke it off, if anything did."""
        name = call.choice.deployment.name
        chunk: bytes | None = call.first
        try:
            async with asyncio.timeout(max(call.deadline_s - self._clock.monotonic(), 0)) as limit:
                while chunk is not None:
                    if data := relay.feed(chunk):
                        kept.add(data)
                        await reply.send(data, last=relay.done)
                    if relay.done:
                        limit.reschedule(asyncio.get_running_loop().time() + _LAST_BYTES_SECONDS)
                        await call.answer.next_chunk()  # the end of the body: then the connection can be kept
                        return None
                    chunk = await call.answer.next_chunk()
        except TimeoutError:
            return None if relay.done else UpstreamTimeout(f"{name} did not finish in time")
        except EventTooLarge as error:
            return UpstreamUnavailable(f"{name} sent {error}")
        except UpstreamError as error:
            return None if relay.done else error
        return await self._end(name, relay, reply, kept)

    async def _end(self, name: str, relay: StreamRelay, reply: Reply, kept: _Kept) -> UpstreamError | None:
        """The provider's stream has ended without `[DONE]`: whole, broken off, or with an error of its own."""
        data = relay.finish()
        if relay.error is None and not relay.done:
            if not relay.facts().finish_reasons:
                return UpstreamUnavailable(f"{name} broke off in mid-stream")
            data += DONE
        kept.add(data)
        await reply.send(data, last=True)
        return None

    async def _outcome(
        self,
        status: Status,
        accepted: Accepted,
        call: Call,
        answer: AnswerFacts,
        first_token_s: float,
        error_code: str | None = None,
    ) -> Outcome:
        return Outcome(
            status=status,
            reason=_reason(accepted, call),
            choice=call.choice,
            charge=await self.charge(accepted, call.choice, answer, call.attempts),
            answer=answer,
            attempts=tuple(call.attempts),
            error_code=error_code,
            first_token_s=first_token_s,
        )

    async def charge(
        self, accepted: Accepted, choice: Choice, answer: AnswerFacts, attempts: Sequence[Attempt] = ()
    ) -> Charge:
        """What an answer came to, and the `attempts` before it. Counting a long text takes longer than everything
        else: it must not hold up everybody's requests."""
        if accepted.request.size_bytes + len(answer.output_text) <= COUNTED_INLINE_BYTES:
            return self._accountant.charge(accepted, choice, answer, attempts)
        return await _to_its_end(asyncio.to_thread(self._accountant.charge, accepted, choice, answer, attempts))

    async def unanswered(
        self, status: Status, accepted: Accepted, attempts: Sequence[Attempt], error_code: str | None = None
    ) -> Outcome:
        """How a request ended that no answer came of: with the charge of the attempts that may be billed."""
        charged = None
        if any(attempt.billed for attempt in attempts):
            work = asyncio.to_thread(self._accountant.charge_unanswered, accepted, attempts)
            charged = await _to_its_end(work)
        choice, charge = charged or (None, None)
        return Outcome(
            status=status,
            reason=accepted.decision.reason,
            choice=choice,
            charge=charge,
            attempts=tuple(attempts),
            error_code=error_code,
        )


class _Kept:
    """A copy of what was sent, for the cache; given up once it is larger than the cache would take."""

    __slots__ = ("_limit", "_parts", "_size", "whole")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self.whole = limit_bytes > 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self.whole and self._size <= self._limit:
            self._parts.append(data)
        else:
            self.drop()

    def drop(self) -> None:
        self.whole = False
        self._parts.clear()

    def body(self) -> bytes:
        return b"".join(self._parts)


async def _closed(call: Call) -> asyncio.CancelledError | None:
    """Ends the call. However that goes, what has come is charged."""
    try:
        await call.answer.close()
    except asyncio.CancelledError as cancelled:
        return cancelled
    except Exception:  # the provider's library failed at the last; its answer stands
        logger.exception("the call to %s could not be closed", call.choice.deployment.name)
    return None


async def _told(reply: Reply, failure: UpstreamError) -> bool:
    """Sends the error frame. False for a client that takes nothing any more; it counts as gone then."""
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await reply.send(error_event(error_body(failure)), last=True)
    except TimeoutError:
        reply.gone = True
        return False
    return True


def _error_code(relay: StreamRelay, failure: UpstreamError | None, fault: Exception | None) -> str | None:
    """Why a stream went wrong, if it did; an error that the provider sent in mid-stream is its failure, too."""
    if fault is not None:
        return "internal_error"
    if failure is not None:
        return failure.code
    return UpstreamError.code if relay.error is not None else None


def _reason(accepted: Accepted, call: Call) -> Reason:
    return accepted.decision.reason if call.choice is accepted.decision.chain[0] else "fallback"


def _repeatable(answer: AnswerFacts) -> bool:
    reasons = answer.finish_reasons.split(",")
    return all(reason in _REPEATABLE for reason in reasons)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, whoever cancels: what was answered must be charged."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    return task.result()
