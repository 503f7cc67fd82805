"""Who spends fastest, worked by hand."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from router.reports.spenders import SPANS, spenders_as_json, spenders_report, spenders_table
from router.stores.sql_rates import Spender

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
USD = 10**9


class TwoSpans:
    """Sums of the span that ends now and of the one before it; it holds that these two are asked for."""

    def __init__(self, hours: int, spent: dict[str, int], before: dict[str, int]) -> None:
        self.length_ms = hours * 3_600_000
        self.now, self.before = spent, before

    def spent(self, by: Spender, from_ms: int, to_ms: int, team_id: str | None = None) -> dict[str, int]:
        end_ms = int(NOW.timestamp() * 1000) + 1  # what began in this very millisecond counts
        assert to_ms - from_ms == self.length_ms
        assert to_ms in (end_ms, end_ms - self.length_ms)
        return self.now if to_ms == end_ms else self.before


def test_rates_are_per_hour_and_the_fastest_comes_first() -> None:
    rates = TwoSpans(24, {"b": 24 * USD, "a": 24 * USD, "c": 48 * USD}, {"a": 12 * USD, "gone": USD})
    told = spenders_as_json(spenders_report(rates, "team", "day", NOW))
    found = [(one["name"], one["nusd_per_hour"], one["before_nusd_per_hour"]) for one in told["spenders"]]
    assert found == [("c", 2 * USD, 0), ("a", USD, USD // 2), ("b", USD, 0)]
    assert told["spenders"][1]["before_usd_per_hour"] == "0.50"


def test_only_so_many_are_shown() -> None:
    rates = TwoSpans(1, dict.fromkeys("abc", 1), {})
    assert [one.name for one in spenders_report(rates, "key", "hour", NOW, limit=2).rates] == ["a", "b"]


def test_every_span_has_its_length() -> None:
    assert {span: length.total_seconds() / 3600 for span, length in SPANS.items()} == {
        "hour": 1, "day": 24, "week": 168, "month": 720
    }  # fmt: skip


def test_a_change_is_shown_as_a_percentage_and_who_is_new_as_new() -> None:
    rates = TwoSpans(1, {"up": 3 * USD, "new": USD, "down": USD}, {"up": USD, "down": 2 * USD})
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(spenders_table(spenders_report(rates, "team", "hour", NOW)))
    rows = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert rows[1][:6] == ["up", "3.0000", "1.0000", "+200", "%", "3.0000"]
    assert rows[2][:6] == ["down", "1.0000", "2.0000", "-50", "%", "1.0000"]
    assert rows[3][:5] == ["new", "1.0000", "0.0000", "new", "1.0000"]
    assert rows[1][-1] == "█" * 20
