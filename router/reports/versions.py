"""What a record said before and after each late correction of prices: for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from policies.repricing import Amounts, booked
from policies.spend import SpendRecord
from router.reports.currency import money_text
from router.stores.entries import as_iso
from router.stores.sql_repricing import Replaced

_AMOUNTS = {
    "cost_nusd": "cost",
    "retries_nusd": "of it for attempts before",
    "prompt_cache_nusd": "difference by prompt caches",
    "baseline_cost_nusd": "counterfactual",
}
_DATES = {"price_effective_from": "price of", "baseline_price_effective_from": "baseline's price of"}


class Repricings(Protocol):
    def of_request(self, request_id: str) -> Sequence[Replaced]:
        """What a record said before each of its repricings, the oldest first."""
        ...


def versions_in_words(record: SpendRecord, replaced: Sequence[Replaced]) -> list[str]:
    """Of each correction: when, who and why, and below it what it changed."""
    lines = []
    for each, after in _versions(record, replaced):
        lines.append(f"{as_iso(each.repricing.at_ms)} by {each.repricing.actor}: {each.repricing.reason}")
        lines.append(", ".join(_changes(each.amounts, after)))
    return lines


def versions_as_json(record: SpendRecord, replaced: Sequence[Replaced]) -> list[dict[str, Any]]:
    return [
        {
            "id": each.repricing.id,
            "at": as_iso(each.repricing.at_ms),
            "actor": each.repricing.actor,
            "reason": each.repricing.reason,
            "before": asdict(each.amounts),
            "after": asdict(after),
        }
        for each, after in _versions(record, replaced)
    ]


def _versions(record: SpendRecord, replaced: Sequence[Replaced]) -> list[tuple[Replaced, Amounts]]:
    """What each correction found, and what it made of that; the last one made what the record says now."""
    said = [*(each.amounts for each in replaced), booked(record)]
    return list(zip(replaced, said[1:], strict=True))


def _changes(before: Amounts, after: Amounts) -> list[str]:
    found = []
    for name, words in (_AMOUNTS | _DATES).items():
        old, new = getattr(before, name), getattr(after, name)
        if old != new and name in _AMOUNTS:
            found.append(f"{words} {money_text(old)} -> {money_text(new)}")
        elif old != new:
            found.append(f"{words} {old or 'an unknown day'} -> {new or 'an unknown day'}")
    return found
