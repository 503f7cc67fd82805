"""How a report's table looks: to people, to programs, to spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from policies.money import parse_usd
from router.reports.render import UNFOLDED_COLUMNS, print_table, table_as_csv, table_as_json
from router.reports.tables import Column, Provenance, ReportTable

COLUMNS = (
    Column("team", "Team", "text", dimension=True),
    Column("requests", "requests", "count", "requests", adds_up=True),
    Column("spent", "spent", "money", "USD", adds_up=True),
    Column("booked", "booked", "money", "USD", adds_up=True, detail=True),
    Column("share", "saved", "percent", "%"),
    Column("last", "last", "instant"),
)


def table(**changes: Any) -> ReportTable:
    values: dict[str, Any] = {
        "name": "savings",
        "title": "Savings",
        "from_ms": 1_793_491_200_000,
        "to_ms": 1_795_264_200_000,
        "timezone": "Asia/Kolkata",
        "generated_at_ms": 1_795_264_200_000,
        "columns": COLUMNS,
        "rows": (("=1+1", 1, -5, 7, Decimal("12.5"), 0), ("研究", 2, 1_500_000_000, 0, None, None)),
        "total": ("total", 3, 1_499_999_995, 7, Decimal("1.0"), None),
        "basis": ("It is an estimate.", "SIMULATED: all of it."),
        "filters": (("team", "[red]x[/]"),),
        "provenance": Provenance("5ha", ("v1",), 3_600_000, {"mistral-7b": None}),
    }
    return ReportTable(**{**values, **changes})


WIDE = (
    Column("user", "User", "text", dimension=True),
    Column("hour", "Hour", "text", dimension=True),
    *(Column(f"amount_{at}", f"the amount in column {at}", "money", "CNY", adds_up=True) for at in range(12)),
    Column("share", "saved", "percent", "%"),
    Column("closed", "closed until", "instant"),
)


def wide_table(amounts: int) -> ReportTable:
    """With so many columns of amounts."""
    columns = (*WIDE[: 2 + amounts], *WIDE[-2:])
    money = tuple(10 ** (9 + at) for at in range(amounts))
    row = ("研究" * 12, "2026-11-20T13:00+00:00", *money, Decimal("100.0"), 1_795_264_200_000)
    total = ("total", "", *(2 * amount for amount in money), Decimal("57.3"), None)
    return table(columns=columns, rows=(row, ("", *row[1:])), total=total)


def numbers(text: str) -> Counter[str]:
    return Counter(word for word in text.split() if any(map(str.isdigit, word)))


def printed(shown: ReportTable, width: int = 120, **options: bool) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_table(shown, console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_people_see_title_rows_total_and_basis() -> None:
    lines = printed(table()).splitlines()
    assert lines[0] == "Savings, team [red]x[/]: 2026-11-01 05:30 to 2026-11-21 18:00 Asia/Kolkata"
    assert lines[1].split() == ["Team", "requests", "spent", "$", "saved", "last"]
    assert lines[3].split() == ["研究", "2", "1.5000", "-", "-"]
    assert lines[4].split() == ["total", "3", "1.5000", "1.0", "%", "-"]
    assert lines[-2:] == ["It is an estimate.", "SIMULATED: all of it."]


def test_an_hour_that_comes_twice_is_told_from_nothing() -> None:
    start_ms = 1_792_886_400_000  # 2026-10-25T02:00+02:00
    lines = printed(table(from_ms=start_ms, to_ms=start_ms + 3_600_000, timezone="Europe/Zurich")).splitlines()
    assert lines[0].endswith(": 2026-10-25 02:00+02:00 to 2026-10-25 02:00+01:00 Europe/Zurich")


def test_details_are_shown_where_asked_for() -> None:
    assert "booked" not in printed(table())
    assert "booked $" in printed(table(), details=True)


def test_where_there_is_no_room_amounts_are_written_below_each_other_and_never_cut() -> None:
    lines = printed(table(), 24).splitlines()
    assert [line.split() for line in lines if line.startswith("spent")] == [
        ["spent", "$", "0.0000"], ["spent", "$", "1.5000"], ["spent", "$", "1.5000"],
    ]  # fmt: skip


@pytest.mark.parametrize("amounts", [0, 3, 12])
def test_numbers_and_times_are_whole_at_every_width(amounts: int) -> None:
    shown = wide_table(amounts)
    whole = numbers(printed(shown, UNFOLDED_COLUMNS))
    assert whole["2026-11-21T18:00+05:30"] == 2
    for width in range(40, 201):
        text = printed(shown, width)
        assert not whole - numbers(text), width
        assert max(map(cell_len, text.splitlines())) <= width


def test_what_is_no_terminal_has_a_line_for_each_row() -> None:
    lines = printed(wide_table(12), UNFOLDED_COLUMNS).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["User", "研究" * 12, "2026-11-20T13:00+00:00", "total"]


def test_names_take_the_room_that_amounts_leave() -> None:
    name = wide_table(1).rows[0][0]
    assert str(name) in printed(wide_table(1), 120)
    assert str(name) not in printed(wide_table(1), 100)


def test_an_empty_report() -> None:
    empty = table(rows=(), total=("total", 0, 0, 0, None, None))
    assert "nothing in this time" in printed(empty)
    assert table_as_json(empty)["total"]["share"] is None


def test_json_holds_every_amount_twice_and_alike() -> None:
    values = json.loads(json.dumps(table_as_json(table())))
    positive = values["rows"][1]
    assert parse_usd(positive["spent_usd"]) == positive["spent_nusd"] == 1_500_000_000
    assert (values["rows"][0]["spent_usd"], values["rows"][0]["share"]) == ("-0.000000005", "12.5")
    assert (values["from"], values["timezone"]) == ("2026-11-01T00:00:00.000+00:00", "Asia/Kolkata")
    assert values["provenance"]["closed_until"] == {"mistral-7b": None}
    assert values["columns"][2] == {
        "name": "spent", "title": "spent", "kind": "money", "unit": "USD", "dimension": False, "adds_up": True,
        "description": "",
    }  # fmt: skip


def test_other_currencies_have_keys_of_their_own() -> None:
    columns = tuple(Column(c.name, c.title, c.kind, "CNY") if c.kind == "money" else c for c in COLUMNS)
    row = table_as_json(table(columns=columns, currency="CNY"))["rows"][1]
    assert (row["spent_cny"], row["spent_ncny"]) == ("1.50", 1_500_000_000)


def test_csv_is_one_table_with_the_total_last() -> None:
    rows = list(csv.DictReader(io.StringIO(table_as_csv(table()))))
    assert [row["line"] for row in rows] == ["line", "line", "total"]
    assert sum(int(row["spent_nusd"]) for row in rows[:-1]) == int(rows[-1]["spent_nusd"])


def test_csv_runs_no_formula_and_leaves_negative_amounts_alone() -> None:
    first = next(csv.DictReader(io.StringIO(table_as_csv(table()))))
    assert (first["team"], first["spent_usd"]) == ("'=1+1", "-0.000000005")
