"""From how many requests a day on a machine of one's own is cheaper: exact, and so held against counting."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.amortization import Hardware, HardwarePrice, MachineUse, Throughput
from policies.break_even import (
    Api,
    Mix,
    SelfHosted,
    always_cheaper_from,
    api_option,
    break_even_requests,
    curve,
    curve_requests,
    self_hosted_option,
)
from policies.catalog import Price
from policies.money import NUSD_PER_USD
from policies.schedules import Schedule

DAY = date(2026, 1, 5)
BOX = Hardware("box", (HardwarePrice(DAY, Fraction(2 * NUSD_PER_USD)),))
MIX = Mix(Fraction(300), Fraction(100))


def cheaper(hosted: SelfHosted, api: Api, requests: int) -> bool:
    return hosted.nusd_per_day(requests) < api.nusd_per_day(requests)


def test_the_first_request_that_pays() -> None:
    api, hosted = Api("api", Fraction(10)), SelfHosted("own", Fraction(100))
    assert break_even_requests(hosted, api) == 11, "at 10 the two cost the same"
    assert break_even_requests(SelfHosted("own", Fraction(101)), api) == 11
    assert break_even_requests(SelfHosted("own", Fraction(0)), api) == 1


def test_what_costs_more_by_the_request_never_pays() -> None:
    hosted = SelfHosted("own", Fraction(100), nusd_per_request=Fraction(10))
    assert break_even_requests(hosted, Api("api", Fraction(10))) is None
    assert always_cheaper_from(hosted, Api("api", Fraction(10))) is None


def test_a_machine_that_cannot_take_enough_never_pays_however_many_there_are() -> None:
    api = Api("api", Fraction(10))
    assert break_even_requests(SelfHosted("own", Fraction(100), requests_per_day=10), api) is None
    assert break_even_requests(SelfHosted("own", Fraction(100), requests_per_day=11), api) == 11
    assert break_even_requests(SelfHosted("own", Fraction(100), requests_per_day=0), api) is None


def test_a_second_machine_is_idle_at_first() -> None:
    api, hosted = Api("api", Fraction(10)), SelfHosted("own", Fraction(100), requests_per_day=15)
    assert [count for count in range(1, 60) if cheaper(hosted, api, count)] == [
        *range(11, 16), *range(21, 31), *range(31, 60),
    ]  # fmt: skip
    assert (break_even_requests(hosted, api), always_cheaper_from(hosted, api)) == (11, 21)


@settings(max_examples=40)
@given(
    st.integers(0, 40),
    st.integers(1, 30),
    st.integers(0, 30),
    st.none() | st.integers(0, 60),
    st.integers(1, 4),
)
def test_break_even_is_what_counting_finds(day: int, api_fee: int, own_fee: int, most: int | None, count: int) -> None:
    api = Api("api", Fraction(api_fee, 3))
    hosted = SelfHosted("own", Fraction(day, 2), most, count, Fraction(own_fee, 3))
    # With at most 20 for a day and a third saved on a request, four machines are paid after 240.
    counted = [] if most == 0 else [n for n in range(1, 250) if cheaper(hosted, api, n)]
    found, always = break_even_requests(hosted, api), always_cheaper_from(hosted, api)
    assert found == (counted[0] if counted else None)
    if always is not None and always < 250:
        assert all(cheaper(hosted, api, n) for n in range(always, 250))
        assert always == 1 or not cheaper(hosted, api, always - 1)


def test_an_api_takes_its_list_price_for_the_average_request() -> None:
    price = Price(DAY, input_nusd_per_mtok=1_000_000, output_nusd_per_mtok=3_000_000)
    assert api_option("api", price, MIX).nusd_per_request == 600
    assert api_option("api", price, Mix(Fraction(1, 2), Fraction(0))).nusd_per_request == Fraction(1, 2)


def test_a_machine_takes_what_it_was_measured_to() -> None:
    tokens = MachineUse(BOX, throughput=Throughput(tokens_per_second=Fraction(1)))
    found = self_hosted_option("own", tokens, MIX, DAY)
    assert (found.machine_nusd_per_day, found.requests_per_day) == (48 * NUSD_PER_USD, 86_400 // 400)
    requests = MachineUse(BOX, throughput=Throughput(requests_per_second=Fraction(1)))
    assert self_hosted_option("own", requests, MIX, DAY).requests_per_day == 86_400
    assert self_hosted_option("own", MachineUse(BOX), MIX, DAY).requests_per_day is None
    nothing = Mix(Fraction(0), Fraction(0))
    assert self_hosted_option("own", tokens, nothing, DAY).requests_per_day is None


def test_a_machine_by_schedule_costs_and_takes_its_hours_only() -> None:
    office = Schedule(frozenset(range(5)), 9 * 60, 16 * 60)
    use = MachineUse(BOX, 2, office, throughput=Throughput(requests_per_second=Fraction(1)))
    found = self_hosted_option("own", use, MIX, DAY)
    assert (found.machine_nusd_per_day, found.requests_per_day) == (10 * NUSD_PER_USD, 5 * 3600)
    assert found.nusd_per_day(1) == 20 * NUSD_PER_USD, "both run"


def test_machines_on_demand_begin_with_one() -> None:
    use = MachineUse(BOX, 4, on_demand=True, throughput=Throughput(requests_per_second=Fraction(1)))
    found = self_hosted_option("own", use, MIX, DAY)
    assert [found.machines(count) for count in (1, 86_400, 86_401)] == [1, 1, 2]


def test_a_machine_that_is_too_slow_for_one_request_says_so() -> None:
    with pytest.raises(ValueError, match="longer than a day"):
        SelfHosted("own", Fraction(1), requests_per_day=0).machines(1)


def test_a_curve_shows_its_marks_and_goes_beyond() -> None:
    points = curve_requests([37, 0])
    assert points == (1, 2, 5, 10, 20, 37, 50, 100, 200)
    assert curve_requests([]) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert curve(Api("api", Fraction(3, 2)), (1, 2)) == (Fraction(3, 2), 3)
