"""A record's amounts by its tokens: what is reckoned, what stays as booked, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalog import Price
from policies.drivers import drivers
from policies.pricing import cost_nusd, cost_of_tokens_nusd
from policies.repricing import Amounts, booked, reckoned
from policies.spend import SpendRecord
from policies.usage import TokenUsage
from tests.support.spend import spend_record

SMALL = Price(date(2024, 2, 1), 100_000_000, 200_000_000, cached_input_nusd_per_mtok=10_000_000)
LARGE = Price(date(2024, 3, 1), 1_000_000_000, 2_000_000_000, cached_input_nusd_per_mtok=500_000_000)


class Fixed:
    """One price for each part of every record."""

    def __init__(self, served: Price | None = SMALL, attempted: Price | None = LARGE, forgone: Price | None = LARGE):
        self._served, self._attempted, self._forgone = served, attempted, forgone

    def served(self, record: SpendRecord) -> Price | None:
        return self._served

    def attempted(self, record: SpendRecord, deployment: str) -> Price | None:
        return self._attempted

    def baseline(self, record: SpendRecord) -> Price | None:
        return self._forgone


def record(**changes: Any) -> SpendRecord:
    values = {"input_tokens": 1_000, "output_tokens": 500, "baseline_input_tokens": 900, "baseline_output_tokens": 400}
    return spend_record(**{**values, "detail": {}, **changes})


def test_both_sides_are_reckoned_and_dated() -> None:
    assert reckoned(record(), Fixed()) == Amounts(
        cost_nusd=200_000,
        retries_nusd=0,
        prompt_cache_nusd=0,
        baseline_cost_nusd=1_700_000,
        price_effective_from="2024-02-01",
        baseline_price_effective_from="2024-03-01",
    )


def test_attempts_that_failed_are_reckoned_at_their_own_price() -> None:
    retried = record(input_tokens=1_000 + 700, detail={"billed_attempts": [["other", 700, 1]]})
    amounts = reckoned(retried, Fixed())
    assert (amounts.cost_nusd, amounts.retries_nusd) == (200_000 + 700_000, 700_000)


def test_the_discounts_of_both_prompt_caches_are_told_apart() -> None:
    cached = record(cached_input_tokens=500, detail={"baseline_cached_input_tokens": 450})
    amounts = reckoned(cached, Fixed())
    assert amounts.cost_nusd == 200_000 - 45_000
    assert amounts.baseline_cost_nusd == 1_700_000 - 225_000
    assert amounts.prompt_cache_nusd == 45_000 - 225_000


def test_writing_to_the_cache_takes_from_its_discount() -> None:
    writing = replace(SMALL, cache_write_nusd_per_mtok=125_000_000)
    written = record(cached_input_tokens=100, detail={"cache_write_input_tokens": 400})
    amounts = reckoned(written, Fixed(served=writing))
    assert (amounts.cost_nusd, amounts.prompt_cache_nusd) == (200_000 - 9_000 + 10_000, 9_000 - 10_000)


def test_a_repeat_costs_nothing_and_has_no_share_in_the_discounts() -> None:
    hit = record(
        usage_source="cache",
        cache="hit",
        price_effective_from=None,
        cost_nusd=0,
        detail={"baseline_cached_input_tokens": 450},
    )
    amounts = reckoned(hit, Fixed())
    assert (amounts.cost_nusd, amounts.prompt_cache_nusd, amounts.price_effective_from) == (0, 0, None)
    assert amounts.baseline_cost_nusd == 1_700_000 - 225_000


def test_a_reservation_stays_as_it_was_booked() -> None:
    abandoned = record(
        status="abandoned", usage_source="reserved", cost_nusd=77, baseline_input_tokens=0, baseline_output_tokens=0,
        baseline_cost_nusd=0,
    )  # fmt: skip
    assert reckoned(abandoned, Fixed()) == booked(abandoned)


@pytest.mark.parametrize(
    ("prices", "kept"),
    [
        (Fixed(served=None), ("cost_nusd", "retries_nusd", "prompt_cache_nusd", "price_effective_from")),
        (Fixed(attempted=None), ("cost_nusd", "retries_nusd", "prompt_cache_nusd", "price_effective_from")),
        (Fixed(forgone=None), ("baseline_cost_nusd", "prompt_cache_nusd", "baseline_price_effective_from")),
    ],
)
def test_what_no_price_is_known_for_stays_as_it_was_booked(prices: Fixed, kept: tuple[str, ...]) -> None:
    retried = record(
        cost_nusd=7, retries_nusd=3, prompt_cache_nusd=-5, baseline_cost_nusd=11,
        detail={"billed_attempts": [["other", 700, 3]]},
    )  # fmt: skip
    changed = {name for name in Amounts.__slots__ if getattr(reckoned(retried, prices), name) != getattr(retried, name)}
    assert not changed & set(kept)
    assert changed


def test_a_shadow_has_no_counterfactual() -> None:
    shadow = record(kind="shadow", baseline_input_tokens=0, baseline_output_tokens=0, baseline_cost_nusd=0)
    amounts = reckoned(shadow, Fixed())
    assert (amounts.cost_nusd, amounts.baseline_cost_nusd, amounts.baseline_price_effective_from) == (200_000, 0, None)


def test_what_the_measured_counterfactual_was_discounted_is_taken_off_its_measure() -> None:
    usage = {"measured_deployment": "small", "measured_usage": [900, 400, 450, 0]}
    shadow = record(kind="shadow", baseline_input_tokens=0, baseline_output_tokens=0, detail=usage)
    amounts = reckoned(replace(shadow, cached_input_tokens=500), Fixed(served=LARGE))
    assert (amounts.cost_nusd, amounts.prompt_cache_nusd) == (2_000_000 - 250_000, 250_000 - 225_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"cached_input_tokens": 2_000},
        {"output_tokens": -1},
        {"detail": {"billed_attempts": [["other", 5_000, 1]]}},
        {"detail": {"baseline_cached_input_tokens": 901}},
        {"detail": {"measured_usage": [900, 400, 901, 0]}},
    ],
)
def test_tokens_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        reckoned(record(**changes), Fixed())


@given(
    tokens=st.tuples(*[st.integers(0, 10**6)] * 5),
    cached=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    above=st.none() | st.integers(1, 10**6),
)
def test_what_is_reckoned_still_adds_up_and_is_reckoned_the_same_again(
    tokens: tuple[int, ...], cached: tuple[float, float], above: int | None
) -> None:
    answer_input, output, baseline_input, baseline_output, attempted = tokens
    longer = replace(SMALL, input_nusd_per_mtok=300_000_000, above_input_tokens=above or 1)
    prices = Fixed(served=replace(SMALL, tiers=(longer,) if above else ()))
    asked = record(
        input_tokens=answer_input + attempted,
        output_tokens=output,
        cached_input_tokens=int(answer_input * cached[0]),
        baseline_input_tokens=baseline_input,
        baseline_output_tokens=baseline_output,
        detail={
            "billed_attempts": [["other", attempted, 0]],
            "baseline_cached_input_tokens": int(baseline_input * cached[1]),
        },
    )
    amounts = reckoned(asked, prices)
    answer = TokenUsage(answer_input, output, asked.cached_input_tokens)
    assert amounts.cost_nusd == cost_nusd(answer, prices._served or SMALL) + cost_of_tokens_nusd(attempted, 0, LARGE)
    corrected = replace(asked, **{name: getattr(amounts, name) for name in Amounts.__slots__})
    assert reckoned(corrected, prices) == amounts == booked(corrected)
    assert sum(drivers(corrected).values()) == corrected.savings_nusd
