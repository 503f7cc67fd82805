"""The file of hardware: exact, dated, and refused with the place and the reason; and the figures of the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest

from policies.amortization import MachineUse, Throughput, cost_nusd, list_price_nusd_per_mtok
from policies.break_even import Mix, api_option, break_even_requests, self_hosted_option
from policies.money import NUSD_PER_USD, format_usd, round_half_up
from policies.pricing import cost_of_tokens_nusd
from router.config import Config, load_config
from router.config_hardware import HardwareUse
from router.hardware import (
    HardwareBook,
    HardwareFileError,
    UnknownHardware,
    hardware_problems,
    load_hardware,
    machines_of,
)
from router.prices import PriceBook, load_prices
from tests.support.administration import write_config

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = CONFIGS / "hardware.yaml"
TODAY = date(2026, 11, 22)

MINIMAL = """
hardware:
  box:
    prices:
      - effective_from: 2024-01-25
        hourly: "0.23"
        source: a bill
platforms:
  gateway:
    prices:
      - {effective_from: 2024-01-01, per_million_requests: "1", source: a page}
      - {effective_from: 2024-02-01, per_million_requests: "2", source: a page}
"""


@pytest.fixture(scope="module")
def shipped() -> HardwareBook:
    return load_hardware(SHIPPED)


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return load_prices(CONFIGS / "prices.yaml")


@pytest.fixture
def load_text(tmp_path: Path) -> Callable[[str], HardwareBook]:
    def load(text: str) -> HardwareBook:
        (tmp_path / "hardware.yaml").write_text(text, encoding="utf-8")
        return load_hardware(tmp_path / "hardware.yaml")

    return load


# ---- the shipped file ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hours", "dollars"),
    [
        ("a100-40gb", 1, "4"),
        ("ml.g5.4xlarge", 1, "5"),
        ("ml.m5.xlarge", 1, "0.23"),
        ("instance-150-a-day", 24, "150"),
        ("cloud-7b", 730, "1500"),
        ("dgx-rented", 8760, "65000"),
        ("dgx-bought", 3 * 8760, "200000"),
    ],
)
def test_the_machines_of_the_field_cost_what_is_quoted(
    shipped: HardwareBook, name: str, hours: int, dollars: str
) -> None:
    price = shipped.machine(name).at(TODAY)
    assert price.nusd_per_hour * hours == Fraction(dollars) * NUSD_PER_USD
    assert price.source


# ---- the figures of the field ----------------------------------------------------------------------

RUN_INPUT, RUN_OUTPUT, RUN_MS = 14_253_584, 1_190_095, 40 * 60_000


@pytest.mark.parametrize(
    ("model", "day", "dollars", "times"),
    [("gpt-4", date(2023, 12, 1), "499.01", "187"), ("gpt-3.5-turbo", date(2023, 12, 1), "23.76", "8.9")],
)
def test_forty_minutes_of_an_a100_against_two_apis(
    shipped: HardwareBook, prices: PriceBook, model: str, day: date, dollars: str, times: str
) -> None:
    own = cost_nusd(MachineUse(shipped.machine("a100-40gb")), 0, RUN_MS)
    api = cost_of_tokens_nusd(RUN_INPUT, RUN_OUTPUT, prices.model(model).prices.at(day))
    assert (format_usd(own, 2), format_usd(api, 2)) == ("2.67", dollars)
    decimals = len(times.partition(".")[2])
    assert f"{api / own:.{decimals}f}" == times


def test_the_run_is_the_throughput_and_the_price_of_the_shipped_deployment(prices: PriceBook) -> None:
    config = load_config(CONFIGS / "parsimony.yaml")
    (use,) = machines_of(config, TODAY, "(router)").values()
    assert use.throughput is not None and use.throughput.tokens_per_second is not None
    measured = Fraction(RUN_INPUT + RUN_OUTPUT, 40 * 60)
    assert abs(use.throughput.tokens_per_second - measured) < Fraction(1, 1000)
    price = prices.model("mistral-7b").prices.at(TODAY)
    assert price.input_nusd_per_mtok == price.output_nusd_per_mtok == list_price_nusd_per_mtok(use, TODAY)


# The published comparison knows one price for all tokens, $0.002 per 1K: that of the list's output.
PAGE = Mix(Fraction(0), Fraction(667))
PAGE_DAY = date(2023, 12, 1)


@pytest.mark.parametrize(
    ("requests", "api_dollars", "own_dollars"), [(1_000, "1.33", "150.01"), (1_000_000, "1334.00", "161.00")]
)
def test_a_thousand_and_a_million_pages_a_day(
    shipped: HardwareBook, prices: PriceBook, requests: int, api_dollars: str, own_dollars: str
) -> None:
    api = api_option("gpt-3.5-turbo", prices.model("gpt-3.5-turbo").prices.at(PAGE_DAY), PAGE)
    settings = HardwareUse(name="instance-150-a-day", platforms=("aws-lambda", "aws-api-gateway"))
    own = self_hosted_option("own", shipped.use(settings, PAGE_DAY), PAGE, PAGE_DAY)
    shown = [format_usd(round_half_up(option.nusd_per_day(requests)), 2) for option in (api, own)]
    assert shown == [api_dollars, own_dollars]
    assert [shipped.platform(name, PAGE_DAY) * requests / NUSD_PER_USD for name in settings.platforms] == [
        Fraction(requests, 100_000),  # $0.01 and $10
        Fraction(requests, 1_000_000),
    ]
    found = break_even_requests(own, api)
    assert found is not None and 1_000 < found < 1_000_000
    assert own.nusd_per_day(found) < api.nusd_per_day(found)
    assert own.nusd_per_day(found - 1) >= api.nusd_per_day(found - 1)


@pytest.mark.parametrize("mix", [Mix(Fraction(1), Fraction(0)), Mix(Fraction(0), Fraction(1))])
def test_mistral_medium_is_seventy_percent_below_gpt_4_turbo(prices: PriceBook, mix: Mix) -> None:
    """Of the GPT-4 of its day, the 1106 preview. It is 27 % of that: the published figure is rounded."""
    day = date(2023, 12, 11)
    medium, gpt4 = (
        api_option(name, prices.model(name).prices.at(day), mix).nusd_per_request
        for name in ("mistral-medium", "gpt-4-1106-preview")
    )
    assert medium / gpt4 == Fraction(27, 100)
    assert round((1 - medium / gpt4) * 10) == 7


def test_gpt_4o_mini_costs_15_and_60_cents_a_million(prices: PriceBook) -> None:
    price = prices.model("gpt-4o-mini").prices.at(date(2024, 7, 18))
    million = Fraction(1_000_000)
    found = [
        api_option("mini", price, mix).nusd_per_request
        for mix in (Mix(million, million * 0), Mix(million * 0, million))
    ]
    assert [format_usd(round_half_up(amount), 2) for amount in found] == ["0.15", "0.60"]


# ---- any file --------------------------------------------------------------------------------------


def test_the_least_file_is_enough(load_text: Callable[[str], HardwareBook]) -> None:
    book = load_text(MINIMAL)
    assert book.machine("box").at(TODAY).nusd_per_hour == 230_000_000
    assert [book.platform("gateway", date(2024, month, 1)) for month in (1, 2, 3)] == [1_000, 2_000, 2_000]
    assert book.platform("gateway", date(2023, 1, 1)) == 1_000


def test_what_was_bought_is_spread_over_its_years(load_text: Callable[[str], HardwareBook]) -> None:
    bought = 'bought: {price: "8760", residual: "876", years: "3", running_hourly: "0.1"}'
    price = load_text(MINIMAL.replace('hourly: "0.23"', bought)).machine("box").at(TODAY)
    assert price.nusd_per_hour == Fraction("0.4") * NUSD_PER_USD


def test_platforms_can_be_left_out(load_text: Callable[[str], HardwareBook]) -> None:
    book = load_text(MINIMAL.partition("platforms")[0])
    with pytest.raises(UnknownHardware, match=r"there is no platform 'gateway' in hardware\.yaml; known are: none"):
        book.platform("gateway", TODAY)


def test_a_use_has_its_machine_and_the_fees_of_its_day(load_text: Callable[[str], HardwareBook]) -> None:
    book = load_text(MINIMAL)
    settings = HardwareUse(name="box", count=2, throughput={"tokens_per_second": "2.5"}, platforms=("gateway",))  # type: ignore[arg-type]
    use = book.use(settings, date(2024, 1, 31))
    assert use == MachineUse(
        book.machine("box"), 2, None, False, Throughput(tokens_per_second=Fraction("2.5")), Fraction(1_000)
    )
    assert book.use(settings, date(2024, 2, 1)) == replace(use, nusd_per_request=Fraction(2_000))


def test_an_unknown_machine_is_told_with_near_names(shipped: HardwareBook) -> None:
    with pytest.raises(UnknownHardware, match=r"no hardware 'a100' in hardware\.yaml; near names: 'a100-40gb'; known"):
        shipped.machine("a100")


@pytest.mark.parametrize(
    ("found", "instead", "part"),
    [
        ('hourly: "0.23"', "hourly: 0.23", "hardware.box.prices.0.hourly: write 0.23 as a string or an integer"),
        ('hourly: "0.23"', 'hourly: "-1"', "hardware.box.prices.0.hourly: '-1' is not an amount"),
        ('hourly: "0.23"', "daily:", "exactly one of hourly, daily, monthly, yearly, bought must be given; found none"),
        ('hourly: "0.23"', 'hourly: "1"\n        yearly: "2"', "found hourly and yearly"),
        ('hourly: "0.23"', 'bought: {price: "1", years: "0"}', "hardware.box.prices.0.bought.years"),
        ('hourly: "0.23"', 'bought: {price: "1", years: "3", residual: "2"}', "found a residual of 2"),
        ("2024-01-25", "20240125", "hardware.box.prices.0.effective_from: must be a date such as 2024-01-25"),
        ("2024-02-01", "2024-01-01", "platforms.gateway.prices.1.effective_from: found 2024-01-01 after 2024-01-01"),
        ("        source: a bill\n", "", "hardware.box.prices.0.source: is missing"),
        ("box:", "box: {}\n  crate:", "hardware.box.prices: is missing"),
        ("hourly:", "weekly:", "hardware.box.prices.0.weekly: is not a known key"),
        ("  gateway:", "  gateway: {prices: []}\n  other:", "platforms.gateway.prices"),
        ("hardware:", "hardware: [", "is not YAML"),
        (MINIMAL, "", "(top level)"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    load_text: Callable[[str], HardwareBook], tmp_path: Path, found: str, instead: str, part: str
) -> None:
    assert found in MINIMAL
    with pytest.raises(HardwareFileError) as raised:
        load_text(MINIMAL.replace(found, instead))
    assert str(raised.value).startswith(f"{tmp_path / 'hardware.yaml'}: ")
    assert part in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HardwareFileError, match="cannot be read: No such file"):
        load_hardware(tmp_path / "hardware.yaml")


# ---- the configuration -----------------------------------------------------------------------------


def config_with(folder: Path, *, router: str | None = None, small: str | None = None) -> Config:
    config = load_config(write_config(folder))
    deployments = [
        deployment.model_copy(
            update={"hardware": HardwareUse(name=small)} if small and deployment.name == "small" else {}
        )
        for deployment in config.deployments
    ]
    return config.model_copy(
        update={
            "hardware": SHIPPED,
            "deployments": tuple(deployments),
            "router_hardware": HardwareUse(name=router) if router else None,
        }
    )


def test_without_machines_no_file_is_needed(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    assert not config.hardware.exists()
    assert (machines_of(config, TODAY, "(router)"), list(hardware_problems(config))) == ({}, [])


def test_machines_are_known_by_what_they_serve(tmp_path: Path) -> None:
    found = machines_of(config_with(tmp_path, router="ml.m5.xlarge", small="a100-40gb"), TODAY, "(router)")
    assert {name: use.hardware.name for name, use in found.items()} == {
        "small": "a100-40gb",
        "(router)": "ml.m5.xlarge",
    }


def test_machines_that_nobody_priced_are_named_by_their_keys(tmp_path: Path) -> None:
    problems = list(hardware_problems(config_with(tmp_path, router="m5", small="b200")))
    assert [problem.partition(" in ")[0] for problem in problems] == [
        "deployments.0.hardware: there is no hardware 'b200'",
        "router_hardware: there is no hardware 'm5'",
    ]
