"""Why a request went where it went, in words and in sums."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalog import Price
from policies.repricing import booked
from policies.spend import SpendRecord
from policies.usage import TokenUsage
from router.config import load_config
from router.prices import load_prices
from router.reports.explanation import Arithmetic, Explanation, explained, explanation_as_json, facts
from router.stores.sql_repricing import Replaced, Repricing
from tests.support.administration import PRICES, write_config
from tests.support.spend import spend_record

# 100 input and 50 output tokens: at gpt-3.5-turbo's $0.50 and $1.50, and at gpt-4's $30 and $60 per million.
WHOLE: dict[str, Any] = {
    "started_at_ms": int(datetime(2026, 11, 5, 8, tzinfo=UTC).timestamp() * 1000),
    "deployment": "small",
    "reason": "simple",
    "input_tokens": 100,
    "output_tokens": 50,
    "cost_nusd": 125_000,
    "price_effective_from": "2024-01-25",
    "baseline_input_tokens": 100,
    "baseline_output_tokens": 50,
    "baseline_cost_nusd": 6_000_000,
    "detail": {
        "chain": [["small", 200_000, 900_000], ["large", 9_000_000, 90_000_000]],
        "passed_over": [["tiny", "lacks tools"]],
        "signals": ["short", "一个问题"],
        "attempts": [{"deployment": "small", "error": "timed out"}, {"deployment": "small", "error": None}],
    },
}


def explanation(tmp_path: Path, **changes: Any) -> Explanation:
    record: SpendRecord = spend_record("req_1", **{**WHOLE, **changes})
    return explained(record, load_config(write_config(tmp_path)), load_prices(PRICES))


def told(tmp_path: Path, **changes: Any) -> dict[str, str]:
    return {name: value for name, value in facts(explanation(tmp_path, **changes)) if name}


def test_the_story_of_a_request(tmp_path: Path) -> None:
    assert facts(explanation(tmp_path)) == [
        ("request", "req_1"),
        ("when", "2026-11-05 08:00:00 UTC, 812 ms, first token after 95 ms"),
        ("who", "team support, key key_1"),
        ("asked for", "auto"),
        ("answered by", "small (mistral-7b-instruct-v0.2 at vllm)"),
        ("outcome", "ok, finished: stop, streamed"),
        ("why", "simple: the cheapest deployment that fits is good enough for a simple request"),
        ("judged", "score 0.125 -> simple, by heuristic (moderate from 0.4, complex from 0.7, as configured now)"),
        ("signals", "short; 一个问题"),
        ("considered", "small: about $0.0002, at most $0.0009"),
        ("", "large: about $0.009, at most $0.09"),
        ("passed over", "tiny: lacks tools"),
        ("tried", "small: timed out"),
        ("", "small: answered"),
        ("cache", "miss"),
        ("tokens", "100 input, 50 output (as the provider counted)"),
        (
            "cost",
            "(100 input x $0.50 + 50 output x $1.50) / 1M tokens = $0.000125; gpt-3.5-turbo, price of 2024-01-25",
        ),
        (
            "baseline",
            "(100 input x $30.00 + 50 output x $60.00) / 1M tokens = $0.006; gpt-4, price of 2023-03-14 (an estimate)",
        ),
        ("saved", "$0.005875"),
        ("of that", "smaller model: $0.005875"),
    ]


def test_of_a_refusal_it_is_told_which_budget_it_was_and_where_that_stood(tmp_path: Path) -> None:
    stood = {"budget": "team:support:month", "unit": "usd", "limit": 20_000_000, "spent": 15_000_000}
    refused = {"status": "refused", "reason": "refused", "deployment": None}
    story = told(tmp_path, **refused, detail={"refused_by": {**stood, "held": 0, "needed": 9_000_000}})
    assert story["refused by"] == (
        "the budget team:support:month: of 0.02 USD, 0.015 USD were spent and 0.00 USD held; "
        "the cheapest way would have taken 0.009 USD"
    )


def test_what_attempts_before_the_answer_cost_is_told_apart(tmp_path: Path) -> None:
    billed = {"billed_attempts": [["small", 100, 50_000]]}
    story = told(tmp_path, input_tokens=200, cost_nusd=175_000, retries_nusd=50_000, detail=billed)
    assert story["cost"].startswith("(100 input x $0.50 + 50 output x $1.50) / 1M tokens = $0.000125")
    assert story["cost"].endswith("; and $0.00005 for attempts before")


def test_a_discount_that_the_baseline_would_have_had_is_in_its_arithmetic(tmp_path: Path) -> None:
    cached = {"baseline_cached_input_tokens": 40}
    story = told(tmp_path, baseline_model="gpt-4o", baseline_cost_nusd=700_000, detail=cached)
    assert "60 input x $2.50 + 40 cached input x $1.25" in story["baseline"]


def test_sums_that_do_not_arrive_at_the_bill_are_not_shown(tmp_path: Path) -> None:
    story = told(tmp_path, cost_nusd=126_000, baseline_cost_nusd=7_000_000)
    assert story["cost"].startswith("$0.000126 as booked; today's configuration no longer has the price")
    assert story["baseline"] == "$0.007 on gpt-4, as reckoned with another price (an estimate)"


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"cache": "hit", "usage_source": "cache", "cost_nusd": 0, "price_effective_from": None}, "cost", "a repeat"),
        ({"cache": "hit"}, "answered by", "the response cache; first answered by small"),
        ({"usage_source": "reserved", "price_effective_from": None}, "cost", "booked at its reservation"),
        ({"deployment": None, "status": "refused"}, "answered by", "nobody"),
        ({"usage_source": "none", "cost_nusd": 0, "price_effective_from": None}, "cost", "no tokens were used"),
        ({"baseline_cost_nusd": 0}, "baseline", "no answer to compare with"),
        ({"deployment": "gone"}, "cost", "no longer has the price"),
        ({"baseline_model": "no-such-model"}, "baseline", "another price"),
        ({"status": "error", "error_code": "upstream_timeout"}, "outcome", "error, upstream_timeout"),
        ({"simulated": True}, "answered by", "SIMULATED"),
        ({"reason": "newer"}, "why", "no longer a known reason"),
        ({"first_token_ms": None}, "when", ", 812 ms"),
        ({"estimator": "lengths-1"}, "baseline", "(an estimate, lengths-1)"),
        (
            {"deployment": "large", "cost_nusd": 6_000_000, "price_effective_from": "2023-03-14"},
            "baseline",
            "(exact: the baseline itself answered)",
        ),
        ({"kind": "shadow", "baseline_cost_nusd": 0}, "baseline", "nothing: it measures"),
        ({"baseline_price_effective_from": "2023-03-14", "started_at_ms": 0}, "baseline", "price of 2023-03-14"),
        ({"cost_nusd": 7_000_000}, "saved", "-$0.001"),
        ({"reason": "budget"}, "of that", "downgrade by budget: $0.005875"),
        (
            {"kind": "shadow", "parent_id": "req_0", "sample_share": 0.05},
            "measures",
            "request req_0 (shadow, drawn with a share of 0.05); its answer went to nobody",
        ),
        (
            {"observed_deployment": "tiny", "observed_cost_nusd": 90_000},
            "observed",
            "routing would have sent it to tiny: $0.00009 for an answer as long",
        ),
        ({"observed_deployment": "tiny", "status": "error"}, "observed", "routing would have sent it to tiny"),
    ],
)
def test_other_stories(tmp_path: Path, changes: dict[str, Any], name: str, words: str) -> None:
    assert words in told(tmp_path, **changes)[name]


def test_a_pinned_request_was_not_judged(tmp_path: Path) -> None:
    story = told(tmp_path, score=None, tier=None, classifier=None, reason="pinned", detail={})
    assert not {"judged", "signals", "considered", "passed over", "tried"} & set(story)


def test_cached_input_has_its_own_term(tmp_path: Path) -> None:
    prices = load_prices(PRICES)
    price = prices.model("gpt-4o").prices.prices[-1]
    assert price.cached_input_nusd_per_mtok is not None
    config = write_config(tmp_path)
    config.write_text(config.read_text(encoding="utf-8").replace("price: gpt-3.5-turbo", "price: gpt-4o"), "utf-8")
    cost = -(-(60 * price.input_nusd_per_mtok + 40 * price.cached_input_nusd_per_mtok
               + 50 * price.output_nusd_per_mtok) // 10**6)  # fmt: skip
    record = spend_record(
        **{**WHOLE, "cached_input_tokens": 40, "cost_nusd": cost, "price_effective_from": str(price.effective_from)}
    )
    shown = explained(record, load_config(config), prices)
    assert shown.cost is not None
    assert [(kind, tokens) for kind, tokens, _ in shown.cost.terms()] == [
        ("input", 60),
        ("cached input", 40),
        ("output", 50),
    ]


TIERED = Price(
    date(2026, 1, 1),
    input_nusd_per_mtok=3_000_000_000,
    output_nusd_per_mtok=15_000_000_000,
    tiers=(
        Price(
            date(2026, 1, 1),
            input_nusd_per_mtok=6_000_000_000,
            output_nusd_per_mtok=22_500_000_000,
            cached_input_nusd_per_mtok=600_000_000,
            cache_write_nusd_per_mtok=7_500_000_000,
            above_input_tokens=200_000,
        ),
    ),
)


@given(
    st.sampled_from([TIERED, *TIERED.tiers]),
    st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 9_999),
)  # fmt: skip
def test_the_terms_multiply_out_to_the_total(price: Price, fresh: int, cached: int, written: int, output: int) -> None:
    usage = TokenUsage(fresh + cached + written, output, cached, cache_write_input_tokens=written)
    sums = Arithmetic("model", price, usage)
    total = sum(count * per_mtok for _, count, per_mtok in sums.terms())
    assert sums.total_nusd == -(-total // 10**6)
    assert sum(count for kind, count, _ in sums.terms() if kind != "output") == usage.input_tokens


def test_a_long_request_is_told_at_the_rates_of_its_tier() -> None:
    usage = TokenUsage(300_000, 10, cached_input_tokens=100_000, cache_write_input_tokens=50_000)
    sums = Arithmetic("long", TIERED, usage)
    assert sums.in_words() == (
        "(150000 input x $6.00 + 100000 cached input x $0.60 + 50000 cache write x $7.50 + 10 output x $22.50) "
        "/ 1M tokens = $1.335225; long, price of 2026-01-01 above 200000 input tokens"
    )
    assert sums.as_json()["above_input_tokens"] == 200_000


def test_both_versions_of_a_repriced_request_are_told(tmp_path: Path) -> None:
    record = spend_record("req_1", **WHOLE)
    repricing = Repricing(3, WHOLE["started_at_ms"], "cli:ann", "the invoice says so", row_count=9)
    replaced = [Replaced(repricing, replace(booked(record), cost_nusd=250_000, price_effective_from="2023-01-01"))]
    shown = explained(record, load_config(write_config(tmp_path)), load_prices(PRICES), replaced)
    told = facts(shown)
    at = told.index(("repriced", "2026-11-05T08:00:00.000+00:00 by cli:ann: the invoice says so"))
    assert told[at + 1] == ("", "cost $0.00025 -> $0.000125, price of 2023-01-01 -> 2024-01-25")
    (version,) = explanation_as_json(shown)["repricings"]
    assert (version["id"], version["actor"], version["reason"]) == (3, "cli:ann", "the invoice says so")
    assert (version["before"]["cost_nusd"], version["after"]["cost_nusd"]) == (250_000, 125_000)
    assert version["after"]["price_effective_from"] == "2024-01-25"


def test_json_has_the_record_and_the_sums(tmp_path: Path) -> None:
    values = explanation_as_json(explanation(tmp_path))
    assert (values["request_id"], values["saved_nusd"], values["saved_usd"]) == ("req_1", 5_875_000, "0.005875")
    assert values["thresholds_now"] == {"moderate_from": 0.4, "complex_from": 0.7}
    assert values["cost_arithmetic"]["total_nusd"] == values["cost_nusd"] == 125_000
    assert values["baseline_arithmetic"]["terms"][1] == {
        "kind": "output", "tokens": 50, "nusd_per_mtok": 60 * 10**9, "usd_per_mtok": "60.00",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (0.41, "score 0.4100 < 0.52 -> simple, by heuristic (quality target 0.95)"),
        (0.52, "score 0.5200 >= 0.52 -> simple, by heuristic (quality target 0.95)"),
    ],
)
def test_a_quality_target_is_told_with_the_threshold_of_that_time(tmp_path: Path, score: float, words: str) -> None:
    detail = {"quality_target": 0.95, "threshold": 0.52}
    assert told(tmp_path, score=score, detail=detail)["judged"] == words


def test_a_quality_target_configured_since_is_told_as_such(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    text = path.read_text(encoding="utf-8").replace("{moderate_from: 0.4, complex_from: 0.7}", "{quality_target: 0.95}")
    path.write_text(text, encoding="utf-8")
    shown = explained(spend_record("req_1", **WHOLE), load_config(path), load_prices(PRICES))
    assert dict(facts(shown))["judged"].endswith("by heuristic (quality target 0.95, as configured now)")
    assert explanation_as_json(shown)["thresholds_now"] == {"quality_target": 0.95}


@pytest.mark.parametrize(
    ("configured", "words", "now"),
    [
        ("{}", "the classifier's own thresholds", (None, None)),
        ("{moderate_from: 0.1}", "moderate from 0.1", (0.1, None)),
    ],
)
def test_thresholds_left_to_the_classifier_are_told_as_such(
    tmp_path: Path, configured: str, words: str, now: tuple[float | None, float | None]
) -> None:
    path = write_config(tmp_path)
    text = path.read_text(encoding="utf-8").replace("{moderate_from: 0.4, complex_from: 0.7}", configured)
    path.write_text(text, encoding="utf-8")
    shown = explained(spend_record("req_1", **WHOLE), load_config(path), load_prices(PRICES))
    assert dict(facts(shown))["judged"].endswith(f"by heuristic ({words}, as configured now)")
    assert explanation_as_json(shown)["thresholds_now"] == dict(
        zip(("moderate_from", "complex_from"), now, strict=True)
    )
