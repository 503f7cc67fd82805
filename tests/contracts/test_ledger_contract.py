"""What every Ledger must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine

from policies.budget import Budget
from policies.spend import FIELD_NAMES, SpendRecord
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


def test_columns_are_the_fields_of_the_record_but_detail_is_in_two() -> None:
    names = tuple(LEDGER.columns.keys())
    assert names[: len(FIELD_NAMES) - 1] == FIELD_NAMES[:-1]
    assert {"detail_template", "detail_numbers"} < set(names[len(FIELD_NAMES) - 1 :])


def test_a_record_comes_back_as_it_was_booked(ledger: Ledger) -> None:
    whole = spend_record(
        "req_1",
        error_code="e",
        reasoning_tokens=3,
        cached_input_tokens=2,
        abandoned_nusd=7,
        simulated=True,
        project_id="web",
        end_user="客户",
        tags=",batch,",
        deployment_tier="simple",
    )
    bare = spend_record(
        "req_2", deployment=None, provider_name=None, score=None, tier=None, first_token_ms=None, detail={}
    )
    assert ledger.append([whole, bare]) == 2
    assert ledger.get("req_1") == whole
    assert ledger.get("req_2") == bare
    assert ledger.get("req_3") is None


def test_nothing_to_append(ledger: Ledger) -> None:
    assert ledger.append([]) == 0


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_however_many_come_together_each_comes_back(ledger: Ledger, count: int) -> None:
    records = [spend_record(f"req_{at:03}", cost_nusd=at, end_user=f"None, {at}\t") for at in range(count)]
    assert ledger.append(records) == count
    assert [record for part in ledger.records(*EVER) for record in part] == records


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


# the truth about abandoned requests

GUESS = spend_record("req_1", status="abandoned", usage_source="reserved", cost_nusd=2_000_000, duration_ms=0)
TRUTH = spend_record("req_1", cost_nusd=840_000)
CORRECTED = replace(TRUTH, abandoned_nusd=2_000_000)


def test_the_truth_takes_the_place_of_what_was_booked_for_an_abandoned_request(ledger: Ledger) -> None:
    assert ledger.append([GUESS]) == 1
    assert ledger.get("req_1") == GUESS
    assert ledger.append([TRUTH]) == 1
    assert ledger.get("req_1") == CORRECTED


def test_the_truth_is_told_once(ledger: Ledger) -> None:
    ledger.append([GUESS])
    ledger.append([TRUTH])
    for late in (TRUTH, GUESS, replace(TRUTH, cost_nusd=1, status="error")):
        assert ledger.append([late]) == 0
    assert ledger.get("req_1") == CORRECTED


def test_a_second_guess_changes_nothing(ledger: Ledger) -> None:
    assert ledger.append([GUESS, replace(GUESS, cost_nusd=1)]) == 1
    assert ledger.get("req_1") == GUESS


def test_a_guess_after_the_truth_changes_nothing(ledger: Ledger) -> None:
    ledger.append([TRUTH])
    assert ledger.append([GUESS]) == 0
    assert ledger.get("req_1") == TRUTH


@pytest.mark.parametrize(("batch", "booked", "changed"), [([GUESS, TRUTH], CORRECTED, 2), ([TRUTH, GUESS], TRUTH, 1)])
def test_a_guess_and_its_truth_in_one_batch(
    ledger: Ledger, batch: list[SpendRecord], booked: SpendRecord, changed: int
) -> None:
    others = [spend_record("req_0"), spend_record("req_2")]
    assert ledger.append([others[0], *batch, others[1]]) == changed + 2
    assert ledger.get("req_1") == booked


def test_writers_who_share_requests_in_opposite_orders_do_not_block_each_other(ledger: Ledger) -> None:
    guesses = [replace(GUESS, request_id=f"req_{i}") for i in range(100)]
    truths = [replace(TRUTH, request_id=guess.request_id) for guess in reversed(guesses)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ledger.append, [guesses, truths] * 4))
    booked = [ledger.get(guess.request_id) for guess in guesses]
    assert [record and record.cost_nusd for record in booked] == [TRUTH.cost_nusd] * 100


# what counts against a budget


def usage(ledger: Ledger, kind: str, subject: str, from_ms: int = 0, to_ms: int = 2**53, **changes: Any) -> Any:
    """Of a budget of that subject; a bare number where no end users and no parts are told apart."""
    bucket_ms = changes.pop("bucket_ms", None)
    budget = Budget(id="b", subject_kind=kind, subject_id=subject, limit=1, **changes)  # type: ignore[arg-type]
    used = ledger.usage(budget, from_ms, to_ms, bucket_ms)
    return used[("", 0)] if used.keys() == {("", 0)} else used


def test_money_by_subject(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", cost_nusd=1, team_id="support", key_id="k1", project_id="web"),
            spend_record("b", cost_nusd=2, team_id="support", key_id="k2", project_id="web"),
            spend_record("c", cost_nusd=4, team_id="support", key_id="k2", project_id="app"),
            spend_record("d", cost_nusd=8, team_id="sales", key_id="k3"),
            spend_record("e", cost_nusd=0, team_id="idle", key_id="k4"),
        ]
    )
    assert usage(ledger, "organization", "default") == 15
    assert [usage(ledger, "team", team) for team in ("support", "sales", "idle", "none")] == [7, 8, {}, {}]
    assert [usage(ledger, "project", project) for project in ("web", "app", "none")] == [3, 4, {}]
    assert [usage(ledger, "key", key) for key in ("k1", "k2", "k3")] == [1, 6, 8]


def test_usage_is_half_open_and_exact(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", started_at_ms=99, cost_nusd=100),
            spend_record("b", started_at_ms=100, cost_nusd=1),
            spend_record("c", started_at_ms=199, cost_nusd=9_000_000_000_000_001),
            spend_record("d", started_at_ms=200, cost_nusd=100),
        ]
    )
    used = usage(ledger, "team", "support", 100, 200)
    assert (used, type(used)) == (9_000_000_000_000_002, int)


def test_tokens_and_requests_leave_out_what_the_cache_answered_and_what_was_refused(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("asked", reason="simple", input_tokens=120, output_tokens=80),
            spend_record("failed", reason="fallback", status="error", input_tokens=5, output_tokens=0),
            spend_record("hit", reason="cache", cache="hit", input_tokens=1_000, output_tokens=1_000),
            spend_record("refused", reason="refused", status="refused", input_tokens=0, output_tokens=0),
        ]
    )
    assert usage(ledger, "team", "support", unit="tokens") == 205
    assert usage(ledger, "team", "support", unit="requests") == 2
    assert usage(ledger, "team", "support", unit="parallel", window="now") == {}


def test_end_users_of_one_team(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", cost_nusd=1, end_user="ann"),
            spend_record("b", cost_nusd=2, end_user="a/b"),
            spend_record("c", cost_nusd=4, end_user="Ann"),
            spend_record("d", cost_nusd=8, end_user=""),
            spend_record("e", cost_nusd=16, end_user="ann", team_id="sales"),
            spend_record("f", cost_nusd=32, end_user="ann"),
        ]
    )
    assert usage(ledger, "user", "support/ann") == 33
    assert usage(ledger, "user", "support/a/b") == 2
    assert usage(ledger, "user", "support/*") == {("ann", 0): 33, ("a/b", 0): 2, ("Ann", 0): 4}
    assert usage(ledger, "user", "sales/*") == {("ann", 0): 16}


def test_a_budget_of_every_user_leaves_out_who_has_one_of_their_own_of_its_kind(ledger: Ledger, engine: Engine) -> None:
    directory = SqlDirectory(engine)
    directory.create_team("support")
    own = {"subject_kind": "user", "limit": 1}
    for subject, window in (("support/ann", "month"), ("support/ben", "day")):
        directory.put_budget(Budget(**own, subject_id=subject, window=window))  # type: ignore[arg-type]
    ledger.append([spend_record(user, cost_nusd=1, end_user=user) for user in ("ann", "ben", "eve")])
    assert usage(ledger, "user", "support/*") == {("ben", 0): 1, ("eve", 0): 1}
    assert usage(ledger, "user", "support/*", window="day") == {("ann", 0): 1, ("eve", 0): 1}
    assert usage(ledger, "user", "support/*", model="gpt-4") == {}
    assert usage(ledger, "user", "support/ann") == 1


def test_a_user_who_calls_herself_everybody_falls_under_the_budget_of_every_user(
    ledger: Ledger, engine: Engine
) -> None:
    directory = SqlDirectory(engine)
    directory.create_team("support")
    directory.put_budget(Budget(subject_kind="user", subject_id="support/*", limit=1))
    ledger.append([spend_record(user, cost_nusd=1, end_user=user) for user in ("*", "ann")])
    assert usage(ledger, "user", "support/*") == {("*", 0): 1, ("ann", 0): 1}


def test_a_record_with_a_nul_in_it_is_kept(ledger: Ledger) -> None:
    assert ledger.append([spend_record("r", response_model="a\0b", detail={"signal": "c\0d"})]) == 1
    kept = ledger.get("r")
    assert kept is not None
    assert (kept.response_model, kept.detail) == ("a\ufffdb", {"signal": "c\0d"})


TEXTS = ("request_id", "parent_id", "end_user", "tags", "team_id", "request_model", "response_model", "task")


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_may_have_a_nul_and_none_half_a_character(ledger: Ledger, name: str) -> None:
    """Half of a pair of surrogates: what Python takes for a text, and no encoding does."""
    good = spend_record("good")
    with pytest.raises(LedgerRefused, match="surrogates not allowed"):
        ledger.append([good, spend_record(**{name: "a\ud800b"})])
    assert ledger.get("good") is None
    assert ledger.append([good, spend_record(**{"request_id": "odd", name: "a\0\\\t\n\r'b"})]) == 2
    kept = ledger.get("a\0\\\t\n\r'b" if name == "request_id" else "odd")
    assert kept is not None and getattr(kept, name) == "a\ufffd\\\t\n\r'b"


@pytest.mark.parametrize(
    ("tag", "found"), [("batch", 1), ("a_b", 2), ("night", 4), ("BATCH", 8), ("a%", 16), ("atch", {}), ("axb", {})]
)
def test_a_tag_is_found_as_it_is_written(ledger: Ledger, tag: str, found: Any) -> None:
    ledger.append(
        [
            spend_record("a", cost_nusd=1, tags=",batch,"),
            spend_record("b", cost_nusd=2, tags=",a_b,other,"),
            spend_record("c", cost_nusd=4, tags=",first,night,last,"),
            spend_record("d", cost_nusd=8, tags=",BATCH,"),
            spend_record("e", cost_nusd=16, tags=",a%,"),
            spend_record("f", cost_nusd=32, tags=""),
        ]
    )
    assert usage(ledger, "tag", tag) == found


def test_budgets_of_one_model_or_tier(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", cost_nusd=1, deployment="small", deployment_tier="simple", tier="complex"),
            spend_record("b", cost_nusd=2, deployment="large", deployment_tier="complex", tier="simple"),
            spend_record("c", cost_nusd=4, deployment="other", deployment_tier="complex"),
            spend_record("d", cost_nusd=8, deployment=None, deployment_tier=None),
        ]
    )
    assert usage(ledger, "team", "support", model="large") == 2
    assert usage(ledger, "team", "support", tier="complex") == 6
    assert usage(ledger, "team", "support", tier="complex", model="small") == {}


def test_parts_of_a_rolling_window(ledger: Ledger) -> None:
    ledger.append(
        [
            spend_record("a", started_at_ms=1_999, cost_nusd=1, end_user="ann"),
            spend_record("b", started_at_ms=2_000, cost_nusd=2, end_user="ann"),
            spend_record("c", started_at_ms=2_999, cost_nusd=4, end_user="bob"),
            spend_record("d", started_at_ms=1_793_000_000_000, cost_nusd=8, end_user="bob"),
        ]
    )
    assert usage(ledger, "team", "support", 0, 10_000, bucket_ms=1_000) == {("", 1): 1, ("", 2): 6}
    assert usage(ledger, "team", "support", 10_000, bucket_ms=1_000) == {("", 1_793_000_000): 8}
    assert usage(ledger, "user", "support/*", 0, 10_000, bucket_ms=1_000) == {
        ("ann", 1): 1,
        ("ann", 2): 2,
        ("bob", 2): 4,
    }


def test_a_replaced_keys_use_counts_for_its_successor(ledger: Ledger, engine: Engine) -> None:
    directory = SqlDirectory(engine)
    directory.create_team("support")
    first, _ = directory.create_key("support", "chat")
    other, _ = directory.create_key("support", "other")
    ledger.append([spend_record("a", key_id=first.id, cost_nusd=5), spend_record("x", key_id=other.id, cost_nusd=90)])
    second, _ = directory.rotate_key(first.id)
    ledger.append([spend_record("b", key_id=second.id, cost_nusd=7)])
    third, _ = directory.rotate_key(second.id)
    ledger.append([spend_record("c", key_id=third.id, cost_nusd=1)])
    assert usage(ledger, "key", third.id) == 13
    assert usage(ledger, "key", other.id) == 90


def test_an_abandoned_request_counts_as_reserved_until_the_truth_is_known(ledger: Ledger) -> None:
    ledger.append([GUESS])
    assert usage(ledger, "team", "support") == 2_000_000
    ledger.append([TRUTH])
    assert usage(ledger, "team", "support") == 840_000


# what cannot be


def test_what_can_never_be_stored_is_refused_whole(ledger: Ledger) -> None:
    with pytest.raises(LedgerRefused):
        ledger.append([spend_record("good"), spend_record("bad", cost_nusd=2**70)])
    assert ledger.get("good") is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("request_id", 7, "record 7: request_id is int, not str"),
        ("started_at_ms", -1, "record 'bad': started_at_ms is before 1970"),
        ("input_tokens", 1.5, "record 'bad': input_tokens is float, not int"),
        ("cost_nusd", 2**62, "record 'bad': cost_nusd is 4611686018427387904; the largest"),
        ("prompt_cache_nusd", -(2**62), "record 'bad': prompt_cache_nusd is -4611686018427387904; the largest"),
        ("first_token_ms", "95", "record 'bad': first_token_ms is str, not NoneType or int"),
        ("score", True, "record 'bad': score is bool, not NoneType or float or int"),
        ("end_user", None, "record 'bad': end_user is NoneType, not str"),
        ("detail", [], "record 'bad': detail is list, not dict"),
        ("detail", {"at": object()}, "record 'bad': detail cannot be JSON"),
        ("team_id", ["support"], "record 'bad': team_id is list, not str"),
        ("task", {}, "record 'bad': task is dict, not NoneType or str"),
        ("attempts", None, "record 'bad': attempts is NoneType, not int"),
    ],
)
def test_a_field_that_cannot_be_is_named(ledger: Ledger, name: str, value: object, told: str) -> None:
    good = spend_record("good")
    for _ in range(2):  # the second time with what records share known already
        with pytest.raises(LedgerRefused) as raised:
            ledger.append([replace(good, request_id="a"), replace(spend_record("bad"), **{name: value})])
        assert str(raised.value).startswith(told)
        ledger.append([good])


def test_an_unreachable_database_is_unavailable(tmp_path: Path) -> None:
    sqlite = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")  # no tables yet
    postgres = create_ledger_engine(f"postgresql://user:secret@/none?host={tmp_path}")
    for broken in (SqlLedger(sqlite), SqlLedger(postgres)):
        with pytest.raises(StoreUnavailable) as raised:
            broken.append([spend_record()])
        assert "secret" not in str(raised.value)
        with pytest.raises(StoreUnavailable):
            broken.get("req_1")


def test_what_records_share_is_as_it_was_stored(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.append(
        [
            spend_record("odd", response_model="a\0b", error_code="坏", simulated=True, project_id=None),
            spend_record("plain", detail={"chain": [["large", 5, -9.5]], "signals": []}, finish_reasons=""),
        ]
    )
    assert ledger.altered_texts() == []
