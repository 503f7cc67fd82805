"""Who spent what, by the sums of every kind of SQL database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from router.stores.sql_directory import SqlDirectory
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_rates import SPENDERS, Spender, SqlRates
from tests.support.spend import spend_record

FROM_MS, TO_MS = 1_000, 2_000


@pytest.fixture
def rates(engine: Engine) -> SqlRates:
    records: list[dict[str, Any]] = [
        {"cost_nusd": 1, "project_id": "chat", "end_user": "ann"},
        {"cost_nusd": 2, "end_user": "ann", "deployment": "large"},
        {"cost_nusd": 4, "team_id": "sales", "end_user": "ann", "key_id": "key_2"},
        {"cost_nusd": 0, "team_id": "idle", "deployment": None, "cache": "hit"},
        {"cost_nusd": 8, "started_at_ms": FROM_MS},
        {"cost_nusd": 2**52, "started_at_ms": FROM_MS - 1},
        {"cost_nusd": 2**52, "started_at_ms": TO_MS},
    ]
    ledger = SqlLedger(engine)
    ledger.append([spend_record(f"r{at}", **{"started_at_ms": 1_500, **record}) for at, record in enumerate(records)])
    return SqlRates(engine)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("team", {"support": 11, "sales": 4}),
        ("project", {"chat": 1}),
        ("key", {"key_1": 11, "key_2": 4}),
        ("user", {"support/ann": 3, "sales/ann": 4}),
        ("model", {"mistral-7b": 13, "large": 2}),
    ],
)
def test_spend_is_summed_by_whoever_spent_it(rates: SqlRates, by: Spender, expected: dict[str, int]) -> None:
    assert by in SPENDERS
    assert rates.spent(by, FROM_MS, TO_MS) == expected


def test_one_team_is_told_from_the_others(rates: SqlRates) -> None:
    assert rates.spent("user", FROM_MS, TO_MS, "sales") == {"sales/ann": 4}
    assert rates.spent("model", FROM_MS, TO_MS, "nobody") == {}


def test_sums_beyond_what_a_double_holds_are_exact(rates: SqlRates) -> None:
    assert rates.spent("team", 0, TO_MS + 1)["support"] == 2**53 + 11


def test_a_key_that_was_replaced_counts_for_the_one_that_stands_in_for_it(engine: Engine) -> None:
    directory, ledger = SqlDirectory(engine), SqlLedger(engine)
    directory.create_team("support")
    old = directory.create_key("support", "chat")[0].id
    middle = directory.rotate_key(old)[0].id
    newest = directory.rotate_key(middle)[0].id
    ledger.append(
        [spend_record(f"of-{id_}", key_id=id_, started_at_ms=5, cost_nusd=1) for id_ in (old, middle, newest)]
    )
    assert SqlRates(engine).spent("key", 0, 10) == {newest: 3}
