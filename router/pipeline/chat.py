"""One chat request, from the raw body to the settled record: the straight line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from classifiers.base import Classification
from classifiers.records import record
from policies.routing import Choice, RouteDecision, within_budget
from policies.spend import SpendRecord
from router.clock import Clock
from router.errors import ParsimonyError, StoreUnavailable
from router.openai.requests import ChatRequest, canonical_digest, parse_chat_request
from router.pipeline import headers
from router.pipeline.accounts import Accountant
from router.pipeline.authenticate import Authenticator
from router.pipeline.bounds import limits_of, options_of
from router.pipeline.budgets import (
    ApplicableBudgets,
    Applied,
    Paces,
    may_be_less,
    named_by,
    rate_limit_headers,
    refusal,
    refused_by,
)
from router.pipeline.cached import FORMAT, pack, unpack
from router.pipeline.decide import Decider
from router.pipeline.dispatch import Attempt, Dispatcher, DispatchFailed
from router.pipeline.facts import Accepted, Outcome
from router.pipeline.flights import Flight, Flights
from router.pipeline.reply import Reply
from router.pipeline.respond import Responder, Served
from router.pipeline.settle import Settler
from router.pipeline.shadow import Shadower
from router.stores import redis_keys
from router.stores.admission import (
    Admission,
    AdmissionStore,
    Admitted,
    Bid,
    CacheHit,
    Option,
    Refused,
)
from router.stores.base import Principal
from router.stores.kept_json import kept_json
from router.telemetry import Telemetry

logger = logging.getLogger(__name__)

DEFAULT_TEMPERATURE = 1.0
"""OpenAI API reference: what a request means that names none."""

_SECOND_BEST = frozenset({"budget", "degraded", "fallback", "paced"})
"""Reasons of answers that another caller, or the same one later, would not have got."""


@record()
class Incoming:
    """What the HTTP layer hands over. `no_cache`: answer afresh; `no_store`: and keep nothing, either; `no_shadow`:
    send it nowhere else to be measured.

    `tags` is the value of `x-parsimony-tags`: names between commas.
    """

    raw: bytes
    no_cache: bool = False
    no_store: bool = False
    tags: bytes = b""
    no_shadow: bool = False


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Which answers are kept, for whom, how long; sizes in bytes."""

    enabled: bool
    per_team: bool
    ttl_seconds: int
    max_entry_bytes: int
    max_temperature: float

    def admits(self, request: ChatRequest) -> bool:
        temperature = DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
        return self.enabled and temperature <= self.max_temperature


@record()
class Held:
    """What admission gave: the request with the chain that the budgets carry, and what they hold for it."""

    accepted: Accepted
    applied: Applied
    admitted: Admitted


