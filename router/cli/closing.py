"""`HourCloser`: books what machines cost, hour by hour, busy or idle, once an hour is over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from policies.amortization import Load, MachineUse, hour_cost
from policies.schedules import DAY_MS, HOUR_MS
from router.config import Config
from router.hardware import machines_by_day, uses_in
from router.lineup import line_up
from router.stores.cells import ROUTER, SIMULATED_MARK, Books, Filter, HourCost

_SETTLED_MS = HOUR_MS // 4
"""How long to wait where the cost of an hour depends on its requests: the last of them have been booked by then."""
_HOURS_AT_ONCE = 744
"""A month: what a long downtime left is caught up in several rounds, for others wait for this one."""

Machines = Callable[[date], Mapping[str, MachineUse]]


class HourCloser:
    """Closes each hour that is over, from the first that is known: that of a deployment's first record, or of the first
    start with its hardware. What is closed stays as it is; two that close the same hours book them once.

    `machines` are those of a day, by deployment or ROUTER. What is `simulated` is marked in the ledger by the name of
    its hardware: nobody paid for it.
    """

    def __init__(self, books: Books, machines: Machines, *, simulated: bool = False) -> None:
        self._books = books
        self._machines = lru_cache(maxsize=64)(machines)
        self._simulated = simulated
        self._closed_until_ms: dict[str, int] = {}

    def close(self, now_ms: int) -> int:
        """Closes what is due, at most a month of it for each machine; returns how many hours are new.

        Asks the store for nothing while no hour is over. Raises StoreUnavailable.
        """
        return sum(self._close(source, use, now_ms) for source, use in self._machines(_day(now_ms)).items())

    def _close(self, source: str, use: MachineUse, now_ms: int) -> int:
        until_ms = _hour(now_ms - (_SETTLED_MS if _depends_on_requests(use) else 0))
        if self._closed_until_ms.get(source, 0) >= until_ms:
            return 0
        begin_ms = self._begin_ms(source, use, now_ms)
        end_ms = min(until_ms, begin_ms + _HOURS_AT_ONCE * HOUR_MS)
        booked = self._books.close_hours(list(self._costs(source, begin_ms, end_ms)))
        self._closed_until_ms[source] = max(begin_ms, end_ms)
        return booked

    def _begin_ms(self, source: str, use: MachineUse, now_ms: int) -> int:
        closed_ms = self._books.closed_until_ms(source)
        if closed_ms is not None:
            return closed_ms
        hours = self._books.cells(0, now_ms + 1, ("hour_ms",), _of(source))
        first_ms = min((_hour_of(cell.key["hour_ms"]) for cell in hours), default=_hour(now_ms))
        if not hours:
            # So that a restart before the first hour is over, or after a long stop, knows where to begin.
            before = HourCost(first_ms - HOUR_MS, source, self._label(use), unit_count=0, cost_nusd=0)
            self._books.close_hours([before])
        return first_ms

    def _costs(self, source: str, begin_ms: int, end_ms: int) -> Iterator[HourCost]:
        loads: Mapping[int, Load] | None = None
        for hour_ms in range(begin_ms, end_ms, HOUR_MS):
            use = self._machines(_day(hour_ms))[source]
            if loads is None and _depends_on_requests(use):
                loads = self._loads(source, begin_ms, end_ms)
            found = hour_cost(use, hour_ms, (loads or {}).get(hour_ms, Load()))
            yield HourCost(hour_ms, source, self._label(use), found.unit_count, found.cost_nusd)

    def _loads(self, source: str, from_ms: int, to_ms: int) -> Mapping[int, Load]:
        cells = self._books.cells(from_ms, to_ms, ("hour_ms",), _of(source))
        return {
            _hour_of(cell.key["hour_ms"]): Load(
                cell.request_count, cell.input_tokens + cell.output_tokens, cell.duration_ms
            )
            for cell in cells
        }

    def _label(self, use: MachineUse) -> str:
        return use.hardware.name + (SIMULATED_MARK if self._simulated else "")


def hour_closer(config: Config, books: Books) -> HourCloser:
    """For the machines of the deployments that serve, and of the router itself. Raises ConfigError.

    What is left out of serving, for want of its address or key, is taken not to run.
    """
    by_day = machines_by_day(config, ROUTER)
    if next(uses_in(config), None) is None:
        return HourCloser(books, by_day)
    lineup = line_up(config)
    running = {ROUTER, *(deployment.name for deployment in lineup.active)}
    return HourCloser(books, lambda on: _only(by_day(on), running), simulated=lineup.simulated)


def _only(machines: Mapping[str, MachineUse], names: Collection[str]) -> dict[str, MachineUse]:
    return {name: use for name, use in machines.items() if name in names}


def _depends_on_requests(use: MachineUse) -> bool:
    return use.on_demand or use.nusd_per_request > 0


def _of(source: str) -> Filter | None:
    """The records that were sent to it; those that the cache answered were not."""
    return None if source == ROUTER else {"deployment": (source,), "cache": ("miss", "off")}


def _hour(instant_ms: int) -> int:
    return instant_ms - instant_ms % HOUR_MS


def _hour_of(key: str | int | bool | None) -> int:
    assert isinstance(key, int)  # as the dimension `hour_ms` always is
    return key


def _day(instant_ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=instant_ms // DAY_MS)).date()
