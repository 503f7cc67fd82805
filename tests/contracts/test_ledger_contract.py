"""What every Ledger must do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Engine

from policies.spend import FIELD_NAMES
from router.errors import StoreUnavailable
from router.stores.base import Ledger, LedgerRefused
from router.stores.sql_directory import SqlDirectory
from router.stores.sql_engine import create_ledger_engine
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_schema import LEDGER
from tests.support.spend import spend_record

EVER = (0, 2**53)


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return SqlLedger(engine)


def test_columns_are_the_fields_of_the_record() -> None:
    assert tuple(LEDGER.columns.keys()) == FIELD_NAMES


def test_a_record_comes_back_as_it_was_booked(ledger: Ledger) -> None:
    whole = spend_record("req_1", error_code="e", reasoning_tokens=3, cached_input_tokens=2, simulated=True)
    bare = spend_record(
        "req_2", deployment=None, provider_name=None, score=None, tier=None, first_token_ms=None, detail={}
    )
    assert ledger.append([whole, bare]) == 2
    assert ledger.get("req_1") == whole
    assert ledger.get("req_2") == bare
    assert ledger.get("req_3") is None


def test_nothing_to_append(ledger: Ledger) -> None:
    assert ledger.append([]) == 0


def test_a_request_is_booked_once(ledger: Ledger) -> None:
    first = spend_record("req_1")
    assert ledger.append([first]) == 1
    assert ledger.append([replace(first, cost_nusd=1), spend_record("req_2"), spend_record("req_2")]) == 1
    assert ledger.get("req_1") == first


def test_writers_of_the_same_records_book_them_once(ledger: Ledger) -> None:
    records = [spend_record(f"req_{i}") for i in range(300)]
    new: list[int] = []
    threads = [Thread(target=lambda: new.append(ledger.append(records))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(new), sum(new)) == (4, 300)


def test_sums_are_exact_and_half_open(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", started_at_ms=100, cost_nusd=1),
            spend_record("b", started_at_ms=199, cost_nusd=9_000_000_000_000_001),
            spend_record("c", started_at_ms=200, cost_nusd=50),
        ]
    )
    (group,) = ledger.spend_groups(100, 200)
    assert (group.request_count, group.cost_nusd, group.baseline_cost_nusd) == (2, 9_000_000_000_000_002, 16_800_000)
    assert (group.input_tokens, group.output_tokens) == (240, 160)
    assert type(group.cost_nusd) is int


def test_groups_differ_in_every_dimension(ledger: Ledger) -> None:
    changes = [
        {},
        {"team_id": "sales"},
        {"alias": "gpt-4"},
        {"deployment": "gpt-4"},
        {"request_model": "gpt-4-0613"},
        {"reason": "pinned"},
        {"cache": "hit"},
        {"status": "error"},
        {"usage_source": "counted"},
        {"baseline_model": "gpt-4o"},
        {"simulated": True},
    ]
    ledger.append([spend_record(f"req_{i}", **change) for i, change in enumerate(changes)])
    groups = ledger.spend_groups(*EVER)
    assert len(groups) == len(changes)
    assert {group.request_count for group in groups} == {1}
    assert [group.team_id for group in ledger.spend_groups(*EVER, team_id="sales")] == ["sales"]


def test_spent_by_subject(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", started_at_ms=10, team_id="support", key_id="k1", cost_nusd=5),
            spend_record("b", started_at_ms=10, team_id="support", key_id="k2", cost_nusd=7),
            spend_record("c", started_at_ms=10, team_id="sales", key_id="k3", cost_nusd=0),
            spend_record("d", started_at_ms=20, team_id="sales", key_id="k3", cost_nusd=99),
        ]
    )
    assert ledger.spent_by_subject(10, 20) == {("team", "support"): 12, ("key", "k1"): 5, ("key", "k2"): 7}


def test_a_replaced_keys_spend_counts_for_its_successor(ledger: Ledger, engine: Engine) -> None:
    directory = SqlDirectory(engine)
    directory.create_team("support")
    first, _ = directory.create_key("support", "chat")
    ledger.append([spend_record("a", key_id=first.id, cost_nusd=5)])
    second, _ = directory.rotate_key(first.id)
    ledger.append([spend_record("b", key_id=second.id, cost_nusd=7)])
    third, _ = directory.rotate_key(second.id)
    assert ledger.spent_by_subject(*EVER) == {("team", "support"): 12, ("key", third.id): 12}


def test_what_can_never_be_stored_is_refused_whole(ledger: Ledger) -> None:
    with pytest.raises(LedgerRefused):
        ledger.append([spend_record("good"), spend_record("bad", cost_nusd=2**70)])
    assert ledger.get("good") is None


def test_an_unreachable_database_is_unavailable(tmp_path: Path) -> None:
    sqlite = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")  # no tables yet
    postgres = create_ledger_engine(f"postgresql://user:secret@/none?host={tmp_path}")
    for broken in (SqlLedger(sqlite), SqlLedger(postgres)):
        with pytest.raises(StoreUnavailable) as raised:
            broken.append([spend_record()])
        assert "secret" not in str(raised.value)
        with pytest.raises(StoreUnavailable):
            broken.get("req_1")
