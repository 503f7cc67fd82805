"""The machines of a deployment as the configuration says them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from policies.amortization import Throughput
from policies.schedules import Schedule
from router.config_hardware import HardwareUse, ScheduleConfig, ThroughputConfig

LEAST: dict[str, Any] = {"name": "a100-40gb"}
MEASURED: dict[str, Any] = {"tokens_per_second": "6434.866"}


def test_the_least_is_one_machine_that_always_runs() -> None:
    use = HardwareUse(**LEAST)
    assert (use.count, use.on_demand, use.schedule, use.throughput, use.platforms) == (1, False, None, None, ())


def test_a_schedule_is_read_with_its_days_and_its_zone() -> None:
    config = ScheduleConfig(days=("mon", "sun"), start="08:30", end="18:00", timezone="Europe/Berlin")
    assert config.schedule() == Schedule(frozenset({0, 6}), 510, 1080, "Europe/Berlin")


@pytest.mark.parametrize("end", ["24:00", "00:00"])
def test_a_schedule_may_end_at_midnight(end: str) -> None:
    assert ScheduleConfig(start="08:00", end=end).schedule().end_minute == 1440


def test_a_throughput_is_exact() -> None:
    assert ThroughputConfig(**MEASURED, parallel_requests=64).throughput() == Throughput(
        tokens_per_second=Fraction("6434.866"), parallel_requests=64
    )
    assert ThroughputConfig(requests_per_second=12).throughput().requests_per_second == 12


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"count": 0}, "greater than or equal to 1"),
        ({"counts": 2}, "Extra inputs"),
        ({"schedule": {"start": 1080}}, 'found 1080; write hours and minutes in quotes'),
        ({"schedule": {"start": "8:00"}}, "found '8:00'"),
        ({"schedule": {"end": "25:00"}}, "found '25:00'"),
        ({"schedule": {"start": "24:00"}}, "a schedule starts at 0 to 1439"),
        ({"schedule": {"days": []}}, "days are []"),
        ({"schedule": {"days": ["Monday"]}}, "'mon'"),
        ({"schedule": {"timezone": "Mars/Olympus"}}, "'Mars/Olympus' is no time zone"),
        ({"throughput": {}}, "exactly one of tokens_per_second and requests_per_second"),
        ({"throughput": {**MEASURED, "requests_per_second": 1}}, "exactly one of"),
        ({"throughput": {"tokens_per_second": "0"}}, "above 0"),
        ({"throughput": {"tokens_per_second": 0.5}}, "a float cannot hold every decimal amount"),
        ({"throughput": {"tokens_per_second": "fast"}}, "'fast' is not an amount"),
        ({"throughput": {**MEASURED, "parallel_requests": 0}}, "greater than or equal to 1"),
        ({"on_demand": True}, "on_demand needs a throughput"),
        ({"on_demand": True, "throughput": MEASURED, "schedule": {}}, "on_demand and a schedule"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError) as raised:
        HardwareUse(**{**LEAST, **values})
    assert part in str(raised.value)
