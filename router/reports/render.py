"""The savings report for people (tables with bars), for programs (JSON) and for spreadsheets (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from policies.money import format_usd
from router.reports.bars import BAR_CELLS, bar, bare_table
from router.reports.budgets import TABLE_DECIMALS, budget_table
from router.reports.savings import CAUSES, SavingsLine, SavingsReport
from router.stores.entries import budget_state_as_json

_BREAKDOWNS = ("by_cause", "by_team", "by_model", "by_alias", "by_status")
_ALWAYS_SHOWN = ("by_cause", "by_team", "by_model")
_WIDTH_BESIDE_BAR = 74
_TITLES = {
    "by_cause": "Why",
    "by_team": "Team",
    "by_model": "Model",
    "by_alias": "Asked for",
    "by_status": "Status",
}
_CSV_COLUMNS = (
    "breakdown", "name", "request_count", "input_tokens", "output_tokens", "realised_usd", "counterfactual_usd",
    "saved_usd", "saved_percent", "realised_nusd", "counterfactual_nusd", "saved_nusd",
)  # fmt: skip


# ---- for people ----------------------------------------------------------------------------------


def print_report(report: SavingsReport, console: Console) -> None:
    """Writes headline, one table a breakdown, budgets, and what the figures rest on."""
    cells = max(6, min(BAR_CELLS, console.width - _WIDTH_BESIDE_BAR))
    console.print(_headline(report))
    for name in _BREAKDOWNS:
        lines: Sequence[SavingsLine] = getattr(report, name)
        # What all requests have in common needs no table, save for the three that people look for.
        if len(lines) > 1 or (lines and name in _ALWAYS_SHOWN):
            console.print(_breakdown_table(_TITLES[name], lines, cells), "")
    if report.budgets:
        console.print(budget_table(report.budgets, cells), "")
    for note in _notes(report):
        console.print(Text(note, style="dim"))


def _headline(report: SavingsReport) -> RenderableType:
    total = report.total
    title = _title(report)
    if not total.request_count:
        return Panel(Text("no requests in this time"), title=title, expand=False)
    amounts = Text.assemble(
        "spent ",
        (f"${format_usd(total.realised_nusd, TABLE_DECIMALS)}", "bold"),
        f"   all on {_baseline_name(report)} ",
        (f"${format_usd(total.counterfactual_nusd, TABLE_DECIMALS)}", "bold"),
        "   saved ",
        (f"${format_usd(total.saved_nusd, TABLE_DECIMALS)}", "bold green" if total.saved_nusd >= 0 else "bold red"),
    )
    share = Text.assemble(bar(total.saved_percent, 2 * BAR_CELLS), "  ", (_percent(total), "bold"), " saved")
    parts: list[RenderableType] = [amounts, share, Text(f"{total.request_count} requests")]
    if report.simulated:
        parts.append(Text(_simulated_note(report), style="bold yellow"))
    return Panel(Group(*parts), title=title, expand=False)


def _title(report: SavingsReport) -> Text:
    of_team = f", team {report.team_id}" if report.team_id else ""
    return Text(f"Savings{of_team}: {_day(report.from_ms)} to {_day(report.to_ms)} UTC")


def _breakdown_table(title: str, lines: Sequence[SavingsLine], cells: int) -> Table:
    table = bare_table(title)
    for heading, width in (("requests", 8), ("spent $", 9), ("baseline $", 10), ("saved $", 9), ("saved", 8)):
        table.add_column(heading, justify="right", min_width=width, no_wrap=True)
    table.add_column("", width=cells)
    for line in lines:
        table.add_row(
            Text(_shown_name(title, line.name)),
            str(line.request_count),
            format_usd(line.realised_nusd, TABLE_DECIMALS),
            format_usd(line.counterfactual_nusd, TABLE_DECIMALS),
            format_usd(line.saved_nusd, TABLE_DECIMALS),
            _percent(line),
            bar(line.saved_percent, cells),
        )
    return table


def _shown_name(title: str, name: str) -> str:
    # Wherever a cause is shown to people it is shown in words.
    return {str(cause): words for cause, words in CAUSES.items()}[name] if title == _TITLES["by_cause"] else name


def _percent(line: SavingsLine) -> str:
    return "-" if line.saved_percent is None else f"{line.saved_percent} %"


def _baseline_name(report: SavingsReport) -> str:
    return " / ".join(report.baseline_models)


def _day(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _notes(report: SavingsReport) -> list[str]:
    notes = [report.basis]
    if report.measured_nusd:
        measured = format_usd(report.measured_nusd, TABLE_DECIMALS)
        notes.append(f"${measured} of the counterfactual are no estimate: the baseline itself answered.")
    return notes


def _simulated_note(report: SavingsReport) -> str:
    simulated, total = report.simulated_request_count, report.total.request_count
    which = "All requests were" if simulated == total else f"{simulated} of {total} requests were"
    return f"SIMULATED: {which} answered by simulated models; nobody was paid."


# ---- for programs --------------------------------------------------------------------------------


def as_json(report: SavingsReport) -> dict[str, Any]:
    """Amounts twice: as decimal dollars (strings, exact) and as integer nano-USD."""
    return {
        "from": _iso(report.from_ms),
        "to": _iso(report.to_ms),
        "team": report.team_id,
        "baseline_models": list(report.baseline_models),
        "total": line_as_json(report.total),
        **{name: [line_as_json(line) for line in getattr(report, name)] for name in _BREAKDOWNS},
        "counterfactual": {
            "estimate": True,
            "basis": report.basis,
            "measured_usd": format_usd(report.measured_nusd),
            "measured_nusd": report.measured_nusd,
        },
        "simulated": report.simulated,
        "simulated_request_count": report.simulated_request_count,
        "budgets": [budget_state_as_json(state) for state in report.budgets],
    }


def line_as_json(line: SavingsLine) -> dict[str, Any]:
    return {
        "name": line.name,
        "request_count": line.request_count,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "realised_usd": format_usd(line.realised_nusd),
        "counterfactual_usd": format_usd(line.counterfactual_nusd),
        "saved_usd": format_usd(line.saved_nusd),
        "saved_percent": None if line.saved_percent is None else str(line.saved_percent),
        "realised_nusd": line.realised_nusd,
        "counterfactual_nusd": line.counterfactual_nusd,
        "saved_nusd": line.saved_nusd,
    }


def _iso(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="milliseconds")


# ---- for spreadsheets ----------------------------------------------------------------------------


def as_csv(report: SavingsReport) -> str:
    """One row a line of every breakdown, the total first; `breakdown` tells them apart."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerow({"breakdown": "total", **_csv_line(report.total)})
    for breakdown in _BREAKDOWNS:
        for line in getattr(report, breakdown):
            writer.writerow({"breakdown": breakdown, **_csv_line(line)})
    return text.getvalue()


def _csv_line(line: SavingsLine) -> dict[str, Any]:
    values = line_as_json(line)
    # A spreadsheet would run a name that looks like a formula.
    return {**values, "name": f"'{line.name}" if line.name[:1] in "=+-@\t\r" else line.name}
