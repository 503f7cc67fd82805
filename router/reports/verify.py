"""A period reckoned anew from its raw records, and where that differs from what is booked.

What a record alone says, and nothing else follows from, cannot be reckoned: its id, its end user and tags, when in its
hour it came, how it was judged, what was considered and held for it. `tests/integration/test_tampering.py` changes
every column by hand, and lists those that go unnoticed. Nor can samples whose records were let go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from operator import add, attrgetter
from typing import Protocol

from policies.amortization import Load, MachineUse, hour_cost
from policies.answer_lengths import ALL_ALIKE, AnswerLengths
from policies.draw import is_drawn
from policies.drivers import drivers
from policies.repricing import answered_usage, reckoned
from policies.spend import SpendRecord
from router.reports.measurements import unlike
from router.reports.price_list import PriceList, PricesNamed, PricesOfTheDay
from router.stores.base import AlteredText, UnreadableRecord
from router.stores.cells import HOUR_MS, ROUTER, SIMULATED_MARK, Books, Cell, Dimension, Filter, HourCost

ROLLED_UP: tuple[Dimension, ...] = (
    "team_id", "project_id", "key_id", "alias", "deployment", "deployment_tier", "provider_name", "request_model",
    "price_effective_from", "reason", "cache", "status", "kind", "tier", "task", "usage_source", "baseline_model",
    "estimator", "observed_deployment", "simulated",
)  # fmt: skip
_SUMS = (
    "request_count", "input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "duration_ms",
    "cost_nusd", "retries_nusd", "prompt_cache_nusd", "baseline_cost_nusd", "observed_cost_nusd",
)  # fmt: skip
_key_of_record = attrgetter(*ROLLED_UP)
_amounts_of_record = attrgetter(*_SUMS[1:])
_AMOUNTS = ("cost_nusd", "retries_nusd", "prompt_cache_nusd", "baseline_cost_nusd")
_BEFORE = "booked before records named the price of their baseline: retries and prompt cache were not told apart"
_OTHER_ESTIMATOR = "the baseline's answer was estimated with other lengths than those known now"
_OTHER_SHARE = "the sample was drawn at another share than the one that is configured now"
_CHANGED = "the price version that it names is no longer in the price file"

Key = tuple[object, ...]
Sums = dict[Key, tuple[int, ...]]
Machines = Callable[[date], Mapping[str, MachineUse]]


class Records(Protocol):
    """The raw records of the ledger."""

    def records(self, from_ms: int, to_ms: int) -> Iterable[Sequence[SpendRecord]]:
        """What started in [from_ms, to_ms), a chunk at a time, in the order of time."""
        ...

    def get(self, request_id: str) -> SpendRecord | None: ...

    def altered_texts(self) -> Iterable[AlteredText]:
        """Of what records share, that which is no longer what it was when it was stored."""
        ...


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """`where` is a request's id, or an hour and what machine it is of.

    Of sums it is the hour, and `sums_of` says what they are of, by dimension, as far as they are of anything.
    """

    where: str
    column: str
    found: str
    expected: str
    sums_of: Mapping[str, object]


@dataclass(slots=True)
class Findings:
    """All discrepancies are counted, by column; the first `most` are kept.

    `unchecked` counts what cannot be reckoned anew, by the reason; `outdated_count` the records that are right by the
    price that they name, and for whose day the price file has another one by now.
    """

    most: int = 20
    first: list[Discrepancy] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unchecked: Counter[str] = field(default_factory=Counter)
    outdated_count: int = 0
    record_count: int = 0
    hour_count: int = 0
    closed_hour_count: int = 0

    @property
    def total(self) -> int:
        return self.counts.total()

    def differs(
        self, where: str, column: str, found: object, expected: object, sums_of: Mapping[str, object] | None = None
    ) -> None:
        self.counts[column] += 1
        if len(self.first) < self.most:
            self.first.append(Discrepancy(where, column, str(found), str(expected), sums_of or {}))


class Verifier:
    """Checks records against their tokens and prices, roll-ups against records, closed hours against hardware."""

    def __init__(
        self,
        records: Records,
        books: Books,
        prices: PriceList,
        machines: Machines,
        lengths: AnswerLengths = ALL_ALIKE,
        share: float = 0,
    ) -> None:
        """`share` is that of requests which are drawn into the sample, as configured now."""
        self._records = records
        self._books = books
        self._prices = prices
        self._named = PricesNamed(prices)
        self._of_the_day = PricesOfTheDay(prices)
        self._machines = machines
        self._lengths = lengths
        self._share = share

    def verify(
        self, from_ms: int, to_ms: int, *, most: int = 20, advance: Callable[[int], None] = lambda ms: None
    ) -> Findings:
        """`advance` is told how many milliseconds of the period are done since it was last told. Holds an hour's sums
        and a chunk of records at a time. Raises StoreUnavailable."""
        findings = Findings(most=most)
        for start_ms, end_ms, is_empty in self._spans(from_ms, to_ms):
            hours = list(hours_of(start_ms, end_ms))
            # Years may lie between two records: hours that nothing is booked in are looked at together.
            if is_empty and self._has_no_records(start_ms, end_ms):
                findings.hour_count += len(hours)
                advance(end_ms - start_ms)
                continue
            for hour in hours:
                try:
                    self._verify_hour(*hour, findings)
                except UnreadableRecord as error:
                    findings.differs(_hour_text(hour[0]), "detail", error, "one that can be read")
                advance(hour[1] - hour[0])
        self._verify_machines(from_ms, to_ms, findings)
        for altered in self._records.altered_texts():
            findings.differs(altered.place, "digest", altered.found, altered.expected, altered.values)
        return findings

    def _spans(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int, bool]]:
        """Each hour that has sums, and each time between such hours; whether it is one of the latter."""
        reached_ms = from_ms
        for cell in self._books.cells(from_ms, to_ms, ("hour_ms",)):
            start_ms = max(int(cell.key["hour_ms"] or 0), from_ms)
            end_ms = min(start_ms - start_ms % HOUR_MS + HOUR_MS, to_ms)
            if reached_ms < start_ms:
                yield reached_ms, start_ms, True
            yield start_ms, end_ms, False
            reached_ms = end_ms
        if reached_ms < to_ms:
            yield reached_ms, to_ms, True

    def _has_no_records(self, from_ms: int, to_ms: int) -> bool:
        try:
            return next(iter(self._records.records(from_ms, to_ms)), None) is None
        except UnreadableRecord:  # the look at its hour names it
            return False

    # ---- an hour -----------------------------------------------------------------------------------

    def _verify_hour(self, start_ms: int, end_ms: int, findings: Findings) -> None:
        sums: Sums = {}
        for chunk in self._records.records(start_ms, end_ms):
            present = {record.request_id: record for record in chunk}
            for record in chunk:
                self._verify_record(record, present, findings)
                _add(sums, record)
            findings.record_count += len(chunk)
        findings.hour_count += 1
        rolled_up = self._rolled_up(start_ms, end_ms)
        if rolled_up != sums:
            # A record may have been booked between the two looks at the hour; then a second look agrees.
            rolled_up, sums = self._rolled_up(start_ms, end_ms), self._summed(start_ms, end_ms)
        for key in sorted(rolled_up.keys() | sums.keys(), key=str):
            for name, found, expected in _unlike(rolled_up.get(key), sums.get(key)):
                findings.differs(_hour_text(start_ms), f"rollups.{name}", found, expected, _named(key))

    def _rolled_up(self, start_ms: int, end_ms: int) -> Sums:
        cells = self._books.cells(start_ms, end_ms, ROLLED_UP)
        return {_key_of(cell): tuple(getattr(cell, name) for name in _SUMS) for cell in cells}

    def _summed(self, start_ms: int, end_ms: int) -> Sums:
        sums: Sums = {}
        for chunk in self._records.records(start_ms, end_ms):
            for record in chunk:
                _add(sums, record)
        return sums

    # ---- a record ----------------------------------------------------------------------------------

    def _verify_record(self, record: SpendRecord, present: Mapping[str, SpendRecord], findings: Findings) -> None:
        try:
            self._verify_amounts(record, findings)
            self._verify_counterfactual(record, findings)
        except (TypeError, ValueError) as error:  # a detail may have been given another shape
            findings.differs(record.request_id, "tokens", error, "counts that can be")
        added_up = sum(drivers(record).values())
        if added_up != record.savings_nusd:
            findings.differs(record.request_id, "drivers", added_up, record.savings_nusd)
        if record.kind != "request":
            self._verify_measurement(record, present, findings)
            return
        for column in ("parent_id", "sample_share"):
            found = getattr(record, column)
            if found is not None:
                findings.differs(record.request_id, column, found, "nothing: it measures no other")

    def _verify_amounts(self, record: SpendRecord, findings: Findings) -> None:
        gaps = self._prices.gaps(record) or self._versions_gone(record)
        findings.unchecked.update(gaps)
        columns: Sequence[str] = _AMOUNTS
        if _is_before(record):
            findings.unchecked[_BEFORE] += 1
            columns = ("cost_nusd", "baseline_cost_nusd")
        elif _lacks_price(record):
            findings.differs(record.request_id, "baseline_price_effective_from", None, "the date of a price")
        findings.outdated_count += self._of_the_day.have_changed_since(record)
        amounts = reckoned(record, self._named)
        for column in columns:
            found, expected = getattr(record, column), getattr(amounts, column)
            if found != expected:
                findings.differs(record.request_id, column, found, expected)

    def _versions_gone(self, record: SpendRecord) -> list[str]:
        served = record.usage_source in ("provider", "counted") and self._named.served(record) is None
        has_baseline = record.baseline_input_tokens or record.baseline_output_tokens
        return [_CHANGED] if served or (has_baseline and self._named.baseline(record) is None) else []

    def _verify_counterfactual(self, record: SpendRecord, findings: Findings) -> None:
        """Without an estimator the baseline is taken to write what was written; its own answers are what they are."""
        if record.kind != "request" or _is_before(record) or not record.baseline_cost_nusd:
            return
        expected = self._baseline_output_tokens(record, findings)
        if expected is not None and record.baseline_output_tokens != expected:
            findings.differs(record.request_id, "baseline_output_tokens", record.baseline_output_tokens, expected)
        counted = record.usage_source in ("provider", "counted")
        if counted and self._prices.served_model(record) == record.baseline_model:
            usage = answered_usage(record)
            found = record.baseline_input_tokens, record.baseline_output_tokens
            if found != (usage.input_tokens, usage.output_tokens):
                expected_tokens = usage.input_tokens, usage.output_tokens
                findings.differs(record.request_id, "baseline_input_tokens", found, expected_tokens)

    def _baseline_output_tokens(self, record: SpendRecord, findings: Findings) -> int | None:
        """What the estimator says of them; None where it cannot be asked any more, or was asked for another record."""
        if record.estimator is None:
            return record.recounted_output_tokens
        small = self._prices.served_model(record)
        if record.cache == "hit":
            return None
        if record.estimator != self._lengths.version or small is None:
            findings.unchecked[_OTHER_ESTIMATOR] += 1
            return None
        return self._lengths.expected_tokens(
            small,
            record.baseline_model,
            record.recounted_output_tokens,
            limit=record.detail.get("baseline_output_limit"),
            choices=record.detail.get("choices", 1),
        )

    def _verify_measurement(self, record: SpendRecord, present: Mapping[str, SpendRecord], findings: Findings) -> None:
        for column in ("baseline_cost_nusd", "recounted_output_tokens"):
            if getattr(record, column):
                findings.differs(record.request_id, column, getattr(record, column), 0)
        parent_id = record.parent_id or ""
        parent = present.get(parent_id) or self._records.get(parent_id)
        if parent is None or parent.kind != "request":
            findings.differs(record.request_id, "parent_id", record.parent_id, "the id of a request in the ledger")
            return
        for column, found, expected in unlike(record, parent):
            findings.differs(record.request_id, column, found, f"{expected}, as of {parent_id}")
        if record.kind == "shadow":
            self._verify_share(record, parent_id, findings)

    def _verify_share(self, record: SpendRecord, parent_id: str, findings: Findings) -> None:
        share = record.sample_share
        if share is None or not 0 < share <= 1 or not is_drawn(parent_id, share):
            findings.differs(record.request_id, "sample_share", share, "a share at which its request is drawn")
        elif share != self._share:
            findings.unchecked[_OTHER_SHARE] += 1

    # ---- machines ----------------------------------------------------------------------------------

    def _verify_machines(self, from_ms: int, to_ms: int, findings: Findings) -> None:
        closed = self._books.hour_costs(from_ms, to_ms)
        if not closed:
            return
        span = closed[0].hour_ms, closed[-1].hour_ms + HOUR_MS
        loads = {source: self._loads(source, *span) for source in {hour.source for hour in closed}}
        for hour in _lost(closed):
            findings.differs(_place_of(hour), "hour_costs", "nothing", "a closed hour")
        for hour in closed:
            findings.closed_hour_count += 1
            use = self._machines(_day(hour.hour_ms)).get(hour.source)
            if use is None or hour.hardware.removesuffix(SIMULATED_MARK) != use.hardware.name:
                findings.unchecked["the configuration no longer has the hardware of a closed hour"] += 1
                continue
            expected = hour_cost(use, hour.hour_ms, loads[hour.source].get(hour.hour_ms, Load()))
            if not (hour.unit_count or hour.cost_nusd) and expected.unit_count and self._is_first(hour):
                continue  # when its hours began to be closed; no machine is known to have run
            place = _place_of(hour)
            if hour.cost_nusd != expected.cost_nusd:
                findings.differs(place, "hour_costs.cost_nusd", hour.cost_nusd, expected.cost_nusd)
            if hour.unit_count != expected.unit_count:
                findings.differs(place, "hour_costs.unit_count", hour.unit_count, expected.unit_count)

    def _is_first(self, hour: HourCost) -> bool:
        before = self._books.hour_costs(hour.hour_ms - HOUR_MS, hour.hour_ms)
        return all(earlier.source != hour.source for earlier in before)

    def _loads(self, source: str, from_ms: int, to_ms: int) -> Mapping[object, Load]:
        """By the beginning of the hour: of a deployment what was sent to it, of the router's machine everything."""
        where: Filter | None = None if source == ROUTER else {"deployment": (source,), "cache": ("miss", "off")}
        return {
            cell.key["hour_ms"]: Load(cell.request_count, cell.input_tokens + cell.output_tokens, cell.duration_ms)
            for cell in self._books.cells(from_ms, to_ms, ("hour_ms",), where)
        }


