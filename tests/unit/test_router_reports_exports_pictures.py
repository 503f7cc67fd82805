"""Pictures are well-formed, say in words what they show, and are true to scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.money import NUSD_PER_USD
from router.reports.exports.drawing import WIDTH, Picture, Scale, label, money
from router.reports.exports.pictures import pictures_of
from router.reports.exports.waterfall import steps, waterfall
from router.reports.tables import Column, ReportTable
from tests.support.report_tables import savings_row, savings_table

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '"><script>alert(1)</script>&'
USD = NUSD_PER_USD
AMOUNTS = st.integers(-(10**15), 10**15)


def drawn(picture: Picture) -> ElementTree.Element:
    root = ElementTree.fromstring(picture.svg)
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title")
    assert root.get("aria-labelledby", "").split() == [root[0].get("id"), root[1].get("id")]
    return root


def bars(picture: Picture, *names: str) -> list[tuple[float, float, float, float]]:
    """Left, top, width, height of the bars of these colours, in the order of the picture."""
    found = [rect for rect in drawn(picture).iter(f"{SVG}rect") if not names or rect.get("class") in names]
    return [tuple(float(str(rect.get(key))) for key in ("x", "y", "width", "height")) for rect in found]  # type: ignore[misc]


def picture(table: ReportTable, title: str) -> Picture:
    return next(each for each in pictures_of(table) if each.title == title)


# the waterfall


@given(AMOUNTS, st.lists(AMOUNTS, max_size=10))
def test_each_step_begins_where_the_last_one_ended(counterfactual: int, saved: Sequence[int]) -> None:
    spent = counterfactual - sum(saved)
    found = steps(counterfactual, {f"driver {at}": amount for at, amount in enumerate(saved)}, spent)
    assert [(step.start, step.end) for step in (found[0], found[-1])] == [(0, counterfactual), (0, spent)]
    between = found[:-1]
    assert [step.start for step in between[1:]] == [step.end for step in between[:-1]]
    assert between[-1].end == spent


@given(st.integers(0, 10**15), st.lists(st.integers(-(10**14), 10**14), min_size=1, max_size=10))
def test_bars_meet_and_are_true_to_scale(counterfactual: int, saved: Sequence[int]) -> None:
    found = steps(counterfactual, {f"d{at}": amount for at, amount in enumerate(saved)}, counterfactual - sum(saved))
    places = bars(waterfall("w", found, "USD"))
    assert len(places) == len(found)
    links = [line for line in drawn(waterfall("w", found, "USD")).iter(f"{SVG}line") if line.get("class") == "link"]
    for link, upper, lower in zip(links, places, places[1:], strict=False):
        x = float(str(link.get("x1")))
        for left, _, width, _ in (upper, lower):
            assert min(abs(x - left), abs(x - left - width)) < 0.02, "a link stands at an end of both of its bars"
    widest = max(range(len(found)), key=lambda at: abs(found[at].end - found[at].start))
    reach = abs(found[widest].end - found[widest].start)
    if reach:
        for (_, _, width, _), step in zip(places, found, strict=True):
            assert width == pytest.approx(places[widest][2] * abs(step.end - step.start) / reach, abs=0.02)


def test_a_waterfall_that_does_not_arrive_is_not_drawn() -> None:
    with pytest.raises(AssertionError, match="the drivers lead to 7, not to 8"):
        steps(10, {"smaller model": 3}, 8)


def test_what_saves_and_what_costs_differ_in_colour_and_in_words() -> None:
    table = savings_table({("support",): savings_row(10 * USD, (6 * USD, 0, -1 * USD))})
    found = picture(table, "From the baseline to what was spent")
    assert len(bars(found, "gain")) == len(bars(found, "loss")) == 1
    assert found.rows == (
        ("on the baseline", "$10.00"), ("smaller model", "−$6.00"), ("idle gpu", "+$1.00"), ("spent", "$5.00"),
    )  # fmt: skip
    assert "idle gpu: +$1.00" in str(drawn(found).findtext(f"{SVG}desc"))


# by name


def test_bars_are_as_long_as_their_amounts_and_whiskers_as_wide_as_the_interval() -> None:
    table = savings_table(
        {("a",): savings_row(8 * USD, (4 * USD, 0, 0), 1 * USD), ("b",): savings_row(4 * USD, (1, 1, 0))}
    )
    found = picture(table, "By team")
    baseline, spent = bars(found, "baseline"), bars(found, "spent")
    assert baseline[0][2] == pytest.approx(2 * baseline[1][2], abs=0.02)
    assert spent[0][2] == pytest.approx(baseline[0][2] / 2, abs=0.02)
    whisker = next(line for line in drawn(found).iter(f"{SVG}line") if line.get("class") == "whisker")
    low, high = float(str(whisker.get("x1"))), float(str(whisker.get("x2")))
    assert high - low == pytest.approx(baseline[0][2] / 4, abs=0.02)
    assert (low + high) / 2 == pytest.approx(baseline[0][0] + baseline[0][2], abs=0.02)


def test_a_name_cannot_leave_the_picture() -> None:
    found = picture(savings_table({(EVIL * 3,): savings_row(USD, (1, 0, 0))}), "By team")
    root = drawn(found)
    assert [element for element in root.iter() if "script" in element.tag] == []
    assert any((element.text or "") == EVIL * 3 for element in root.iter(f"{SVG}title"))


def test_many_names_are_the_largest_and_the_others_and_nothing_is_lost() -> None:
    rows = {(f"team {at:02}",): savings_row(at * USD, (at * USD // 2, 0, 0)) for at in range(1, 31)}
    found = picture(savings_table(rows), "By team")
    assert len(found.rows) == 12
    assert found.rows[-1][0] == "19 others"
    assert found.rows[-1][1] == money(sum(range(1, 20)) * USD, "USD")


def test_of_two_dimensions_each_has_its_picture_and_its_sums() -> None:
    rows = {(team, month): savings_row(2 * USD, (USD, 0, 0), 1) for team in "ab" for month in ("2026-10", "2026-11")}
    table = savings_table(rows, ("team", "month"))
    assert [each.title for each in pictures_of(table)][1:] == ["By team", "Saved by month"]
    assert picture(table, "By team").rows == (("a", "$4.00", "$2.00"), ("b", "$4.00", "$2.00"))
    assert picture(table, "Saved by month").rows == (("2026-10", "$2.00"), ("2026-11", "$2.00"))


# over time


def test_columns_stand_on_nothing_and_losses_hang_below_it() -> None:
    rows = {
        ("2026-11-02",): savings_row(2 * USD, (-1 * USD, 0, 0)),
        ("2026-11-01",): savings_row(9 * USD, (2 * USD, 0, 0)),
    }
    found = picture(savings_table(rows, ("day",)), "Saved by day")
    (_, gain_top, _, gain), (_, loss_top, _, loss) = bars(found, "gain")[0], bars(found, "loss")[0]
    assert [row[0] for row in found.rows] == ["2026-11-01", "2026-11-02"], "in the order of time"
    assert gain == pytest.approx(2 * loss, abs=0.03)
    assert loss_top == pytest.approx(gain_top + gain, abs=0.02)


def test_everything_stays_within_the_picture() -> None:
    rows = {
        (f"2026-{day:04}",): savings_row(day * USD, (day * USD // 3, 0, -5 * USD), 7 * USD) for day in range(1, 200)
    }
    for each in pictures_of(savings_table(rows, ("day",))):
        _, _, width, height = map(float, str(drawn(each).get("viewBox")).split())
        for left, top, bar_width, bar_height in bars(each):
            assert -0.01 <= left <= left + bar_width <= width + 0.01
            assert -0.01 <= top <= top + bar_height <= height + 0.01


# machines, scales, words


def test_utilisation_is_a_share_of_the_capacity() -> None:
    columns = (Column("machine", "Machine", "text", dimension=True), Column("utilization", "utilisation", "percent"))
    rows = (("a", 25), ("b", 140), ("c", None))
    table = ReportTable("utilization", "Utilization", 0, 1, "UTC", 2, columns, rows, None)
    found = picture(table, "Utilisation")
    full, used = bars(found, "idle"), bars(found, "spent")
    assert [place[2] for place in used] == pytest.approx([full[0][2] / 4, full[0][2]], abs=0.02)
    assert found.rows == (("a", "25 %"), ("b", "140 %"), ("c", "unknown"))


def test_a_table_of_nothing_has_no_picture_that_misleads() -> None:
    for each in pictures_of(savings_table({}, ("team", "day"))):
        assert bars(each) == []


@given(st.lists(AMOUNTS, max_size=20))
def test_ticks_are_round_few_and_within(values: Sequence[int]) -> None:
    scale = Scale.over(values, 0, 100)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert len({later - tick for tick, later in pairwise(ticks)}) <= 1


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (1_234_567_890_000_000, "$1,234,567.89"), (0, "$0.00"), (-12_345_000_000, "−$12.35"),
        (12_340_000, "$0.0123"), (1_234_000, "$0.001234"), (1_000, "$0.000001"), (-1, "−$0.000000001"),
    ],
)  # fmt: skip
def test_amounts_have_the_places_that_their_size_needs(amount: int, shown: str) -> None:
    assert money(amount, "USD") == shown
    assert money(amount, "EUR") == shown.replace("$", "EUR ")


def test_a_long_name_is_cut_short_and_whole_in_its_tip() -> None:
    root = ElementTree.fromstring(label(0, 0, "x" * 99))
    assert root.findtext("title") == "x" * 99
    assert str(root[0].tail).endswith("…")
    assert WIDTH == 760
