"""What machines and the platforms around them cost: configs/hardware.yaml, as `router.prices` reads the price file.

`load_hardware` -> `HardwareBook`; `machines_of(config)` -> what serves each deployment. Amounts go from the text of the
file to exact fractions of nano-USD and never pass through a float.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from policies.amortization import (
    Hardware,
    HardwarePrice,
    MachineUse,
    hourly_of_day,
    hourly_of_month,
    hourly_of_purchase,
    hourly_of_year,
)
from policies.money import NUSD_PER_USD
from router.config import Config
from router.config_hardware import HardwareUse
from router.dated_entries import Amount, Day, Part, Positive, Text, read_entries
from router.errors import ConfigError

_PERIODS = ("hourly", "daily", "monthly", "yearly", "bought")


class HardwareFileError(ConfigError, ValueError):
    """The file of hardware cannot be used; the message names file, key, what was found and what is allowed."""


class UnknownHardware(ConfigError, ValueError):
    """No hardware, or platform, of this name is known; the message suggests near names."""


@dataclass(frozen=True, slots=True)
class PlatformPrice:
    """What a platform takes for one request from `effective_from` on; not rounded."""

    effective_from: date
    nusd_per_request: Fraction
    source: str


@dataclass(frozen=True, slots=True)
class HardwareBook:
    """Machines and platforms by name. `origin` names the file."""

    hardware: Mapping[str, Hardware]
    platforms: Mapping[str, tuple[PlatformPrice, ...]]
    origin: str = "hardware.yaml"

    def machine(self, name: str) -> Hardware:
        """Raises UnknownHardware."""
        found = self.hardware.get(name)
        if found is None:
            raise UnknownHardware(self._not_found("hardware", name, self.hardware))
        return found

    def platform(self, name: str, on: date) -> Fraction:
        """What it takes for a request on that day; before its first price, the first. Raises UnknownHardware."""
        prices = self.platforms.get(name)
        if prices is None:
            raise UnknownHardware(self._not_found("platform", name, self.platforms))
        index = bisect_right(prices, on, key=lambda price: price.effective_from)
        return prices[max(index - 1, 0)].nusd_per_request

    def use(self, settings: HardwareUse, on: date) -> MachineUse:
        """`settings` with the prices of this book; of platforms, those of `on`. Raises UnknownHardware."""
        return MachineUse(
            hardware=self.machine(settings.name),
            count=settings.count,
            schedule=settings.schedule.schedule() if settings.schedule else None,
            on_demand=settings.on_demand,
            throughput=settings.throughput.throughput() if settings.throughput else None,
            nusd_per_request=sum((self.platform(name, on) for name in settings.platforms), Fraction(0)),
        )

    def _not_found(self, kind: str, name: str, known: Mapping[str, Any]) -> str:
        near = get_close_matches(name, known, n=3)
        hint = f"; near names: {', '.join(map(repr, near))}" if near else ""
        return f"there is no {kind} {name!r} in {self.origin}{hint}; known are: {', '.join(known) or 'none'}"


# ---- what the configuration uses -------------------------------------------------------------------


def uses_in(config: Config) -> Iterator[tuple[str, str | None, HardwareUse]]:
    """The key of each use of hardware, its deployment (None: the router itself), and the use."""
    for at, deployment in enumerate(config.deployments):
        if deployment.hardware is not None:
            yield f"deployments.{at}.hardware", deployment.name, deployment.hardware
    if config.router_hardware is not None:
        yield "router_hardware", None, config.router_hardware


def hardware_problems(config: Config) -> Iterator[str]:
    """What keeps the hardware of the configuration from being priced, one line each. The file is read only where there
    is any. Raises HardwareFileError."""
    uses = list(uses_in(config))
    book = load_hardware(config.hardware) if uses else None
    for key, _, settings in uses:
        try:
            assert book is not None
            book.use(settings, date.max)
        except UnknownHardware as error:
            yield f"{key}: {error}"


def machines_by_day(config: Config, router: str) -> Callable[[date], dict[str, MachineUse]]:
    """What serves each deployment that has hardware, by its name, and the router's own machine by the name `router`:
    on any day, since what platforms take is dated, too. The file is read once, and only where there is any hardware.

    Raises HardwareFileError and UnknownHardware.
    """
    uses = {router if name is None else name: settings for _, name, settings in uses_in(config)}
    if not uses:
        return lambda on: {}
    book = load_hardware(config.hardware)

    def machines(on: date) -> dict[str, MachineUse]:
        return {name: book.use(settings, on) for name, settings in uses.items()}

    machines(date.max)  # so that an unknown name is told now
    return machines


def machines_of(config: Config, on: date, router: str) -> dict[str, MachineUse]:
    """`machines_by_day`, on one of them."""
    return machines_by_day(config, router)(on)


# ---- the file --------------------------------------------------------------------------------------


class _Purchase(Part):
    price: Amount
    years: Positive
    residual: Amount = Fraction(0)
    running_hourly: Amount = Fraction(0)

    @model_validator(mode="after")
    def _loses(self) -> Self:
        if self.residual > self.price:
            raise ValueError(f"found a residual of {self.residual}, more than the price of {self.price}")
        return self

    def hourly_nusd(self) -> Fraction:
        price, residual, running = (
            amount * NUSD_PER_USD for amount in (self.price, self.residual, self.running_hourly)
        )
        return hourly_of_purchase(price, residual, self.years) + running


class _HardwarePriceEntry(Part):
    effective_from: Day
    hourly: Amount | None = None
    daily: Amount | None = None
    monthly: Amount | None = None
    yearly: Amount | None = None
    bought: _Purchase | None = None
    source: Text

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in _PERIODS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"exactly one of {', '.join(_PERIODS)} must be given; found {found}")
        return self

    def hourly_nusd(self) -> Fraction:
        if self.bought is not None:
            return self.bought.hourly_nusd()
        if self.yearly is not None:
            return hourly_of_year(self.yearly * NUSD_PER_USD)
        if self.monthly is not None:
            return hourly_of_month(self.monthly * NUSD_PER_USD)
        if self.daily is not None:
            return hourly_of_day(self.daily * NUSD_PER_USD)
        assert self.hourly is not None  # exactly one is given
        return self.hourly * NUSD_PER_USD


class _HardwareEntry(Part):
    note: str = ""  # for whoever reads or reviews the file, as are the sources
    prices: Annotated[tuple[_HardwarePriceEntry, ...], Field(min_length=1)]


class _PlatformPriceEntry(Part):
    effective_from: Day
    per_million_requests: Amount
    source: Text


class _PlatformEntry(Part):
    note: str = ""
    prices: Annotated[tuple[_PlatformPriceEntry, ...], Field(min_length=1)]


class _HardwareFile(Part):
    hardware: Annotated[dict[Text, _HardwareEntry], Field(min_length=1)]
    platforms: Mapping[Text, _PlatformEntry] = {}


def load_hardware(path: Path) -> HardwareBook:
    """Reads the file of hardware.

    Raises HardwareFileError for a file that cannot be read, is not YAML, or breaks the schema that the head of
    configs/hardware.yaml describes.
    """
    file = read_entries(path, _HardwareFile, HardwareFileError)
    hardware = {name: _hardware(path, name, entry) for name, entry in file.hardware.items()}
    platforms = {name: _platform(path, name, entry) for name, entry in file.platforms.items()}
    return HardwareBook(hardware, platforms, origin=path.name)


def _hardware(path: Path, name: str, entry: _HardwareEntry) -> Hardware:
    _check_ascending(f"{path}: hardware.{name}", [price.effective_from for price in entry.prices])
    prices = (HardwarePrice(price.effective_from, price.hourly_nusd(), price.source) for price in entry.prices)
    return Hardware(name, tuple(prices))


def _platform(path: Path, name: str, entry: _PlatformEntry) -> tuple[PlatformPrice, ...]:
    _check_ascending(f"{path}: platforms.{name}", [price.effective_from for price in entry.prices])
    return tuple(
        PlatformPrice(price.effective_from, price.per_million_requests * NUSD_PER_USD / 1_000_000, price.source)
        for price in entry.prices
    )


def _check_ascending(where: str, days: list[date]) -> None:
    for index, (earlier, later) in enumerate(pairwise(days), start=1):
        if earlier >= later:
            raise HardwareFileError(
                f"{where}.prices.{index}.effective_from: found {later} after {earlier}; dates must ascend"
            )
