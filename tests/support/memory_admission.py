"""`AdmissionStore` in dictionaries: what the Lua scripts do, in plain Python, and a memory of everything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from policies.periods import MAX_BUCKETS
from router.errors import StoreUnavailable
from router.stores import redis_janitor
from router.stores.admission import (
    CAP_DIVISOR,
    Admission,
    Admitted,
    Bid,
    BudgetCounter,
    CacheHit,
    Counters,
    Option,
    Refused,
    Settlement,
)
from router.stores.counters import NO_COUNTERS


@dataclass(slots=True)
class CounterAmounts:
    """One budget's counter, in its unit; `parts` and `oldest` (the first that counts) are a rolling one's."""

    spent: int = 0
    reserved: int = 0
    parts: Counter[int] = field(default_factory=Counter)
    oldest: int = 0
    exhausted_at_ms: int = 0

    def roll(self, oldest: int) -> None:
        for part in [part for part in self.parts if part < oldest]:
            self.spent -= self.parts.pop(part)
        self.oldest = oldest

    def book(self, amount: int, part: int | None) -> None:
        if part is not None:
            if amount == 0 or part < self.oldest:
                return
            self.parts[part] += amount
        self.spent += amount

    def last_part_to_go(self, limit: int, needed: int) -> int | None:
        """Once the parts up to this one have left the window, `needed` fits again; None where that does not do."""
        left = limit - self.spent - self.reserved
        for part in sorted(self.parts):
            left += self.parts[part]
            if left >= needed:
                return part
        return None


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that was let in and is not settled: what it holds of each counter, by its first option (from 1)."""

    amounts: tuple[int, ...]
    first: int
    nusd: int
    tokens: int
    counters: Counters
    record: bytes

    def entry(self) -> bytes:
        head = f"{' '.join(map(str, self.amounts))}\n{self.first}\n{self.nusd} {self.tokens}\n"
        return head.encode() + self.counters.described + b"\n" + self.record


@dataclass(slots=True)
class Choice:
    """The options chosen so far; a call to each is paid for, and the longest of their answers."""

    options: list[int] = field(default_factory=list)
    base_nusd: int = 0
    base_tokens: int = 0
    top_nusd: int = 0
    top_tokens: int = 0
    touched: frozenset[int] = frozenset()
    """The counters that one of them counts for."""

    @property
    def nusd(self) -> int:
        return self.base_nusd + self.top_nusd

    @property
    def tokens(self) -> int:
        return self.base_tokens + self.top_tokens

    def with_option(self, index: int, option: Option, counting: frozenset[int]) -> Choice:
        return Choice(
            [*self.options, index],
            self.base_nusd + option.base_nusd,
            self.base_tokens + option.base_tokens,
            max(self.top_nusd, option.nusd_per_token * option.least),
            max(self.top_tokens, option.tokens_per_token * option.least),
            self.touched | counting,
        )

    def needs(self, counter: BudgetCounter) -> int:
        if counter.unit == "usd":
            return self.nusd
        return self.tokens if counter.unit == "tokens" else 1


