"""Who spends fastest: nano-USD an hour over a span that ends now, beside the span before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol

from rich.table import Table
from rich.text import Text

from policies.money import format_usd
from router.reports.bars import bar, bare_table
from router.stores.administration import unix_ms
from router.stores.entries import as_iso
from router.stores.sql_rates import Spender

Span = Literal["hour", "day", "week", "month"]
SPANS: dict[Span, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
_TABLE_DECIMALS = 4


class Rates(Protocol):
    """Where sums are asked for; `router.stores.sql_rates.SqlRates` is one."""

    def spent(self, by: Spender, from_ms: int, to_ms: int, team_id: str | None = None) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True)
class SpendRate:
    """What one team, project, key, user or model cost in the span and in the one before it, in nano-USD."""

    name: str
    spent_nusd: int
    before_nusd: int


@dataclass(frozen=True, slots=True)
class SpendersReport:
    """The fastest first. The span is [from_ms, to_ms)."""

    by: Spender
    from_ms: int
    to_ms: int
    rates: tuple[SpendRate, ...]

    def an_hour(self, nusd: int) -> int:
        """As nano-USD an hour, rounded down."""
        return nusd * 3_600_000 // (self.to_ms - self.from_ms)


def spenders_report(
    rates: Rates, by: Spender, span: Span, now: datetime, *, team_id: str | None = None, limit: int = 20
) -> SpendersReport:
    """Those who spent anything in the span, at most `limit`. Whoever stopped before it began is not among them."""
    to_ms = unix_ms(now) + 1
    length_ms = SPANS[span] // timedelta(milliseconds=1)
    from_ms = to_ms - length_ms
    spent = rates.spent(by, from_ms, to_ms, team_id)
    before = rates.spent(by, from_ms - length_ms, from_ms, team_id)
    fastest = sorted(spent, key=lambda name: (-spent[name], name))[:limit]
    return SpendersReport(
        by, from_ms, to_ms, tuple(SpendRate(name, spent[name], before.get(name, 0)) for name in fastest)
    )


def spenders_as_json(report: SpendersReport) -> dict[str, Any]:
    return {
        "by": report.by,
        "from": as_iso(report.from_ms),
        "to": as_iso(report.to_ms),
        "spenders": [
            {
                "name": rate.name,
                "spent_usd": format_usd(rate.spent_nusd),
                "spent_nusd": rate.spent_nusd,
                "nusd_per_hour": report.an_hour(rate.spent_nusd),
                "before_nusd_per_hour": report.an_hour(rate.before_nusd),
                "usd_per_hour": format_usd(report.an_hour(rate.spent_nusd)),
                "before_usd_per_hour": format_usd(report.an_hour(rate.before_nusd)),
            }
            for rate in report.rates
        ],
    }


def spenders_table(report: SpendersReport) -> Table:
    """The bar is the share of the fastest one's rate."""
    table = bare_table(report.by.capitalize())
    for heading in ("$ an hour", "before", "change", "spent $"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", width=20)
    for rate in report.rates:
        table.add_row(
            Text(rate.name),
            format_usd(report.an_hour(rate.spent_nusd), _TABLE_DECIMALS),
            format_usd(report.an_hour(rate.before_nusd), _TABLE_DECIMALS),
            _change(rate),
            format_usd(rate.spent_nusd, _TABLE_DECIMALS),
            bar(_percent(rate.spent_nusd, report.rates[0].spent_nusd)),
        )
    return table


def _change(rate: SpendRate) -> str:
    return f"{_percent(rate.spent_nusd - rate.before_nusd, rate.before_nusd):+.0f} %" if rate.before_nusd else "new"


def _percent(part: int, whole: int) -> Decimal:
    return Decimal(100 * part) / whole
