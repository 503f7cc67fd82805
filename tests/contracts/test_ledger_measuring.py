"""What measuring costs is the organisation's, in the ledger as in the counters: no team pays for it from its budget."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from policies.budget import Budget
from policies.periods import parse_window, period_at
from policies.spend import SHADOW_TAG, SpendRecord
from router.config_shadow import ShadowConfig
from router.stores.base import Ledger
from router.stores.counters import counter_of, used_of
from router.stores.sql_ledger import SqlLedger
from tests.support.spend import spend_record

NOVEMBER = period_at(parse_window("month"), datetime(2026, 11, 1, tzinfo=UTC), "UTC")
REQUEST = spend_record("req_1", cost_nusd=1, project_id="web", end_user="ann", tags=",batch,")
SHADOW = spend_record(
    "req_2", kind="shadow", parent_id="req_1", sample_share=0.05, reason="shadow", cost_nusd=2, project_id="web",
    end_user="ann", tags=f",{SHADOW_TAG},", deployment="large",
)  # fmt: skip
JUDGE = spend_record("req_3", kind="judge", parent_id="req_1", cost_nusd=4, tags="", end_user="ann", project_id="web")


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return SqlLedger(engine)


@pytest.mark.parametrize(
    ("kind", "subject", "records"),
    [
        ("organization", "default", (REQUEST, SHADOW, JUDGE)),
        ("team", "support", (REQUEST,)),
        ("project", "web", (REQUEST,)),
        ("key", "key_1", (REQUEST,)),
        ("user", "support/ann", (REQUEST,)),
        ("user", "support/*", (REQUEST,)),
        ("tag", "batch", (REQUEST,)),
        ("tag", SHADOW_TAG, (SHADOW,)),
    ],
)
@pytest.mark.parametrize("unit", ["usd", "tokens", "requests"])
def test_a_recount_finds_what_the_counters_were_told(
    ledger: Ledger, kind: Any, subject: str, records: tuple[SpendRecord, ...], unit: Any
) -> None:
    ledger.append([REQUEST, SHADOW, JUDGE])
    budget = Budget(subject_kind=kind, subject_id=subject, limit=100, unit=unit)
    counted = sum(used_of(counter_of(budget, NOVEMBER, "ann"), record) for record in records)
    assert sum(ledger.usage(budget, 0, 2**53).values()) == counted > 0


def test_the_budget_of_shadows_is_one_that_the_ledger_can_recount(ledger: Ledger) -> None:
    ledger.append([REQUEST, SHADOW, JUDGE])
    assert ledger.usage(ShadowConfig(share=0.05).budget(), 0, 2**53) == {("", 0): 2}
