"""The page needs nothing but itself, believes no name, and says what its figures rest on."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from policies.money import NUSD_PER_USD
from router.reports.curves import break_even_picture
from router.reports.exports.formats import export
from tests.support.report_tables import savings_row, savings_table
from tests.unit.test_router_reports_curves import OUTLOOK

USD = NUSD_PER_USD
EVIL = '<img src=x onerror="alert(1)">&\'"</style><script>'
VOID = {"meta", "img", "br", "hr", "link", "input"}
TABLE = savings_table(
    {("support",): savings_row(10 * USD + 1, (6 * USD, 0, -1 * USD), USD), (EVIL,): savings_row(USD, (1, 0, 0))}
)


class Outline(HTMLParser):
    """What a browser would make of it: elements with their attributes, each closed where it should be."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> bytes:
    return export(TABLE, "html")


def test_it_asks_for_nothing_from_anywhere(page: bytes) -> None:
    outline = Outline(page)
    assert {tag for tag, _ in outline.elements} & {"script", "link", "img", "iframe", "object", "base", "form"} == set()
    names = {name for _, attributes in outline.elements for name in attributes}
    assert names & {"src", "href", "srcset", "action"} == set()
    assert not [name for name in names if name.startswith("on")]
    addresses = set(re.findall(rb"https?://[^\"' ]+", page))
    assert addresses == {b"http://www.w3.org/2000/svg"}, "the name of SVG, which nobody fetches"
    assert b"url(" not in page and b"@import" not in page
    policy = next(each for each in outline.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_a_name_is_only_ever_words(page: bytes) -> None:
    outline = Outline(page)
    assert EVIL in "".join(outline.words)
    assert outline.all("img") == [] and outline.all("script") == []
    assert len(outline.all("style")) == 1


def test_it_can_be_read_by_all(page: bytes) -> None:
    outline = Outline(page)
    assert outline.all("html") == [{"lang": "en"}]
    pictures = outline.all("svg")
    ids = [str(attributes["id"]) for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) == 2 * len(pictures)
    assert all(set(str(each["aria-labelledby"]).split()) <= set(ids) and each["role"] == "img" for each in pictures)
    assert len(outline.all("figcaption")) == len(pictures) == 2
    assert all(each.get("scope") in ("row", "col") for each in outline.all("th"))
    regions = [each for each in outline.all("div") if each.get("role") == "region"]
    assert len(regions) == len(outline.all("table")) - 1, "all but the one that says where it comes from"
    assert all(each["aria-label"] and each["tabindex"] == "0" for each in regions)
    assert len(outline.all("h1")) == 1


def test_it_has_styles_for_dark_and_for_paper_and_numbers_to_the_right(page: bytes) -> None:
    assert b"@media (prefers-color-scheme: dark)" in page
    assert b"@media print" in page
    assert re.search(rb"td\.number \{ text-align: right;", page)
    assert b'<td class="number">$1.00</td>' in page


def test_the_sums_stand_at_the_top_with_their_share(page: bytes) -> None:
    words = "".join(Outline(page).words)
    assert "on the baseline$11.00" in words
    assert "spent$6.00" in words
    assert "saved$5.00" in words


def test_an_interval_stands_beside_its_sum() -> None:
    table = savings_table({(): savings_row(10 * USD, (6 * USD, 0, 0), USD)}, ())
    total = table.rows[0]
    words = "".join(Outline(export(type(table)(**_fields(table) | {"total": total}), "html")).words)
    assert "$10.00$9.00 to $11.00, with 95 % confidence" in words
    assert "saved$6.00$5.00 to $7.00, with 95 % confidence, 60.0 %" in words


def _fields(table: object) -> dict[str, object]:
    return {name: getattr(table, name) for name in table.__slots__}  # type: ignore[attr-defined]


def test_an_amount_is_exact_for_who_points_at_it(page: bytes) -> None:
    assert 'title="10.000000001 USD"' in page.decode()


def test_what_it_rests_on_is_said(page: bytes) -> None:
    words = "".join(Outline(page).words)
    for said in ("The counterfactual is an estimate & no more.", "ab" * 32, "length/1", "Europe/Berlin", "Parsimony "):
        assert said in words
    assert "SIMULATED" not in words
    assert "SIMULATED" in export(savings_table({}, simulated=True), "html").decode()


def test_a_report_of_nothing_is_a_page_too() -> None:
    assert "Nothing in this time." in "".join(Outline(export(savings_table({}), "html")).words)


def test_curves_of_others_stand_among_the_pictures_each_with_its_table() -> None:
    curve = break_even_picture("break-even-0", OUTLOOK)
    outline = Outline(export(TABLE, "html", [curve]))
    ids = [str(attributes["id"]) for _, attributes in outline.elements if "id" in attributes]
    assert len(outline.all("figure")) == len(outline.all("figcaption")) == 3
    assert len(ids) == len(set(ids)) and {"break-even-0-title", "break-even-0-desc"} <= set(ids)
    assert outline.words.count("The same as a table") == 3
    assert {"10,000", "$1,000.00"} <= set(outline.words), "the last point of its dearest line"


def test_parquet_holds_the_rows_with_money_twice_and_the_basis(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(export(TABLE, "parquet"))
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT team, savings_usd, savings_nusd, savings_percent FROM '{path}'").fetchall()
        footer = dict(connection.sql(f"SELECT key, value FROM parquet_kv_metadata('{path}')").fetchall())
    assert rows == [
        ("support", Decimal("5.000000000"), 5 * USD, Decimal("50.0")),
        (EVIL, Decimal("0.000000001"), 1, Decimal("0.0")),
    ]
    about = json.loads(footer[b"parsimony.report"])
    assert (about["name"], about["basis"], about["prices_sha256"]) == ("savings", list(TABLE.basis), "ab" * 32)


def test_parquet_holds_what_a_year_costs_in_rupiah(tmp_path: Path) -> None:
    amount = 10**19  # ten billion rupiah, some 600,000 dollars, and more than 64 bits hold
    path = tmp_path / "t.parquet"
    path.write_bytes(export(savings_table({("support",): savings_row(amount, (1, 0, 0))}), "parquet"))
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT counterfactual_usd, counterfactual_nusd FROM '{path}'").fetchall()
    assert rows == [(Decimal(10**10), amount)]


def test_a_loss_bears_the_same_minus_in_money_and_in_percent() -> None:
    words = Outline(export(savings_table({("support",): savings_row(4 * USD, (-1 * USD, 0, 0))}), "html")).words
    assert {"−$1.00", "−25.0 %"} <= set(words)
    assert "-25.0 %" not in words
