"""`hardware`: what machine serves a deployment, from when to when, and how much it can."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from policies.amortization import Throughput
from policies.money import parse_amount
from policies.schedules import MINUTES_PER_DAY, WEEKDAYS, Schedule
from router.sections import Name, Section

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


def _amount(value: Any) -> Any:
    if value is None or not isinstance(value, (str, int, float)):
        raise ValueError('must be a decimal number written as a string, such as "6434.9"')
    parse_amount(value)  # type: ignore[arg-type]  # it refuses floats, saying why
    return value


def _clock(value: Any) -> Any:
    # Unquoted, YAML takes 18:00 for the number 1080.
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise ValueError(f'found {value!r}; write hours and minutes in quotes, "08:00" to "24:00"')
    return value


Amount = Annotated[str | int, BeforeValidator(_amount)]
WallClock = Annotated[str, BeforeValidator(_clock)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
EVERY_DAY: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ScheduleConfig(Section):
    """When machines run, and so are paid for."""

    days: tuple[Weekday, ...] = EVERY_DAY
    start: WallClock = "00:00"
    end: WallClock = "24:00"
    timezone: str = "UTC"

    def schedule(self) -> Schedule:
        """Raises ValueError."""
        return Schedule(
            days=frozenset(map(WEEKDAYS.index, self.days)),
            start_minute=_minute(self.start),
            end_minute=_minute(self.end) or MINUTES_PER_DAY,
            timezone=self.timezone,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.schedule()
        return self


class ThroughputConfig(Section):
    """What one machine was measured to do, and where."""

    tokens_per_second: Amount | None = None
    requests_per_second: Amount | None = None
    parallel_requests: int | None = Field(default=None, ge=1, strict=True)
    source: str | None = None  # for whoever reads or reviews the file

    def throughput(self) -> Throughput:
        """Raises ValueError."""
        return Throughput(
            tokens_per_second=_fraction(self.tokens_per_second),
            requests_per_second=_fraction(self.requests_per_second),
            parallel_requests=self.parallel_requests,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.throughput()
        return self


class HardwareUse(Section):
    """So many machines of one kind, by its name in configs/hardware.yaml, with the platforms around them."""

    name: Name
    count: int = Field(default=1, ge=1, le=10_000, strict=True)
    on_demand: bool = False
    schedule: ScheduleConfig | None = None
    throughput: ThroughputConfig | None = None
    platforms: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.on_demand and self.schedule is not None:
            raise ValueError("found on_demand and a schedule; allowed is one of the two")
        if self.on_demand and self.throughput is None:
            raise ValueError("on_demand needs a throughput, which tells how many machines the load takes")
        return self


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _fraction(value: str | int | None) -> Fraction | None:
    return None if value is None else parse_amount(value)
