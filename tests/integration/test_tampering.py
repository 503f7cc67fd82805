"""A column of the ledger that is changed by hand: `report verify` finds it, or there is a reason why nobody could."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import LargeBinary, String, Table, delete, insert, select, update

from policies.answer_lengths import ALL_ALIKE
from policies.spend import SpendRecord
from router.prices import load_prices
from router.reports.price_list import PriceList
from router.reports.verify import Findings, Verifier
from router.services import AdminServices
from router.stores.cells import HOUR_MS
from router.stores.sql_detail import pack_id
from router.stores.sql_engine import writing
from router.stores.sql_schema import HOURLY_SUMS, LEDGER_ATTRIBUTES, LEDGER_DIMENSIONS, LEDGER_ROWS, LEDGER_TEMPLATES
from tests.support.spend import priced_record

START = 1_793_000_000_000 // HOUR_MS * HOUR_MS
EXPECTED_TOKENS = ALL_ALIKE.expected_tokens("gpt-3.5-turbo", "gpt-4", 1_000)
ITS_OWN_WORD = {
    "request_id": "an id is a name: none but a shadow's own record holds it twice",
    "end_user": "the application said so",
    "tags": "the application said so",
    "score": "the prompt it was judged by is not kept",
    "first_token_ms": "nobody else looked at the clock",
    "reserved_nusd": "what was held is settled, and in no report",
    "abandoned_nusd": "what stood there before is gone",
    "detail_numbers": "what was considered, for people; those that amounts follow from are reckoned",
}
"""The columns of a request's row that nothing else in the ledger follows from, and why. Of all requests together, no
amount of a report is among them."""


def request(request_id: str, **changes: Any) -> SpendRecord:
    values = {
        "started_at_ms": START,
        "estimator": ALL_ALIKE.version,
        "recounted_output_tokens": 1_000,
        "baseline_output_tokens": EXPECTED_TOKENS,
        "baseline_cost_nusd": 30_000_000 + 60_000 * EXPECTED_TOKENS,
        "task": "chat",
        "detail": {"billed_attempts": [["large", 1_000, 30_000_000]]},
        "input_tokens": 2_000,
        "cost_nusd": 32_000_000,
        "retries_nusd": 30_000_000,
    }
    return priced_record(request_id, **{**values, **changes})


def shadow(parent: SpendRecord) -> SpendRecord:
    nothing = {"baseline_input_tokens": 0, "baseline_output_tokens": 0, "baseline_cost_nusd": 0, "estimator": None}
    return request(
        "shadow", kind="shadow", parent_id=parent.request_id, sample_share=0.5, deployment="large", reason="shadow",
        request_model="gpt-4", price_effective_from="2023-03-14", baseline_price_effective_from=None, retries_nusd=0,
        input_tokens=1_000, cost_nusd=90_000_000, detail={"measured_deployment": parent.deployment},
        recounted_output_tokens=0, **nothing,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def booked(services: AdminServices) -> None:
    """One request alone, one that is measured, and its shadow."""
    measured = request("plain")
    considered = {"chain": [["small", 32_000_000, 99_000_000]]}
    alone = request("alone", input_tokens=1_000, cost_nusd=2_000_000, retries_nusd=0, detail=considered)
    services.ledger.append([alone, measured, shadow(measured)])


def verified(services: AdminServices) -> Findings:
    prices = PriceList(services.config, load_prices(services.config.prices))
    verifier = Verifier(services.ledger, services.books, prices, lambda day: {}, ALL_ALIKE, share=0.5)
    return verifier.verify(START, START + 2 * HOUR_MS)


def changed(value: Any, kind: Any) -> Any:
    """Another one that might stand there; of packed numbers, the last digit before the padding is."""
    if isinstance(kind, LargeBinary):
        return b"another" if value is None else bytes([*value[:-1], value[-1] ^ 0x10]) if value else b"\x1f"
    if isinstance(kind, String):
        return f"{value or ''}x"
    if isinstance(value, float):
        return value / 8
    if isinstance(value, bool):
        return not value
    return HOUR_MS + value if (value or 0) > 10**12 else 2 * (value or 0) + 7


def unnoticed(services: AdminServices, table: Table, **key: Any) -> set[str]:
    """The columns of one row that can be changed, one at a time, and nobody is the wiser."""
    with writing(services.engine) as connection:
        row = connection.execute(select(table).filter_by(**key)).mappings().one()
    names = table.primary_key.columns.keys()
    key = {name: row[name] for name in names}
    found = set()
    for column in table.columns:
        other = {column.name: changed(row[column.name], column.type)}
        change(services, table, key, other)
        if not verified(services).total:
            found.add(column.name)
        change(services, table, {name: other.get(name, key[name]) for name in names}, {column.name: row[column.name]})
    assert not verified(services).total, "everything is as it was"
    return found


def change(services: AdminServices, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    with writing(services.engine) as connection:
        assert connection.execute(update(table).filter_by(**key).values(values)).rowcount == 1


def test_what_was_booked_is_right(services: AdminServices) -> None:
    findings = verified(services)
    assert (findings.first, findings.unchecked, findings.record_count) == ([], {}, 3)


def test_of_a_request_only_its_own_word_can_be_changed_unnoticed(services: AdminServices) -> None:
    assert unnoticed(services, LEDGER_ROWS, request_id=pack_id("alone")) == ITS_OWN_WORD.keys()


def test_a_measured_request_and_its_shadow_vouch_for_each_other(services: AdminServices) -> None:
    vouched = {"end_user", "score"}
    rest = ITS_OWN_WORD.keys() - vouched
    assert unnoticed(services, LEDGER_ROWS, request_id=pack_id("plain")) == rest - {"request_id"}
    assert unnoticed(services, LEDGER_ROWS, request_id=pack_id("shadow")) == rest


@pytest.mark.parametrize("table", [LEDGER_DIMENSIONS, LEDGER_ATTRIBUTES, LEDGER_TEMPLATES])
def test_what_records_share_is_as_it_was_stored(services: AdminServices, table: Table) -> None:
    assert unnoticed(services, table, id=1) == set()


def test_sums_are_those_of_the_records(services: AdminServices) -> None:
    assert unnoticed(services, HOURLY_SUMS, dimension_id=1) == set()


def test_a_detail_that_is_none_any_more_is_named(services: AdminServices) -> None:
    change(services, LEDGER_ROWS, {"request_id": pack_id("alone")}, {"template_id": 99})
    (found,) = [each for each in verified(services).first if each.column == "detail"]
    assert "the detail of the record 'alone' cannot be read" in found.found


def test_it_is_named_where_the_sums_of_its_hour_are_gone_too(services: AdminServices) -> None:
    change(services, LEDGER_ROWS, {"request_id": pack_id("alone")}, {"template_id": 99})
    with writing(services.engine) as connection:
        connection.execute(delete(HOURLY_SUMS))
    assert verified(services).counts["detail"] == 1


def test_a_detail_that_is_json_but_no_object_is_named(services: AdminServices) -> None:
    with writing(services.engine) as connection:
        connection.execute(insert(LEDGER_TEMPLATES).values(id=99, digest=b"by hand", detail_template="[]"))
    row = {"request_id": pack_id("alone")}
    change(services, LEDGER_ROWS, row, {"template_id": 99, "detail_numbers": b""})
    (found,) = [each for each in verified(services).first if each.column == "detail"]
    assert found.found.endswith("it is list, not dict")
