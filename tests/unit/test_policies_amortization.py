"""What machines cost: exact, busy or idle, and what their tokens cost for it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.amortization import (
    Hardware,
    HardwarePrice,
    HourOfMachines,
    Load,
    MachineUse,
    Throughput,
    busy_share,
    capacity_share,
    cost_nusd,
    effective_nusd_per_ktok,
    hour_cost,
    hourly_of_day,
    hourly_of_month,
    hourly_of_purchase,
    hourly_of_year,
    list_price_nusd_per_mtok,
)
from policies.money import NUSD_PER_USD
from policies.schedules import DAY_MS, HOUR_MS, Schedule

DAY = date(2026, 1, 5)
MIDNIGHT_MS = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
TEN_TOKENS = Throughput(tokens_per_second=Fraction(10), parallel_requests=2)


def machine(*dollars_an_hour: str) -> Hardware:
    """At these prices, the first from 1 January on and each later one from the next day on: 2, 3, 4 ... January."""
    prices = (
        HardwarePrice(date(2026, 1, 1 + at), Fraction(price) * NUSD_PER_USD) for at, price in enumerate(dollars_an_hour)
    )
    return Hardware("box", tuple(prices))


def usd(amount: str) -> int:
    return int(Fraction(amount) * NUSD_PER_USD)


@pytest.mark.parametrize(
    ("hourly", "dollars"),
    [
        (hourly_of_day(Fraction(150)), "6.25"),
        (hourly_of_month(Fraction(1500)), "1500/730"),
        (hourly_of_year(Fraction(65_000)), "65000/8760"),
        (hourly_of_purchase(Fraction(200_000), Fraction(0), Fraction(3)), "200000/26280"),
        (hourly_of_purchase(Fraction(200_000), Fraction(20_000), Fraction(5, 2)), "180000/21900"),
    ],
)
def test_whatever_is_paid_becomes_a_price_by_the_hour(hourly: Fraction, dollars: str) -> None:
    assert hourly == Fraction(dollars)


def test_a_year_of_months_is_a_year() -> None:
    assert 12 * 730 * hourly_of_month(Fraction(1)) == 12 == 8760 * hourly_of_year(Fraction(12))


@pytest.mark.parametrize(("residual", "years"), [(Fraction(11), Fraction(3)), (Fraction(0), Fraction(0))])
def test_a_purchase_must_lose_its_price_over_time(residual: Fraction, years: Fraction) -> None:
    with pytest.raises(ValueError):
        hourly_of_purchase(Fraction(10), residual, years)


def test_an_hour_costs_its_price_busy_or_idle() -> None:
    use = MachineUse(machine("4"), count=2)
    assert hour_cost(use, MIDNIGHT_MS, Load()) == HourOfMachines(2, usd("8"))
    assert hour_cost(use, MIDNIGHT_MS, Load(1000, 10**9)) == HourOfMachines(2, usd("8"))


def test_part_of_an_hour_costs_its_part() -> None:
    assert cost_nusd(MachineUse(machine("4")), MIDNIGHT_MS, MIDNIGHT_MS + 40 * 60_000) == usd("4") * 2 // 3 + 1


def test_a_new_price_holds_from_midnight_on() -> None:
    use = MachineUse(machine("4", "6"))
    change_ms = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1000)
    assert cost_nusd(use, change_ms - HOUR_MS, change_ms) == usd("4")
    assert cost_nusd(use, change_ms, change_ms + HOUR_MS) == usd("6")
    assert cost_nusd(use, change_ms - HOUR_MS, change_ms + HOUR_MS) == usd("10")
    assert cost_nusd(use, change_ms - 10_000 * DAY_MS, change_ms - 10_000 * DAY_MS + HOUR_MS) == usd("4")


def test_a_machine_costs_nothing_while_its_schedule_has_it_off() -> None:
    office = MachineUse(machine("4"), 3, Schedule(start_minute=8 * 60 + 30, end_minute=18 * 60))
    found = [hour_cost(office, MIDNIGHT_MS + hour * HOUR_MS, Load()) for hour in (7, 8, 9)]
    assert found == [HourOfMachines(0, 0), HourOfMachines(3, usd("6")), HourOfMachines(3, usd("12"))]


@pytest.mark.parametrize(
    ("load", "units"),
    [(Load(), 0), (Load(1, 1), 1), (Load(9, 36_000), 1), (Load(9, 36_001), 2), (Load(9, 10**9), 3), (Load(1, 0), 1)],
)
def test_machines_on_demand_are_as_many_as_the_load_takes(load: Load, units: int) -> None:
    use = MachineUse(machine("4"), 3, on_demand=True, throughput=TEN_TOKENS)
    assert hour_cost(use, MIDNIGHT_MS, load) == HourOfMachines(units, units * usd("4"))


def test_platforms_take_their_fee_for_each_request() -> None:
    use = MachineUse(machine("4"), nusd_per_request=Fraction(10_500))
    assert hour_cost(use, MIDNIGHT_MS, Load(3)) == HourOfMachines(1, usd("4") + 31_500)


@given(
    st.lists(st.fractions(0, 100, max_denominator=1000), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(0, 10 * DAY_MS),
    st.lists(st.integers(0, 6 * DAY_MS), min_size=2, max_size=8),
)
def test_the_costs_of_parts_add_up_to_that_of_the_whole(
    dollars: list[Fraction], count: int, origin: int, offsets: list[int]
) -> None:
    """Each is rounded once, so that of the whole may differ by half a nano-USD for each part and itself."""
    use = MachineUse(machine(*map(str, dollars)), count, Schedule(start_minute=60, end_minute=20 * 60))
    start_ms = MIDNIGHT_MS - 7 * DAY_MS + origin
    cuts = [start_ms + offset for offset in sorted(offsets)]
    parts = [cost_nusd(use, *span) for span in pairwise(cuts)]
    assert abs(sum(parts) - cost_nusd(use, cuts[0], cuts[-1])) * 2 <= len(parts) + 1


def test_the_share_of_capacity_is_of_tokens_or_of_requests() -> None:
    by_tokens = MachineUse(machine("4"), throughput=TEN_TOKENS)
    by_requests = MachineUse(machine("4"), throughput=Throughput(requests_per_second=Fraction(1, 2)))
    load = Load(request_count=900, tokens=9_000)
    assert capacity_share(by_tokens, load, HOUR_MS) == Fraction(1, 4)
    assert capacity_share(by_requests, load, HOUR_MS) == Fraction(1, 2)
    assert capacity_share(by_tokens, load, 2 * HOUR_MS) == Fraction(1, 8)
    assert capacity_share(by_tokens, load, 0) is None
    assert capacity_share(MachineUse(machine("4")), load, HOUR_MS) is None


def test_the_busy_share_is_of_the_requests_that_were_measured_at_a_time() -> None:
    use = MachineUse(machine("4"), throughput=TEN_TOKENS)
    assert busy_share(use, Load(duration_ms=HOUR_MS), HOUR_MS) == Fraction(1, 2)
    untold = MachineUse(machine("4"), throughput=Throughput(tokens_per_second=Fraction(10)))
    assert busy_share(untold, Load(duration_ms=HOUR_MS), HOUR_MS) is None


def test_a_busy_machine_earns_its_cost_at_list_price() -> None:
    use = MachineUse(machine("3.6"), throughput=TEN_TOKENS)
    # $3.60 for 36,000 tokens are $100 a million.
    assert list_price_nusd_per_mtok(use, DAY) == usd("100")
    by_requests = MachineUse(machine("3.6"), throughput=Throughput(requests_per_second=Fraction(1)))
    assert list_price_nusd_per_mtok(by_requests, DAY, Fraction(10)) == usd("100")
    assert list_price_nusd_per_mtok(by_requests, DAY) is None
    assert list_price_nusd_per_mtok(MachineUse(machine("3.6")), DAY, Fraction(10)) is None


def test_a_list_price_includes_the_fees_of_platforms() -> None:
    use = MachineUse(machine("3.6"), throughput=TEN_TOKENS, nusd_per_request=Fraction(1_000))
    assert list_price_nusd_per_mtok(use, DAY, Fraction(100)) == usd("100.01")


@given(st.fractions(Fraction(1, 100), 1000), st.fractions(Fraction(1, 10), 100_000), st.integers(1, 10**6))
def test_a_list_price_never_falls_short_and_is_at_most_a_step_above(
    dollars: Fraction, tokens_per_second: Fraction, step: int
) -> None:
    hardware = Hardware("box", (HardwarePrice(DAY, dollars * NUSD_PER_USD),))
    use = MachineUse(hardware, throughput=Throughput(tokens_per_second=tokens_per_second))
    price = list_price_nusd_per_mtok(use, DAY, step_nusd=step)
    assert price is not None and price % step == 0
    exact = dollars * NUSD_PER_USD * 1_000_000 / (tokens_per_second * 3600)
    assert 0 <= price - exact < step


def test_tokens_of_an_idle_machine_are_dear() -> None:
    assert effective_nusd_per_ktok(usd("4"), 1_000) == usd("4")
    assert effective_nusd_per_ktok(usd("4"), 0) is None


@pytest.mark.parametrize(
    "values",
    [
        {"count": 0},
        {"on_demand": True},
        {"on_demand": True, "throughput": TEN_TOKENS, "schedule": Schedule()},
    ],
)
def test_what_no_use_can_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        MachineUse(machine("4"), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [{}, {"tokens_per_second": Fraction(0)}, {"tokens_per_second": Fraction(1), "requests_per_second": Fraction(1)}],
)
def test_one_rate_must_be_measured(values: dict[str, Fraction]) -> None:
    with pytest.raises(ValueError, match="exactly one of"):
        Throughput(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [[], [2, 1], [1, 1]])
def test_prices_must_be_dated_in_order(days: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Hardware("box", tuple(HardwarePrice(date(2026, 1, day), Fraction(1)) for day in days))


def test_no_price_is_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        HardwarePrice(DAY, Fraction(-1))
