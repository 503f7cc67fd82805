"""Cost against quality, drawn: in a terminal and as SVG, also where there is next to nothing to draw."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache

import pytest

from router.replay.forecast import Forecast, Point, forecast
from router.replay.judge import Judge
from router.replay.picture import as_svg, as_text
from router.replay.sources import Block, Position
from router.replay.sums import Sums
from tests.support.logs import as_lines, pairs, plan_for


@cache
def drawn() -> Forecast:
    plan = plan_for()
    data = as_lines(pairs(60))
    sums = Sums(plan)
    sums.add(Judge(plan).judge(Block(Position(), Position(0, len(data), 1), "lines", data)))
    return forecast(sums, plan, ("log",))


def test_the_text_marks_every_setting_and_what_was_paid() -> None:
    lines = as_text(drawn()).splitlines()
    drawing = [line for line in lines if "│" in line]
    assert len(drawing) == 16
    assert {"A", "B", "C"} <= set("".join(drawing))
    assert lines[-1] == "A auto, as configured   B 0.8   C 0.95"
    assert any(line.strip() == "$ was paid" for line in lines)


def test_cheaper_stands_left_and_better_stands_high() -> None:
    rows = [line.split("│")[1] for line in as_text(drawn()).splitlines() if "│" in line]
    at = {letter: (row.index(letter), height) for height, row in enumerate(rows) for letter in "AC" if letter in row}
    assert at["A"][0] < at["C"][0]
    assert at["A"][1] > at["C"][1]


@pytest.mark.parametrize(
    "changes",
    [{}, {"paid_nusd": 0, "curve": (Point(0.0, 0, 1_000_000),)}, {"curve": ()}, {"outcomes": ()}, {"alias": "<&>"}],
)
def test_the_svg_is_well_formed_and_within_its_frame(changes: dict[str, object]) -> None:
    svg = ElementTree.fromstring(as_svg(replace(drawn(), **changes)))  # type: ignore[arg-type]
    for circle in svg.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= 860
        assert 0 <= float(circle.attrib["cy"]) <= 480


def test_a_log_of_less_than_a_cent_has_an_axis_too() -> None:
    small = replace(drawn(), paid_nusd=3_600_000, curve=(Point(0.0, 1_000, 900_000),), outcomes=())
    assert "$0.003600" in as_text(small)
    assert ">$0.003600<" in as_svg(small)
