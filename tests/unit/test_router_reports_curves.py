"""The picture of a break-even: well-formed, and it shows, says and lists what the report holds."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from policies.break_even import Api, Mix, SelfHosted
from policies.money import NUSD_PER_USD
from router.reports import exports
from router.reports.break_even import BreakEven, Curve, Outlook
from router.reports.curves import break_even_picture

STYLE = Path(exports.__file__).with_name("page.css")
SVG = "{http://www.w3.org/2000/svg}"
OUTLOOK = Outlook(
    hosted=SelfHosted("local", Fraction(10 * NUSD_PER_USD)),
    hardware="box",
    mix=Mix(Fraction(1), Fraction(1)),
    requests_per_day=Fraction(10),
    own_traffic=True,
    simulated=False,
    break_evens=(
        BreakEven(Api("gpt", Fraction(NUSD_PER_USD // 10)), 101, 101),
        BreakEven(Api("free", Fraction(0)), None, None),
    ),
    requests=(1, 100, 101, 10_000),
    curves=(
        Curve("local", True, (10 * NUSD_PER_USD,) * 4),
        Curve("gpt", False, tuple(count * NUSD_PER_USD // 10 for count in (1, 100, 101, 10_000))),
        Curve("free", False, (0,) * 4),
    ),
)


def drawn(outlook: Outlook = OUTLOOK) -> ElementTree.Element:
    return ElementTree.fromstring(break_even_picture("curve", outlook).svg)


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in line.attrib["points"].split())]


def test_every_option_has_its_line_on_logarithmic_axes() -> None:
    local, gpt, free = map(points, drawn().iter(f"{SVG}polyline"))
    xs = [x for x, _ in local]
    assert xs[1] - xs[0] == pytest.approx(xs[3] - xs[1], abs=0.2), "from 1 to 100 is as far as from 100 to 10,000"
    assert len({y for _, y in local}) == 1
    assert gpt[0][1] > local[0][1] > gpt[3][1], "what costs more stands higher"
    assert gpt[1][1] == pytest.approx(local[1][1], abs=0.1)
    assert all(y >= gpt[0][1] for _, y in free), "nothing is drawn at the foot"


def test_a_break_even_is_marked_where_the_lines_cross() -> None:
    (mark,) = drawn().iter(f"{SVG}circle")
    local = points(next(drawn().iter(f"{SVG}polyline")))
    assert float(mark.attrib["cx"]) == pytest.approx(local[2][0], abs=0.1)
    assert float(mark.attrib["cy"]) == pytest.approx(local[2][1], abs=1)


def test_what_is_seen_is_also_said() -> None:
    description = drawn().findtext(f"{SVG}desc") or ""
    assert "Now 10.0 requests a day." in description
    assert "local is cheaper than gpt from 101 requests a day on." in description
    assert "local is never cheaper than free." in description


def test_every_point_stands_in_its_table() -> None:
    picture = break_even_picture("curve", OUTLOOK)
    assert picture.heads == ("requests a day", "local", "gpt", "free")
    assert picture.rows == (
        ("1", "$10.00", "$0.1000", "$0.00"),
        ("100", "$10.00", "$10.00", "$0.00"),
        ("101", "$10.00", "$10.10", "$0.00"),
        ("10,000", "$10.00", "$1,000.00", "$0.00"),
    )


def test_each_curve_has_a_colour_that_the_page_knows_and_its_name_has_the_same() -> None:
    many = replace(
        OUTLOOK, curves=tuple(Curve(f"api {at}", False, (NUSD_PER_USD,) * 4) for at in range(9)), break_evens=()
    )
    root = drawn(many)
    lines = [str(line.get("class")) for line in root.iter(f"{SVG}polyline")]
    names = [str(text.get("class")) for text in root.iter(f"{SVG}text") if (text.text or "").startswith("api ")]
    style = STYLE.read_text()
    assert lines == names and len(set(lines)) == 8
    assert all(f".{name.split()[-1]} {{ color: #" in style for name in lines)


def test_the_present_load_is_shown() -> None:
    texts = [text.text for text in drawn().iter(f"{SVG}text")]
    assert "now" in texts and "requests a day" in texts and "1k" in texts and "$10" in texts


def test_names_of_lines_that_end_together_do_not_cover_each_other() -> None:
    same = replace(
        OUTLOOK, curves=tuple(Curve(name, False, (NUSD_PER_USD,) * 4) for name in "abcdefghij"), break_evens=()
    )
    names = [text for text in drawn(same).iter(f"{SVG}text") if text.text in set("abcdefghij")]
    heights = sorted(float(text.attrib["y"]) for text in names)
    assert all(below - above >= 14 for above, below in pairwise(heights))


def test_names_are_text_and_nothing_else() -> None:
    name = "<script>\"&'</script>"
    renamed = replace(
        OUTLOOK,
        hosted=replace(OUTLOOK.hosted, name=name),
        curves=(replace(OUTLOOK.curves[0], name=name),),
        break_evens=(),
    )
    assert "<script" not in break_even_picture("curve", renamed).svg
    assert name in [text.text for text in drawn(renamed).iter(f"{SVG}text")]


def test_it_needs_nothing_from_elsewhere() -> None:
    text = break_even_picture("curve", OUTLOOK).svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.findall(r"https?:|href|url\(|<script|@import", text) == []
