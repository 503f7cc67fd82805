"""Counted tokens and a day -> what the baseline would have charged."""

from __future__ import annotations

from datetime import date

import pytest

from policies.baseline import Baseline, Counterfactual, counterfactual
from policies.catalog import Price, PriceSchedule
from policies.money import format_usd

GPT_4 = Baseline(
    model="gpt-4",
    prices=PriceSchedule("gpt-4", (Price(date(2023, 3, 14), 30_000_000_000, 60_000_000_000),)),
    tokenizer="cl100k_base",
)
GPT_35 = Baseline(
    model="gpt-3.5-turbo",
    prices=PriceSchedule(
        "gpt-3.5-turbo",
        (
            Price(date(2023, 6, 13), 1_500_000_000, 2_000_000_000),
            Price(date(2024, 1, 25), 500_000_000, 1_500_000_000),
        ),
    ),
)


@pytest.mark.parametrize(
    ("baseline", "day", "dollars"),
    [
        (GPT_4, date(2023, 12, 1), "499.01"),
        (GPT_35, date(2023, 12, 1), "23.76"),
        (GPT_35, date(2024, 1, 25), "8.91"),
    ],
)
def test_what_the_field_run_would_have_cost(baseline: Baseline, day: date, dollars: str) -> None:
    """The run that cost $2.67 on one A100."""
    found = counterfactual(baseline, 14_253_584, 1_190_095, day, "counted")
    assert format_usd(found.cost_nusd, decimals=2) == dollars


def test_it_keeps_its_tokens_and_its_basis() -> None:
    assert counterfactual(GPT_4, 1_000, 500, date(2026, 1, 1), "estimated") == Counterfactual(
        input_tokens=1_000, output_tokens=500, cost_nusd=60_000_000, basis="estimated"
    )


def test_the_baseline_gets_no_discount_on_cached_input() -> None:
    cached = Price(date(2024, 1, 1), 10_000_000, 10_000_000, cached_input_nusd_per_mtok=0)
    baseline = Baseline("m", PriceSchedule("m", (cached,)))
    assert counterfactual(baseline, 1_000_000, 0, date(2024, 1, 1), "reported").cost_nusd == 10_000_000


def test_without_a_basis_it_is_as_good_as_the_tokenizer() -> None:
    assert counterfactual(GPT_4, 1, 1, date(2024, 1, 1)).basis == "counted"
    assert counterfactual(GPT_35, 1, 1, date(2024, 1, 1)).basis == "estimated"


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        counterfactual(GPT_4, -1, 0, date(2024, 1, 1), "counted")
