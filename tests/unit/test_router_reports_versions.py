"""Several corrections of one record: each says what it found and what it made of that."""

from __future__ import annotations

from dataclasses import replace

from policies.repricing import Amounts, booked
from router.reports.versions import versions_as_json, versions_in_words
from router.stores.sql_repricing import Replaced, Repricing
from tests.support.spend import spend_record

NOW = spend_record("r", cost_nusd=100, retries_nusd=0, prompt_cache_nusd=0, baseline_cost_nusd=900,
                   price_effective_from="2026-01-01", baseline_price_effective_from="2026-01-02")  # fmt: skip
FIRST = Amounts(400, 50, -20, 800, None, "2026-01-02")
SECOND = replace(booked(NOW), cost_nusd=200)
REPLACED = (
    Replaced(Repricing(1, 0, "cli:ann", "late", row_count=1), FIRST),
    Replaced(Repricing(2, 60_000, "cli:bob", "again", row_count=1), SECOND),
)


def test_each_correction_is_told_with_what_it_changed() -> None:
    assert versions_in_words(NOW, REPLACED) == [
        "1970-01-01T00:00:00.000+00:00 by cli:ann: late",
        (
            "cost $0.0000004 -> $0.0000002, of it for attempts before $0.00000005 -> $0.00, difference by "
            "prompt caches -$0.00000002 -> $0.00, counterfactual $0.0000008 -> $0.0000009, "
            "price of an unknown day -> 2026-01-01"
        ),
        "1970-01-01T00:01:00.000+00:00 by cli:bob: again",
        "cost $0.0000002 -> $0.0000001",
    ]


def test_what_one_correction_made_is_what_the_next_one_found() -> None:
    first, second = versions_as_json(NOW, REPLACED)
    assert first["before"]["retries_nusd"] == 50
    assert first["after"] == second["before"]
    assert second["after"]["cost_nusd"] == NOW.cost_nusd


def test_a_record_that_was_never_corrected_has_one_version() -> None:
    assert versions_in_words(NOW, ()) == []
    assert versions_as_json(NOW, ()) == []