class ChatPipeline:
    def __init__(
        self,
        *,
        authenticator: Authenticator,
        decider: Decider,
        dispatcher: Dispatcher,
        responder: Responder,
        accountant: Accountant,
        admission: AdmissionStore,
        settler: Settler,
        cache: CachePolicy,
        telemetry: Telemetry,
        clock: Clock,
        new_request_id: Callable[[], str],
        shadower: Shadower | None = None,
    ) -> None:
        """Without a `shadower` nothing is measured."""
        self._authenticator = authenticator
        self._decider = decider
        self._dispatcher = dispatcher
        self._responder = responder
        self._accountant = accountant
        self._admission = admission
        self._settler = settler
        self._shadower = shadower
        self._cache = cache
        self._telemetry = telemetry
        self._clock = clock
        self._new_request_id = new_request_id
        self._flights = Flights()
        self._budgets = ApplicableBudgets()
        self._paces = Paces()

    async def close(self, timeout_s: float) -> None:
        """Ends what goes on beside the requests, within `timeout_s`."""
        if self._shadower is not None:
            await self._shadower.close(timeout_s)

    async def authenticate(self, authorization: bytes | None) -> Principal:
        """Whose request this is, known from its head: a body is read for nobody else. Raises InvalidApiKey."""
        return await self._authenticator.authenticate(authorization)

    async def answer(self, principal: Principal, incoming: Incoming, reply: Reply) -> None:
        """Answers `principal` on `reply`. Raises ParsimonyError where nothing has been sent yet."""
        started_s = self._clock.monotonic()
        # The team, not the key: keys are rotated, and what was learned of an application's requests shall stay.
        request = parse_chat_request(incoming.raw, principal.team_id)
        accepted, applied = self._accept(principal, request, incoming, started_s)
        self._telemetry.accepted(accepted.request_id, request.prompt.messages[-1].text)
        cache_key = _cache_key(accepted, self._cache) if accepted.cacheable else ""
        flight = await self._share(accepted, cache_key) if cache_key and not incoming.no_cache else None
        try:
            admission = await self._admit(accepted, applied, cache_key, look_up=not incoming.no_cache)
            if isinstance(admission, Refused) and may_be_less(applied, admission):
                counted = self._options(accepted.decision, accepted.classification, request, counting=True)
                accepted = replace(accepted, options=counted)
                admission = await self._admit(accepted, applied, cache_key, look_up=False)
            if isinstance(admission, CacheHit):
                await self._replay(accepted, admission, reply)
                return
            held = self._hold(accepted, applied, admission)
            if flight is not None:
                reply.keep_going = flight.awaited
            served = await self._serve(held, reply)
            booked = self._settle_served(held, served, cache_key)
            if self._shadower is not None and not incoming.no_shadow:
                self._shadower.offer(held.accepted, booked)
            if served.error is not None:
                raise served.error
        except ParsimonyError as error:
            error.request_id = accepted.request_id
            raise
        finally:
            if flight is not None:
                # On one connection the stores work in order: whoever waits finds what was settled.
                self._flights.land(cache_key, flight)

    def _accept(
        self, principal: Principal, request: ChatRequest, incoming: Incoming, started_s: float
    ) -> tuple[Accepted, Applied]:
        wall_s = self._clock.wall()
        end_user, tags = named_by(principal, request, incoming.tags)
        applied = self._budgets.of(principal, end_user, tags, wall_s)
        decided = self._decider.decide(principal, request, wall_s, self._paces.price(applied, wall_s))
        accepted = Accepted(
            request_id=self._new_request_id(),
            started_s=started_s,
            started_at_ms=int(wall_s * 1000),
            principal=principal,
            end_user=end_user,
            tags=tags,
            request=request,
            classification=decided.classification,
            tier=decided.tier,
            decision=decided.decision,
            options=self._options(decided.decision, decided.classification, request),
            cacheable=self._cache.admits(request) and not incoming.no_store,
            day=decided.day,
            quality=decided.quality,
            shadow_price=decided.price,
            observed=decided.observed,
        )
        return accepted, applied

    def _options(
        self,
        decision: RouteDecision,
        classification: Classification | None,
        request: ChatRequest,
        *,
        counting: bool = False,
    ) -> tuple[Option, ...]:
        """The bounds that are held. `counting` the prompt takes longer, and is for where its bytes are too much."""
        length = classification.output_length if classification else None
        return options_of(
            decision.options,
            request,
            attempts=self._dispatcher.max_attempts,
            least_tokens=length.p95_tokens if length else None,
            counters=self._accountant.counters if counting else None,
        )

    async def _share(self, accepted: Accepted, cache_key: str) -> Flight | None:
        """Waits where the same request is under way; else a flight that others may wait for."""
        flight = self._flights.join(cache_key)
        if flight is None:
            return self._flights.take_off(cache_key)
        try:
            await flight.wait()
        except asyncio.CancelledError:
            self._settler.settle(self._record(accepted, Outcome("cancelled", "refused")), admitted=False)
            raise
        return None

    async def _admit(self, accepted: Accepted, applied: Applied, cache_key: str, *, look_up: bool) -> Admission:
        try:
            return await self._admission.admit(
                Bid(
                    request_id=accepted.request_id,
                    record=kept_json(self._accountant.provisional(accepted)),
                    now_ms=accepted.started_at_ms,
                    options=accepted.options,
                    most=accepted.decision.most,
                    counters=applied.counters,
                    masks=applied.masks(accepted.options),
                    cache_key=cache_key,
                    look_up=look_up and bool(cache_key),
                )
            )
        except (StoreUnavailable, asyncio.CancelledError) as error:
            # Whether the script ran is unknown: if it did, this gives back what it took.
            store_failed = isinstance(error, StoreUnavailable)
            outcome = Outcome("error" if store_failed else "cancelled", "refused", error_code=_code(error))
            self._settler.settle(self._record(accepted, outcome), applied=applied)
            raise

    def _hold(self, accepted: Accepted, applied: Applied, admission: Admitted | Refused) -> Held:
        """Raises RateLimitExceeded or BudgetExhausted where a budget refused; drops what the budgets cannot carry."""
        if isinstance(admission, Refused):
            error = refusal(applied, admission, self._clock.wall())
            outcome = Outcome("refused", "refused", error_code=error.code, refused_by=refused_by(applied, admission))
            self._settler.settle(self._record(accepted, outcome), admitted=False)
            raise error
        self._paces.saw(applied, admission.states)
        return Held(self._narrowed(accepted, applied, admission), applied, admission)

    def _narrowed(self, accepted: Accepted, applied: Applied, admitted: Admitted) -> Accepted:
        """The request with those deployments that the budgets carry, how long answers may be, and what is left."""
        decision = within_budget(accepted.decision, admitted.options)
        options = tuple([accepted.options[index] for index in admitted.options])
        caps = limits_of(decision.chain, options, admitted.caps, accepted.request, self._accountant.counters)
        rate_limits = rate_limit_headers(applied, admitted.states)
        if decision is accepted.decision and not caps and not rate_limits:
            return accepted
        return replace(accepted, decision=decision, options=options, caps=caps, rate_limits=rate_limits)

    async def _replay(self, accepted: Accepted, hit: CacheHit, reply: Reply) -> None:
        """Answers from the cache: no cost, but a record like any other."""
        try:
            cached = unpack(hit.entry)
        except (ValueError, TypeError) as error:
            outcome = Outcome("error", "refused", error_code=StoreUnavailable.code)
            self._settler.settle(self._record(accepted, outcome))
            raise StoreUnavailable("The response cache holds an entry that cannot be read.") from error
        record = self._accountant.hit_record(accepted, cached, now_s=self._clock.monotonic())
        try:
            await reply.start(200, headers.of_record(record))
            await reply.send(cached.body_for(accepted.request_id), last=True)
        finally:
            self._settler.settle(record)

    async def _serve(self, held: Held, reply: Reply) -> Served:
        """Calls and relays. Raises nothing: whatever happens, there is something to settle."""
        accepted = held.accepted
        chain, request = accepted.decision.chain, accepted.request
        attempts: list[Attempt] = []
        try:
            call = await self._dispatcher.call(
                chain, request.body, stream=request.stream, attempts=attempts, caps=accepted.caps
            )
            if request.stream and len(chain) > 1:
                self._give_back(held, call.choice)
            return await self._responder.respond(accepted, call, reply)
        except DispatchFailed as failure:
            outcome = await self._responder.unanswered("error", accepted, attempts, failure.error.code)
            return Served(outcome, failure.error)
        except asyncio.CancelledError as cancelled:
            return Served(await self._responder.unanswered("cancelled", accepted, attempts), cancelled)
        except Exception as error:  # a fault of ours must not keep the reservation for ever
            logger.exception("request %s failed", accepted.request_id)
            return Served(await self._responder.unanswered("error", accepted, attempts, "internal_error"), error)

    def _give_back(self, held: Held, choice: Choice) -> None:
        """An answer has begun, which may take long: the deployments after `choice` will not be asked any more."""
        accepted = held.accepted
        index = accepted.decision.chain.index(choice)
        asked, answers = accepted.options[: index + 1], accepted.options[index]
        longest = accepted.caps.get(answers.deployment, answers.longest)
        self._admission.reduce(
            accepted.request_id,
            held.applied.counters,
            nusd=sum([option.base_nusd for option in asked]) + answers.nusd_per_token * longest,
            tokens=sum([option.base_tokens for option in asked]) + answers.tokens_per_token * longest,
        )

    def _settle_served(self, held: Held, served: Served, cache_key: str) -> SpendRecord:
        record = self._record(held.accepted, served.outcome, reserved_nusd=held.admitted.nusd)
        keep = bool(cache_key) and served.storable and record.reason not in _SECOND_BEST and not _cut_short(held)
        keep = keep and len(served.body) <= self._cache.max_entry_bytes
        self._settler.settle(
            record,
            applied=held.applied,
            epoch=held.admitted.epoch,
            cache_key=cache_key if keep else "",
            answer=pack(record, served.body) if keep else b"",
        )
        return record

    def _record(self, accepted: Accepted, outcome: Outcome, *, reserved_nusd: int = 0) -> SpendRecord:
        return self._accountant.record(accepted, outcome, now_s=self._clock.monotonic(), reserved_nusd=reserved_nusd)


def _cut_short(held: Held) -> bool:
    """Whether a budget may have made the answer shorter than another caller would have got it."""
    caps, options = held.admitted.caps, held.accepted.options
    return any(cap < option.longest for cap, option in zip(caps, options, strict=True))


def _cache_key(accepted: Accepted, cache: CachePolicy) -> str:
    """Repeats are repeats within a team, and for keys of the same rights."""
    principal = accepted.principal
    scope = f"{FORMAT} team {principal.team_id}" if cache.per_team else f"{FORMAT} everyone"
    if principal.allowed_models is not None:
        scope = " ".join([scope, *sorted(principal.allowed_models)])
    return redis_keys.cache_entry(canonical_digest(accepted.request, scope))


def _code(error: BaseException) -> str | None:
    return error.code if isinstance(error, ParsimonyError) else None