def hours_of(from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
    """[from_ms, to_ms), cut at the beginnings of hours."""
    while from_ms < to_ms:
        end_ms = min(from_ms - from_ms % HOUR_MS + HOUR_MS, to_ms)
        yield from_ms, end_ms
        from_ms = end_ms


def _lost(closed: Sequence[HourCost]) -> Iterator[HourCost]:
    """The hours, of no cost, between those that are closed: a source's are closed without gaps, one after the other."""
    last: dict[str, HourCost] = {}
    for hour in closed:
        before = last.get(hour.source, hour)
        for hour_ms in range(before.hour_ms + HOUR_MS, hour.hour_ms, HOUR_MS):
            yield HourCost(hour_ms, hour.source, hour.hardware, 0, 0)
        last[hour.source] = hour


def _place_of(hour: HourCost) -> str:
    return f"{_hour_text(hour.hour_ms)}, {hour.source}"


def _add(sums: Sums, record: SpendRecord) -> None:
    key, amounts = _key_of_record(record), (1, *_amounts_of_record(record))
    known = sums.get(key)
    sums[key] = amounts if known is None else tuple(map(add, known, amounts))


def _key_of(cell: Cell) -> Key:
    return tuple(cell.key[name] for name in ROLLED_UP)


def _unlike(found: tuple[int, ...] | None, expected: tuple[int, ...] | None) -> Iterator[tuple[str, int, int]]:
    nothing = (0,) * len(_SUMS)
    for name, ours, theirs in zip(_SUMS, found or nothing, expected or nothing, strict=True):
        if ours != theirs:
            yield name, ours, theirs


def _named(key: Key) -> dict[str, object]:
    return {name: value for name, value in zip(ROLLED_UP, key, strict=True) if value not in (None, "", False)}


def _is_before(record: SpendRecord) -> bool:
    """A repricing names the price of such a record's baseline; that nobody recounted its answer is told for ever."""
    if record.estimator is not None or record.recounted_output_tokens:
        return False
    return record.baseline_output_tokens > 0 or _lacks_price(record)


def _lacks_price(record: SpendRecord) -> bool:
    has_baseline = record.baseline_input_tokens or record.baseline_output_tokens
    return bool(has_baseline) and record.baseline_price_effective_from is None


def _hour_text(hour_ms: int) -> str:
    return datetime.fromtimestamp(hour_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _day(hour_ms: int) -> date:
    return datetime.fromtimestamp(hour_ms // 1000, UTC).date()
