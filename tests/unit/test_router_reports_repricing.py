"""A late correction of the price file: which rows it changes, by how much, and that it changes them once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.repricing import Amounts
from policies.spend import SpendRecord
from router.config import load_config
from router.prices import UnknownModel, load_prices
from router.reports.price_list import PriceList
from router.reports.repricing import Correction, Difference, Repricer, target_of
from tests.support.administration import write_config
from tests.support.spend import priced_record


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceList:
    config = load_config(write_config(tmp_path_factory.mktemp("config")))
    return PriceList(config, load_prices(config.prices))


def corrected(correction: Correction) -> SpendRecord:
    amounts = correction.amounts
    return replace(correction.record, **{name: getattr(amounts, name) for name in Amounts.__slots__})


def test_only_what_differs_is_corrected_and_only_once(prices: PriceList) -> None:
    right, wrong = priced_record("right"), priced_record("wrong", cost_nusd=5, price_effective_from="2023-06-13")
    repricer = Repricer(target_of(prices, "gpt-3.5-turbo", None), prices)
    (correction,) = repricer.corrections([right, wrong])
    assert corrected(correction) == replace(right, request_id="wrong")
    assert repricer.corrections([right, corrected(correction)]) == []
    assert (repricer.tally.row_count, repricer.tally.concerned_count, repricer.tally.changed_count) == (4, 4, 1)
    assert repricer.tally.by_deployment == {
        ("small", "gpt-4"): Difference(1, 5, 2_000_000, 90_000_000, 90_000_000),
    }


def test_a_model_concerns_those_it_served_those_it_is_the_baseline_of_and_those_it_failed(prices: PriceList) -> None:
    rows = [
        priced_record("baseline", cost_nusd=1),
        priced_record("served", cost_nusd=1, deployment="large", request_model="gpt-4", baseline_model="gpt-4o"),
        priced_record("failed", cost_nusd=1, detail={"billed_attempts": [["large", 10, 1]]}, baseline_model="gpt-4o"),
        priced_record("other", cost_nusd=1, baseline_model="gpt-4o"),
    ]
    found = Repricer(target_of(prices, "gpt-4", None), prices).corrections(rows)
    assert [correction.record.request_id for correction in found] == ["baseline", "served", "failed"]


def test_a_deployment_concerns_what_it_served_and_what_measured_that(prices: PriceList) -> None:
    served_by = {"deployment": "large", "request_model": "gpt-4"}
    rows = [
        priced_record("measuring", cost_nusd=1, kind="shadow", detail={"measured_deployment": "small"}, **served_by),
        priced_record("measuring-other", kind="shadow", detail={"measured_deployment": "medium"}, **served_by),
        priced_record("small", cost_nusd=1),
        priced_record("large", cost_nusd=1, deployment="large", request_model="gpt-4"),
    ]
    found = Repricer(target_of(prices, None, "small"), prices).corrections(rows)
    assert [correction.record.request_id for correction in found] == ["measuring", "small"]
    assert Repricer(target_of(prices, "gpt-4o", "large"), prices).corrections(rows) == []


def test_what_cannot_be_reckoned_is_left_and_counted(prices: PriceList) -> None:
    rows = [
        priced_record("changed", deployment="small", request_model="another", cost_nusd=7),
        priced_record("impossible", cached_input_tokens=2_000),
        priced_record("reserved", usage_source="reserved", cost_nusd=7, baseline_cost_nusd=1),
    ]
    repricer = Repricer(target_of(prices, "gpt-4", None), prices)
    (correction,) = repricer.corrections(rows)
    assert (corrected(correction).cost_nusd, corrected(correction).baseline_cost_nusd) == (7, 90_000_000)
    assert repricer.tally.left_count == 3


@pytest.mark.parametrize(
    ("model", "deployment", "message"),
    [
        (None, None, "name a model of the price file"),
        (None, "lagre", "no deployment 'lagre' in the configuration; known are small, large"),
    ],
)
def test_a_target_that_is_not_known_is_refused(
    prices: PriceList, model: str | None, deployment: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        target_of(prices, model, deployment)


def test_an_unknown_model_is_refused(prices: PriceList) -> None:
    with pytest.raises(UnknownModel, match="near names: 'gpt-4-turbo'"):
        target_of(prices, "gpt-4-turb", None)
