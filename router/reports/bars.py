"""Bars and bare tables, as the reports draw them."""

from __future__ import annotations

from decimal import Decimal

from rich.table import Table
from rich.text import Text

BAR_CELLS = 20
NAME_CELLS = 22
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(percent: Decimal | None, cells: int = BAR_CELLS, style: str = "green") -> Text:
    """`percent` of 100 as a bar of so many cells, to an eighth of a cell; a loss is one red cell."""
    if percent is None or percent == 0:
        return Text("")
    if percent < 0:
        return Text("◀", style="red")
    eighths = max(1, int(min(percent, Decimal(100)) * cells * 8 / 100))
    return Text("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip(), style=style)


def bare_table(title: str) -> Table:
    """A table without lines, whose first column is named `title`."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(title, min_width=NAME_CELLS, overflow="fold")
    return table
