"""The baseline's prices, at the figures of the field."""

from __future__ import annotations

from datetime import date

import pytest

from policies.baseline import Baseline
from policies.catalog import Price, PriceSchedule
from policies.money import format_usd
from policies.pricing import cost_of_tokens_nusd

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
    cost = cost_of_tokens_nusd(14_253_584, 1_190_095, baseline.prices.at(day))
    assert format_usd(cost, decimals=2) == dollars
