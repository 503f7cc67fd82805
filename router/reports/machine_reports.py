"""The reports about machines by name: how busy they are, and from how much traffic on they pay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from router.hardware import machines_of
from router.prices import load_prices
from router.reports.break_even import apis_of, break_even_report, break_even_table
from router.reports.curves import break_even_picture
from router.reports.exports.drawing import Picture
from router.reports.library import ReportSource, prices_sha256
from router.reports.periods import ReportPeriod, unix_ms
from router.reports.tables import Provenance, ReportTable
from router.reports.utilization import utilization_report, utilization_table
from router.stores.cells import ROUTER


def machine_utilization(source: ReportSource, period: ReportPeriod, now: datetime) -> ReportTable:
    """By what the configuration says of machines on the period's last day. Raises ConfigError and StoreUnavailable."""
    machines = machines_of(source.config, _last_day(period), ROUTER)
    found = utilization_report(source.books, period.from_ms, period.to_ms, machines)
    return utilization_table(found, unix_ms(now))


def machine_break_even(source: ReportSource, period: ReportPeriod, now: datetime) -> tuple[ReportTable, list[Picture]]:
    """As `machine_utilization`, at the mix of the period; and a picture of each machine's curve."""
    on = _last_day(period)
    apis = apis_of(source.config, load_prices(source.config.prices), on)
    machines = machines_of(source.config, on, ROUTER)
    found = break_even_report(source.books, period.from_ms, period.to_ms, machines, apis)
    curves = [break_even_picture(f"break-even-{at}", outlook) for at, outlook in enumerate(found.outlooks)]
    table = break_even_table(found, unix_ms(now))
    return replace(table, provenance=Provenance(prices_sha256=prices_sha256(source.config))), curves


def _last_day(period: ReportPeriod) -> date:
    return datetime.fromtimestamp((period.to_ms - 1) / 1000, UTC).date()