class MemoryAdmissionStore:
    """Fails on demand: `outage` says what the next `admit` does, before or after it took effect.

    `settlements` counts how often each request was settled, so that a test can ask for exactly once.
    """

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0) -> None:
        self._now_s = now_s
        self.epoch: str | None = "1"
        """None while the counters are not whole."""
        self.outage: Literal["before", "after"] | None = None
        self.held_up: asyncio.Event | None = None
        """While it is not set, `admit` waits for it, as for a slow store."""
        self.counters: dict[str, CounterAmounts] = {}
        self.pending: dict[str, Pending] = {}
        self.guesses: dict[str, tuple[int, ...]] = {}
        """What `abandon` booked for a request."""
        self.booked: set[str] = set()
        """Requests booked in an epoch that is not their own."""
        self.entries: dict[str, tuple[bytes, float]] = {}
        self.stream: list[bytes] = []
        self.asked: list[str] = []
        self.settlements: Counter[str] = Counter()

    # what the hot path asks

    async def admit(self, bid: Bid) -> Admission:
        self.asked.append(bid.request_id)
        if self.outage == "before":
            raise StoreUnavailable("the store is away")
        admission = self._admit(bid)
        if self.held_up is not None:
            await self.held_up.wait()
        if self.outage == "after":
            raise StoreUnavailable("the store went away before it answered")
        return admission

    def reduce(self, request_id: str, counters: Counters, nusd: int, tokens: int) -> None:
        held = self.pending.get(request_id)
        if held is None or (nusd >= held.nusd and tokens >= held.tokens):
            return
        least = {"usd": min(nusd, held.nusd), "tokens": min(tokens, held.tokens)}
        amounts = []
        for counter, amount in zip(counters.all, held.amounts, strict=True):
            still = min(amount, least.get(counter.unit, amount))
            self._counter(counter).reserved -= amount - still
            amounts.append(still)
        self.pending[request_id] = replace(held, amounts=tuple(amounts), nusd=least["usd"], tokens=least["tokens"])

    def settle(self, settlement: Settlement) -> None:
        self.settlements[settlement.request_id] += 1
        self._settle(settlement)

    # what befalls it

    def abandon(self) -> None:
        """What the janitor does for a dead worker: its requests are taken to have used what they held."""
        for request_id, held in list(self.pending.items()):
            self._settle(redis_janitor.abandoned(request_id, held.entry()), is_guess=True)

    def lose_everything(self) -> None:
        """The store is back, and empty."""
        self.epoch = None
        for lost in (self.counters, self.pending, self.guesses, self.booked, self.entries, self.stream):
            lost.clear()

    def hold_again(self, held: Mapping[str, Pending]) -> None:
        """What requests under way held before the loss."""
        for request_id, entry in held.items():
            if request_id in self.guesses or request_id in self.pending:
                continue
            self.pending[request_id] = entry
            for counter, amount in zip(entry.counters.all, entry.amounts, strict=True):
                if amount:
                    self._counter(counter).reserved += amount

    def rebuild(self, used: Mapping[str, Mapping[int, int]], epoch: str) -> None:
        """`used`: what the ledger has of each counter, by part of a rolling one (else one part, 0)."""
        for key, parts in used.items():
            counter = self.counters.setdefault(key, CounterAmounts())
            counter.parts, counter.oldest, counter.spent = Counter(parts), 0, sum(parts.values())
        self.epoch = epoch

    def records(self) -> list[dict[str, Any]]:
        """What was booked, in order, as JSON values."""
        return [orjson.loads(record) for record in self.stream]

    # admission

    def _admit(self, bid: Bid) -> Admission:
        counters = bid.counters.all
        if bid.look_up and not bid.counters.strict and (hit := self._hit(bid)):
            return hit
        if counters and self.epoch is None:
            raise StoreUnavailable("budget counters are being rebuilt from the ledger")
        for counter in counters:
            self._roll(counter, bid.now_ms)
            known = self._known(counter)
            if bid.look_up and counter.hard and counter.strict and counter.limit <= known.spent:
                return self._refused(bid, counters.index(counter), "limit", 0)
        if bid.look_up and (hit := self._hit(bid)):
            return hit
        choice = self._choose(bid)
        if isinstance(choice, Refused):
            return choice
        caps = self._caps(bid, choice)
        return self._hold(bid, choice, caps)

    def _hit(self, bid: Bid) -> CacheHit | None:
        entry, until_s = self.entries.get(bid.cache_key, (b"", 0.0))
        if self._now_s() >= until_s:
            return None
        self.pending[bid.request_id] = Pending((), 0, 0, 0, NO_COUNTERS, bid.record)
        return CacheHit(entry)

    def _choose(self, bid: Bid) -> Choice | Refused:
        """Takes each option in turn that every counter can carry beside those taken before it."""
        choice, cheapest = Choice(), None
        for index, option in enumerate(bid.options):
            if len(choice.options) == bid.most:
                break
            counting = frozenset(n for n, mask in enumerate(bid.masks) if not mask or mask[index : index + 1] == b"1")
            wider = choice.with_option(index, option, counting)
            blocker = self._blocker(bid.counters.all, option, counting, wider)
            if blocker is None:
                choice = wider
            elif not choice.options and (cheapest is None or wider.nusd < cheapest[0]):
                cheapest = (wider.nusd, *blocker)
        if choice.options:
            return choice
        assert cheapest is not None, "a bid has an option"
        _, blamed, why, needed = cheapest
        return self._refused(bid, blamed, why, needed)

    def _blocker(
        self, counters: tuple[BudgetCounter, ...], option: Option, counting: frozenset[int], wider: Choice
    ) -> tuple[int, Literal["limit", "tier"], int] | None:
        for index, counter in enumerate(counters):
            spent = self._known(counter).spent
            lowered = counter.downgrades_from is not None and spent >= counter.downgrades_from
            if index in counting and lowered and option.rank > counter.downgrade_rank:
                return index, "tier", wider.needs(counter)
            if index in wider.touched and counter.hard:
                room = self._room(counter)
                if wider.needs(counter) > room:
                    return index, "limit", wider.needs(counter)
        return None

    def _caps(self, bid: Bid, choice: Choice) -> list[int]:
        """How long the answers may be: as the tightest counter's part of its room pays, within longest and least."""
        hard = [counter for index, counter in enumerate(bid.counters.all) if index in choice.touched and counter.hard]
        nusd = [max(self._room(c) // CAP_DIVISOR, choice.nusd) for c in hard if c.unit == "usd"]
        tokens = [max(self._room(c) // CAP_DIVISOR, choice.tokens) for c in hard if c.unit == "tokens"]
        caps = []
        for option in [bid.options[index] for index in choice.options]:
            cap = option.longest
            if nusd and option.nusd_per_token:
                cap = min(cap, (min(nusd) - choice.base_nusd) // option.nusd_per_token)
            if tokens and option.tokens_per_token:
                cap = min(cap, (min(tokens) - choice.base_tokens) // option.tokens_per_token)
            caps.append(max(cap, option.least))
        return caps

    def _hold(self, bid: Bid, choice: Choice, caps: list[int]) -> Admitted:
        chosen = list(zip([bid.options[index] for index in choice.options], caps, strict=True))
        choice.top_nusd = max(option.nusd_per_token * cap for option, cap in chosen)
        choice.top_tokens = max(option.tokens_per_token * cap for option, cap in chosen)
        amounts, states = [], []
        for index, counter in enumerate(bid.counters.all):
            amount = choice.needs(counter) if index in choice.touched else 0
            known = self._counter(counter) if amount else self._known(counter)
            known.reserved += amount
            amounts.append(amount)
            if counter.watched:
                states.append((known.spent, known.reserved))
        first = choice.options[0] + 1
        self.pending[bid.request_id] = Pending(
            tuple(amounts), first, choice.nusd, choice.tokens, bid.counters, bid.record
        )
        return Admitted(
            options=tuple(choice.options),
            caps=tuple(caps),
            nusd=choice.nusd,
            tokens=choice.tokens,
            epoch=(self.epoch or "") if bid.counters.all else "",
            states=tuple(states),
        )

    def _refused(self, bid: Bid, index: int, why: Literal["limit", "tier"], needed: int) -> Refused:
        counter = bid.counters.all[index]
        known = self._known(counter)
        left = counter.limit - known.spent
        if why == "limit" and counter.unit in ("usd", "tokens") and left * 20 < counter.limit:
            known.exhausted_at_ms = bid.now_ms
        least = max(needed, 1)  # what is free of charge waits until the counter is no longer spent
        last = None
        if why == "limit" and counter.bucket_ms and counter.limit >= least:
            last = known.last_part_to_go(counter.limit, least)
        retry_at_ms = None if last is None else (last + MAX_BUCKETS + 1) * counter.bucket_ms
        return Refused(index, why, known.spent, known.reserved, needed, retry_at_ms)

    def _room(self, counter: BudgetCounter) -> int:
        """What may still be held; less than nothing where the limit is spent: the window is closed."""
        known = self._known(counter)
        return -1 if counter.limit <= known.spent else counter.limit - known.spent - known.reserved

    def _roll(self, counter: BudgetCounter, now_ms: int) -> None:
        if counter.bucket_ms:
            oldest = now_ms // counter.bucket_ms - MAX_BUCKETS
            if self._known(counter).oldest < oldest:  # another worker's clock may be ahead
                self._counter(counter).roll(oldest)

    # settlement

    def _settle(self, settlement: Settlement, *, is_guess: bool = False) -> None:
        held = self.pending.pop(settlement.request_id, None) if settlement.admitted else None
        if is_guess and held is None:
            return  # the truth came first
        self.stream.append(settlement.record)
        counters = settlement.counters or NO_COUNTERS
        known = self._known_already(settlement, held) if settlement.admitted and counters.all else None
        if known is not None:
            for counter, amount, before in zip(counters.all, settlement.amounts, known, strict=True):
                if amount != before:
                    part = settlement.started_at_ms // counter.bucket_ms if counter.bucket_ms else None
                    self._counter(counter).book(amount - before, part)
        elif settlement.admitted and held is None:
            return
        if is_guess:
            self.guesses[settlement.request_id] = settlement.amounts
        if settlement.keep_seconds:
            self.entries[settlement.cache_key] = (settlement.answer, self._now_s() + settlement.keep_seconds)

    def _known_already(self, settlement: Settlement, held: Pending | None) -> tuple[int, ...] | None:
        """What the counters have of the request: None where they must not move."""
        nothing = (0,) * len(settlement.amounts)
        is_new = settlement.request_id not in self.booked and any(settlement.amounts)
        if settlement.epoch != self.epoch and any(settlement.amounts):
            self.booked.add(settlement.request_id)
        if held is not None:
            for counter, amount in zip(held.counters.all, held.amounts, strict=True):
                if amount:
                    known = self._counter(counter)
                    known.reserved = max(known.reserved - amount, 0)
            return nothing
        if settlement.request_id in self.guesses:
            return self.guesses.pop(settlement.request_id) or nothing  # a hit held nothing
        in_another = self.epoch is not None and settlement.epoch != self.epoch
        return nothing if in_another and is_new else None

    def _known(self, counter: BudgetCounter) -> CounterAmounts:
        return self.counters.get(counter.key) or CounterAmounts()

    def _counter(self, counter: BudgetCounter) -> CounterAmounts:
        return self.counters.setdefault(counter.key, CounterAmounts())
