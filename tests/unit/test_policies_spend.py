"""A record of spend survives its journey as JSON, and a newer writer."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from policies.money import MAX_NUSD
from policies.spend import FIELD_NAMES, SpendRecord

AMOUNTS = st.integers(0, MAX_NUSD)
RECORDS = st.builds(
    SpendRecord,
    request_id=st.text(),
    started_at_ms=st.integers(0, 2**53),
    duration_ms=st.integers(0, 2**31),
    team_id=st.text(),
    key_id=st.text(),
    project_id=st.none() | st.text(),
    end_user=st.text(),
    tags=st.sampled_from(["", ",batch,", ",batch,night,"]),
    alias=st.text(),
    reason=st.text(),
    tier=st.none() | st.sampled_from(["simple", "moderate", "complex"]),
    score=st.none() | st.floats(0, 1),
    status=st.sampled_from(["ok", "error", "cancelled", "refused", "abandoned"]),
    deployment_tier=st.none() | st.sampled_from(["simple", "moderate", "complex"]),
    cost_nusd=AMOUNTS,
    abandoned_nusd=AMOUNTS,
    baseline_model=st.text(),
    baseline_cost_nusd=AMOUNTS,
    detail=st.dictionaries(st.text(), st.integers() | st.text()),
)


@given(RECORDS)
def test_a_record_survives_json(record: SpendRecord) -> None:
    assert SpendRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@given(RECORDS)
def test_names_that_a_newer_writer_added_are_dropped(record: SpendRecord) -> None:
    assert SpendRecord.from_json(record.to_json() | {"from_the_future": 1}) == record


@given(RECORDS)
def test_a_record_of_an_older_writer_is_of_nobody_and_had_no_guess_before_it(record: SpendRecord) -> None:
    added = ("project_id", "end_user", "tags", "deployment_tier", "abandoned_nusd")
    older = {name: value for name, value in record.to_json().items() if name not in added}
    read = SpendRecord.from_json(older)
    assert [getattr(read, name) for name in added] == [None, "", "", None, 0]
    assert read.to_json() == record.to_json() | {name: getattr(read, name) for name in added}


@given(RECORDS)
def test_savings_are_the_counterfactual_less_the_cost(record: SpendRecord) -> None:
    assert record.savings_nusd + record.cost_nusd == record.baseline_cost_nusd


def test_every_field_goes_on_the_wire() -> None:
    record = SpendRecord(
        request_id="r", started_at_ms=0, duration_ms=0, team_id="t", key_id="k", alias="auto", reason="cheapest",
        status="ok", baseline_model="gpt-4",
    )  # fmt: skip
    assert tuple(record.to_json()) == FIELD_NAMES
