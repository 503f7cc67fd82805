"""What is settled is counted, told of and kept as its record says."""

from __future__ import annotations

import orjson

from policies.budget import Budget
from router.pipeline.budgets import ApplicableBudgets, applied_to_measuring
from router.pipeline.settle import Settler
from router.stores.admission import BEFORE_ANY_EPOCH, Settlement
from router.stores.base import Principal
from router.telemetry import Telemetry
from tests.support.spend import spend_record

NOW_S = 1_793_500_000.0
TEAM = Budget(subject_kind="team", subject_id="support", limit=100)
WORLD = Budget(subject_kind="organization", subject_id="default", limit=100, unit="tokens")
OWN = Budget(subject_kind="tag", subject_id="(shadow)", limit=100)
PRINCIPAL = Principal("key_1", "support", "application", None, (WORLD, TEAM))


class Kept:
    """An admission store that only listens."""

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []

    def settle(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)


def test_a_record_is_booked_and_counted_by_what_applies_to_it() -> None:
    store, telemetry = Kept(), Telemetry()
    record = spend_record(cost_nusd=7, input_tokens=3, output_tokens=2)
    applied = ApplicableBudgets().of(PRINCIPAL, "", (), NOW_S)
    Settler(store, telemetry, 60).settle(record, applied=applied, epoch="e", cache_key="k", answer=b"a")  # type: ignore[arg-type]
    (settlement,) = store.settlements
    assert (settlement.request_id, settlement.epoch, settlement.admitted) == ("req_1", "e", True)
    assert (settlement.amounts, settlement.cache_key, settlement.keep_seconds) == ((5, 7), "k", 60)
    assert orjson.loads(settlement.record) == orjson.loads(orjson.dumps(record.to_json()))
    assert b'parsimony_requests_total{cache="miss"' in telemetry.exposition()


def test_without_budgets_nothing_is_counted_and_without_a_key_nothing_is_kept() -> None:
    store = Kept()
    Settler(store, Telemetry(), 60).settle(spend_record(), admitted=False)  # type: ignore[arg-type]
    (settlement,) = store.settlements
    assert (settlement.amounts, settlement.keep_seconds, settlement.admitted) == ((), 0, False)
    assert settlement.epoch == BEFORE_ANY_EPOCH


def test_measuring_counts_against_the_organisation_and_its_own_budget_only() -> None:
    applied = applied_to_measuring(PRINCIPAL, OWN, NOW_S)
    assert applied.budgets == (WORLD, OWN)
