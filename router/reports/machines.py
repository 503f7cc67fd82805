"""What machines cost beyond what was booked for them, and whose share of it is whose."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policies.allotment import allot
from router.reports.periods import HOUR_MS
from router.reports.postings import Posting, Span
from router.stores.cells import ROUTER, HourCost


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where idle time is shared out: a machine in a span of the report or, in one by hours, in an hour of it."""

    span_from_ms: int
    hour_ms: int | None
    source: str


@dataclass(slots=True)
class MachineCost:
    """Nano-USD that closed hours cost and no request was booked at, negative where requests brought in more.

    `used` is that of hours in which somebody was booked, `unused` of those in which nobody was.
    """

    span: Span
    used: int = 0
    unused: int = 0


@dataclass(slots=True)
class Share:
    """What one posting bears of the machines that serve it, and of the router's."""

    idle_nusd: int = 0
    router_nusd: int = 0


def machine_costs(hours: Iterable[HourCost], over: Sequence[Span], by_hour: bool) -> dict[Bucket, MachineCost]:
    """Of an hour that lies in a span in part, its part by time: spans that follow each other add up to the hour.

    `over` are in order and without gaps.
    """
    found: dict[Bucket, MachineCost] = {}
    for hour in hours:
        for span in over[max(0, bisect_right(over, hour.hour_ms, key=lambda span: span.from_ms) - 1) :]:
            start, end = max(span.from_ms, hour.hour_ms), min(span.to_ms, hour.hour_ms + HOUR_MS)
            if start >= end:
                break
            bucket = Bucket(span.from_ms, hour.hour_ms if by_hour else None, hour.source)
            cost = found.setdefault(bucket, MachineCost(span))
            part = part_of_hour(hour.idle_nusd, start - hour.hour_ms, end - hour.hour_ms)
            if hour.booked_nusd:
                cost.used += part
            else:
                cost.unused += part
    return found


def shared_out(
    costs: Mapping[Bucket, MachineCost], mine: Sequence[Posting], whole: Sequence[Posting], *, spread: bool
) -> tuple[list[Share], dict[Bucket, int]]:
    """What each of `mine` bears of the machines' costs, and by bucket what is left and nobody's.

    By what was booked at the machine's deployment; of `whole`, those that are not among `mine` bear theirs, too. With
    `spread` the hours that nobody used are shared out like the others, and the router's machine by requests; else
    they are left.
    """
    members = _by_bucket(mine, costs)
    everyone = members if whole is mine else _by_bucket(whole, costs)
    parts: list[Share] = [Share() for _ in mine]
    left: dict[Bucket, int] = {}
    for bucket, cost in costs.items():
        shared, kept = _shared_and_kept(bucket, cost, spread)
        total = sum(weight for _, weight in everyone.get(bucket, ()))
        if not total:
            left[bucket] = shared + kept
            continue
        left[bucket] = kept
        indexes, weights = zip(*members[bucket], strict=True) if members.get(bucket) else ((), ())
        for index, part in zip(indexes, allot(shared, [*weights, total - sum(weights)]), strict=False):
            if bucket.source == ROUTER:
                parts[index].router_nusd += part
            else:
                parts[index].idle_nusd += part
    return parts, {bucket: nusd for bucket, nusd in left.items() if nusd}


def _shared_and_kept(bucket: Bucket, cost: MachineCost, spread: bool) -> tuple[int, int]:
    if spread:
        return cost.used + cost.unused, 0
    return (0, cost.used + cost.unused) if bucket.source == ROUTER else (cost.used, cost.unused)


def _by_bucket(postings: Sequence[Posting], costs: Mapping[Bucket, MachineCost]) -> dict[Bucket, list[tuple[int, int]]]:
    """Index and weight of those that have one."""
    found: dict[Bucket, list[tuple[int, int]]] = defaultdict(list)
    for index, posting in enumerate(postings):
        cell = posting.cell
        requests = cell.request_count if cell.key["kind"] == "request" else 0
        for source, weight in ((str(cell.key["deployment"]), cell.cost_nusd), (ROUTER, requests)):
            bucket = _bucket(posting, source)
            if weight > 0 and bucket in costs:
                found[bucket].append((index, weight))
    return found


def _bucket(posting: Posting, source: str) -> Bucket:
    hour_ms = posting.cell.key.get("hour_ms")
    return Bucket(posting.span.from_ms, None if hour_ms is None else int(hour_ms), source)


def part_of_hour(amount: int, start_ms: int, end_ms: int) -> int:
    """Of an hour's amount, that between two of its milliseconds; parts that follow each other add up to it."""
    return amount * end_ms // HOUR_MS - amount * start_ms // HOUR_MS
