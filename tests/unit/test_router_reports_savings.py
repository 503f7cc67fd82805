"""The savings report: what each request is put down to, and that nothing is lost in adding up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.budget import Budget, BudgetState
from policies.routing import REASONS
from policies.spend import CacheStatus, SpendRecord, Status
from router.reports.savings import CAUSES, SavingsLine, SavingsReport, cause_of, report_span, savings_report
from router.stores.base import SpendGroup
from router.stores.sql_engine import create_ledger_engine, migrate
from router.stores.sql_ledger import SqlLedger
from tests.support.spend import spend_record

GROUP = SpendGroup(
    team_id="support",
    alias="auto",
    deployment="mistral-7b",
    request_model="mistral-7b-instruct",
    reason="simple",
    cache="miss",
    status="ok",
    usage_source="provider",
    baseline_model="gpt-4",
    simulated=False,
    request_count=1,
    input_tokens=10,
    output_tokens=20,
    cost_nusd=30,
    baseline_cost_nusd=300,
)


def report_of(records: Sequence[SpendRecord], **options: object) -> SavingsReport:
    engine = create_ledger_engine("sqlite://")
    migrate(engine)
    ledger = SqlLedger(engine)
    ledger.append(records)
    try:
        return savings_report(ledger, 0, 2**41, **options)  # type: ignore[arg-type]
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "smaller_model"),
        ({"cache": "hit", "request_model": None, "reason": "cache"}, "response_cache"),
        ({"cache": "hit", "deployment": "gpt-4", "reason": "cache"}, "response_cache"),
        ({"deployment": "gpt-4"}, "baseline"),
        ({"deployment": "big", "request_model": "gpt-4"}, "baseline"),
        ({"deployment": "azure-big"}, "baseline"),
        ({"reason": "pinned"}, "pinned"),
        ({"reason": "pinned", "deployment": "gpt-4"}, "baseline"),
        ({"reason": "refused", "deployment": None, "status": "refused"}, "other"),
        ({"reason": "simple", "deployment": None, "status": "abandoned"}, "other"),
    ],
)
def test_causes(changes: dict[str, object], cause: str) -> None:
    assert cause_of(replace(GROUP, **changes), {"azure-big"}) == cause  # type: ignore[arg-type]


def test_a_small_months_report() -> None:
    records = [
        spend_record("a", cost_nusd=100, baseline_cost_nusd=1000),
        spend_record("b", cost_nusd=0, baseline_cost_nusd=500, cache="hit", request_model=None, reason="cache"),
        spend_record("c", team_id="sales", deployment="gpt-4", cost_nusd=700, baseline_cost_nusd=700),
        spend_record("d", team_id="sales", deployment=None, status="refused", cost_nusd=0, baseline_cost_nusd=0),
    ]
    report = report_of(records)
    assert report.total == SavingsLine("total", 4, 480, 320, 800, 2200)
    assert (report.total.saved_nusd, report.total.saved_percent) == (1400, Decimal("63.6"))
    assert _saved(report.by_team) == {"support": 1400, "sales": 0}
    assert _saved(report.by_model) == {"mistral-7b": 900, "(response cache)": 500, "gpt-4": 0, "(none)": 0}
    assert _saved(report.by_cause) == {"smaller_model": 900, "response_cache": 500, "baseline": 0, "other": 0}
    assert _saved(report.by_status) == {"ok": 1400, "refused": 0}
    assert _saved(report.by_alias) == {"auto": 1400}
    assert (report.baseline_models, report.measured_nusd, report.simulated) == (("gpt-4",), 700, False)


def _saved(lines: Sequence[SavingsLine]) -> dict[str, int]:
    return {line.name: line.saved_nusd for line in lines}


def test_one_teams_report() -> None:
    report = report_of([spend_record("a"), spend_record("b", team_id="sales")], team_id="sales")
    assert (report.team_id, report.total.request_count) == ("sales", 1)


def test_nothing_at_all() -> None:
    report = report_of([])
    assert report.total == SavingsLine("total")
    assert report.total.saved_percent is None
    assert (report.by_team, report.by_cause, report.baseline_models) == ((), (), ())


def test_routing_may_cost_more() -> None:
    report = report_of([spend_record(cost_nusd=300, baseline_cost_nusd=200)])
    assert (report.total.saved_nusd, report.total.saved_percent) == (-100, Decimal("-50.0"))


def test_simulated_requests_are_counted() -> None:
    report = report_of([spend_record("a", simulated=True), spend_record("b")])
    assert (report.simulated, report.simulated_request_count) == (True, 1)


def test_budgets_are_shown_as_they_were_handed_in() -> None:
    state = BudgetState(Budget(id="b", subject_kind="team", subject_id="support", limit=100), "2026-11", 40, 20)
    assert report_of([], budgets=[state]).budgets == (state,)


@st.composite
def records(draw: st.DrawFn) -> list[SpendRecord]:
    amounts = st.integers(0, 2**45)
    return [
        spend_record(
            f"req_{i}",
            team_id=draw(st.sampled_from(["support", "sales", "研究"])),
            deployment=draw(st.sampled_from(["mistral-7b", "gpt-4", None])),
            alias=draw(st.sampled_from(["auto", "gpt-4"])),
            reason=draw(st.sampled_from(sorted(REASONS))),
            cache=draw(st.sampled_from(get_args(CacheStatus))),
            status=draw(st.sampled_from(get_args(Status))),
            simulated=draw(st.booleans()),
            input_tokens=draw(st.integers(0, 10**6)),
            cost_nusd=draw(amounts),
            baseline_cost_nusd=draw(amounts),
        )
        for i in range(draw(st.integers(0, 12)))
    ]


@given(records())
def test_every_breakdown_adds_up_to_the_total(booked: list[SpendRecord]) -> None:
    report = report_of(booked)
    assert report.total.realised_nusd == sum(record.cost_nusd for record in booked)
    assert report.total.saved_nusd == sum(record.savings_nusd for record in booked)
    for lines in (report.by_team, report.by_model, report.by_alias, report.by_cause, report.by_status):
        for field in fields(SavingsLine)[1:]:
            assert sum(getattr(line, field.name) for line in lines) == getattr(report.total, field.name)
    assert {line.name for line in report.by_cause} <= set(CAUSES)


NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("from_text", "to_text", "expected"),
    [
        (None, None, (ms(2026, 11, 1), ms(2026, 11, 21, 12, 30) + 1)),
        ("2026-10-01", "2026-11-01", (ms(2026, 10, 1), ms(2026, 11, 1))),
        ("2026-10-01T08:00+08:00", "2026-10-01T00:00:01", (ms(2026, 10, 1), ms(2026, 10, 1, 0, 0, 1))),
    ],
)
def test_spans(from_text: str | None, to_text: str | None, expected: tuple[int, int]) -> None:
    assert report_span(from_text, to_text, NOW) == expected


@pytest.mark.parametrize(
    ("from_text", "to_text", "message"),
    [
        ("yesterday", None, "'from' is 'yesterday'"),
        (None, "2026-13-01", "'to' is"),
        ("2026-12-01", None, "earlier"),
        (None, "9999-12-31T23:59:59-23:59", "allowed is 1970-01-01 to 9998-12-31"),
        (None, "9999-12-31T23:59:59", "'to' is .* allowed is"),
        ("0001-01-01T00:00+23:59", None, "'from' is .* allowed is"),
    ],
)
def test_spans_that_are_none(from_text: str | None, to_text: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report_span(from_text, to_text, NOW)
