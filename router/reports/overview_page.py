"""The overview of savings for people: a headline, and tables with bars."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from policies.drivers import DRIVERS
from policies.money import format_usd
from router.reports.account import Line
from router.reports.bars import BAR_CELLS, bar, bare_table
from router.reports.budgets import TABLE_DECIMALS, budget_table
from router.reports.currency import money_text
from router.reports.dimensions import CAUSES, title_of
from router.reports.figures import Figures, percent
from router.reports.overview import BREAKDOWNS, Overview
from router.reports.render import UNFOLDED_COLUMNS, title_text

_ALWAYS_SHOWN = ("cause", "team", "model")
_TITLES = {"cause": "Why"}
_WIDTH_BESIDE_BAR = 74
_TITLE_FRAME = 6
"""Cells of a panel's upper border that its title leaves free."""


def print_overview(shown: Overview, console: Console) -> None:
    """Writes headline, one table a breakdown, the drivers, budgets, and what the figures rest on."""
    cells = max(6, min(BAR_CELLS, console.width - _WIDTH_BESIDE_BAR))
    _print_headline(shown, console)
    for name in BREAKDOWNS:
        lines = shown.lines(name)
        # What all requests have in common needs no table, save for the three that people look for.
        if len(lines) > 1 or (lines and name in _ALWAYS_SHOWN):
            _print_whole(_breakdown(shown, name, lines, cells), console)
    if shown.total.drivers:
        _print_whole(_drivers(shown, cells), console)
    if shown.budgets:
        _print_whole(budget_table(shown.budgets, cells), console)
    for sentence in shown.basis:
        console.print(Text(sentence, style="bold yellow" if sentence.startswith("SIMULATED") else "dim"))


def _print_whole(table: Table, console: Console) -> None:
    """A terminal that is narrower than the table wraps the lines itself: better than amounts cut short."""
    unfolded = console.options.update(max_width=UNFOLDED_COLUMNS)
    room, least = console.width, Measurement.get(console, unfolded, table).minimum
    console.width = max(room, least)
    console.print(table, "")
    console.width = room


def _print_headline(shown: Overview, console: Console) -> None:
    """A frame cuts a title for which it has no room: then that stands above it."""
    title = _title(shown)
    fits = title.cell_len + _TITLE_FRAME <= console.width
    if not fits:
        console.print(title)
    console.print(_headline(shown, title if fits else None))


def _headline(shown: Overview, title: Text | None) -> RenderableType:
    figures = shown.total.figures
    if not figures.request_count and not figures.effective_cost:
        return Panel(Text("no requests in this time"), title=title, expand=False)
    amounts = Text.assemble(
        "spent ",
        (_money(shown, figures.effective_cost), "bold"),
        f"   all on {' / '.join(shown.baseline_models)} ",
        (_money(shown, figures.counterfactual), "bold"),
        "   saved ",
        (_money(shown, figures.savings), "bold green" if figures.savings >= 0 else "bold red"),
    )
    share = Text.assemble(bar(figures.savings_percent, 2 * BAR_CELLS), "  ", (_percent(figures), "bold"), " saved")
    parts: list[RenderableType] = [amounts, share, Text(f"{figures.request_count} requests")]
    if shown.total.low != shown.total.high:
        low, high = (_money(shown, end - figures.effective_cost) for end in (shown.total.low, shown.total.high))
        parts.insert(2, Text(f"between {low} and {high} with a confidence of 95 %", style="dim"))
    return Panel(Group(*parts), title=title, expand=False)


def _title(shown: Overview) -> Text:
    question = shown.account.question
    period = question.period
    return Text(title_text("Savings", question.filters, period.from_ms, period.to_ms, period.timezone))


def _breakdown(shown: Overview, name: str, lines: Sequence[Line], cells: int) -> Table:
    table = bare_table(_TITLES.get(name, title_of(name)))
    sign = "$" if shown.currency == "USD" else shown.currency
    headings = (("requests", 8), (f"spent {sign}", 9), (f"baseline {sign}", 10), (f"saved {sign}", 9), ("saved", 8))
    for heading, width in headings:
        table.add_column(heading, justify="right", min_width=width, no_wrap=True)
    table.add_column("", width=cells)
    for line in lines:
        figures = line.figures
        table.add_row(
            Text(CAUSES.get(line.names[0], line.names[0]) if name == "cause" else line.names[0]),
            str(figures.request_count),
            format_usd(figures.effective_cost, TABLE_DECIMALS),
            format_usd(figures.counterfactual, TABLE_DECIMALS),
            format_usd(figures.savings, TABLE_DECIMALS),
            _percent(figures),
            bar(figures.savings_percent, cells),
        )
    return table


def _drivers(shown: Overview, cells: int) -> Table:
    """What they add up to is the savings."""
    table = bare_table("Saved by")
    sign = "$" if shown.currency == "USD" else shown.currency
    table.add_column(f"saved {sign}", justify="right", min_width=9, no_wrap=True)
    table.add_column("of the baseline", justify="right", no_wrap=True)
    table.add_column("", width=cells)
    whole = shown.total.figures.counterfactual
    for driver, amount in shown.total.drivers.items():
        share = percent(amount, whole)
        text = "-" if share is None else f"{share} %"
        table.add_row(Text(DRIVERS[driver]), format_usd(amount, TABLE_DECIMALS), text, bar(share, cells))
    return table


def _money(shown: Overview, amount: int) -> str:
    return money_text(amount, shown.currency, TABLE_DECIMALS)


def _percent(figures: Figures) -> str:
    return "-" if figures.savings_percent is None else f"{figures.savings_percent} %"
