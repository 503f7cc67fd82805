"""Identical requests in flight share one upstream call: the first flies, the others wait for it."""

from __future__ import annotations

import asyncio


class Flight:
    """One request under way, and how many wait for its answer."""

    __slots__ = ("_landed", "_over", "waiting")

    def __init__(self) -> None:
        self._landed: asyncio.Future[None] | None = None
        self._over = False
        self.waiting = 0

    def awaited(self) -> bool:
        return self.waiting > 0

    async def wait(self) -> None:
        """Returns when the flight has landed, however it went."""
        if self._over:
            return
        if self._landed is None:
            self._landed = asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            await asyncio.shield(self._landed)
        finally:
            self.waiting -= 1

    def land(self) -> None:
        self._over = True
        if self._landed is not None and not self._landed.done():
            self._landed.set_result(None)


class Flights:
    """Flights of this process by cache key."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def join(self, cache_key: str) -> Flight | None:
        """The flight under way for `cache_key`, if there is one."""
        return self._flights.get(cache_key)

    def take_off(self, cache_key: str) -> Flight:
        flight = self._flights[cache_key] = Flight()
        return flight

    def land(self, cache_key: str, flight: Flight) -> None:
        """Whoever waits goes on: to the cache, or, where nothing was stored, each with a call of its own."""
        if self._flights.get(cache_key) is flight:
            del self._flights[cache_key]
        flight.land()
