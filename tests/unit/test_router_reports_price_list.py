"""Which price a record has: of its day, or the one that it names; and why it has none any more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from policies.spend import SpendRecord
from router.config import load_config
from router.prices import UnknownModel, load_prices
from router.reports.price_list import PriceList, PricesNamed, PricesOfTheDay
from tests.support.administration import write_config
from tests.support.spend import spend_record


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceList:
    config = load_config(write_config(tmp_path_factory.mktemp("config")))
    return PriceList(config, load_prices(config.prices))


def ms(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


def record(**changes: Any) -> SpendRecord:
    """Of `small`, whose price in 2023 ended on 2024-01-25."""
    return spend_record(**{"deployment": "small", "request_model": "mistral-7b", "detail": {}, **changes})


def test_the_price_of_the_day_and_the_one_named(prices: PriceList) -> None:
    last, first = record(started_at_ms=ms(2024, 1, 25) - 1), record(started_at_ms=ms(2024, 1, 25))
    of_the_day = [PricesOfTheDay(prices).served(each) for each in (last, first)]
    assert [price and price.effective_from.isoformat() for price in of_the_day] == ["2023-06-13", "2024-01-25"]
    named = PricesNamed(prices).served(record(started_at_ms=ms(2024, 1, 24), price_effective_from="2024-01-25"))
    assert named == of_the_day[1]


@pytest.mark.parametrize("named", [None, "2024-01-26"])
def test_a_price_that_is_not_named_or_not_there_is_none(prices: PriceList, named: str | None) -> None:
    assert PricesNamed(prices).served(record(price_effective_from=named)) is None


def test_a_baseline_whose_price_is_not_named_is_priced_by_the_day(prices: PriceList) -> None:
    of_the_day = PricesOfTheDay(prices).baseline(record())
    assert of_the_day is not None
    assert PricesNamed(prices).baseline(record()) == of_the_day
    assert PricesNamed(prices).baseline(record(baseline_price_effective_from="1999-01-01")) is None


@pytest.mark.parametrize(
    ("changes", "gaps"),
    [
        ({}, []),
        ({"request_model": "gpt-3.5-turbo"}, []),  # as simulated deployments name it
        ({"request_model": "another"}, ["no longer says what its deployment is priced at"]),
        ({"deployment": "gone"}, ["no longer says what its deployment is priced at"]),
        ({"detail": {"billed_attempts": [["gone", 1, 1]]}}, ["no longer says what its deployment is priced at"]),
        ({"usage_source": "reserved", "deployment": "gone"}, ["nobody counted its tokens"]),
        ({"usage_source": "cache", "deployment": "gone"}, []),
        ({"baseline_model": "gone"}, ["no price is known for its baseline"]),
        ({"baseline_model": "gone", "baseline_input_tokens": 0, "baseline_output_tokens": 0}, []),
    ],
)
def test_gaps_are_told_in_words(prices: PriceList, changes: dict[str, Any], gaps: list[str]) -> None:
    found = prices.gaps(record(**changes))
    assert len(found) == len(gaps)
    assert all(words in sentence for words, sentence in zip(gaps, found, strict=True))


def test_a_record_depends_on_the_prices_of_all_that_it_touched(prices: PriceList) -> None:
    def models_of(found: SpendRecord) -> set[str]:
        return {model for model in ("gpt-3.5-turbo", "gpt-4", "gpt-4o") if prices.matters_to(found, model)}

    assert models_of(record()) == {"gpt-3.5-turbo", "gpt-4"}
    retried = record(detail={"billed_attempts": [["large", 10, 1]]}, baseline_model="gpt-4o")
    assert models_of(retried) == {"gpt-3.5-turbo", "gpt-4", "gpt-4o"}
    assert models_of(record(deployment=None, baseline_input_tokens=0, baseline_output_tokens=0)) == set()


def test_an_unknown_model_is_refused_with_near_names(prices: PriceList) -> None:
    assert prices.schedule("gpt-4-trubo") is None
    with pytest.raises(UnknownModel, match="'gpt-4-turbo'"):
        prices.known_schedule("gpt-4-trubo")
