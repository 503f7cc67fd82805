"""Who asks the same at the same time waits for the first, however that goes."""

from __future__ import annotations

import asyncio

import pytest

from router.pipeline.flights import Flights


async def test_all_who_wait_go_on_when_it_lands() -> None:
    flights = Flights()
    flight = flights.take_off("k")
    waiting = [asyncio.ensure_future(flight.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert (flight.awaited(), flight.waiting) == (True, 3)
    flights.land("k", flight)
    await asyncio.gather(*waiting)
    assert not flight.awaited()


async def test_one_that_gives_up_leaves_the_others_waiting() -> None:
    flights = Flights()
    flight = flights.take_off("k")
    first, second = (asyncio.ensure_future(flight.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (flight.waiting, second.done()) == (1, False)
    flights.land("k", flight)
    await second


async def test_keys_do_not_meet_and_a_landing_ends_the_flight() -> None:
    flights = Flights()
    flight = flights.take_off("k")
    assert flights.join("k") is flight
    assert flights.join("other") is None
    flights.land("k", flight)
    assert flights.join("k") is None
    flights.land("k", flight)  # twice does no harm


async def test_a_flight_that_was_overtaken_does_not_end_the_newer() -> None:
    flights = Flights()
    older = flights.take_off("k")
    newer = flights.take_off("k")
    flights.land("k", older)
    assert flights.join("k") is newer


async def test_waiting_for_one_that_landed_is_over_at_once() -> None:
    flights = Flights()
    flight = flights.take_off("k")
    flights.land("k", flight)
    async with asyncio.timeout(5):
        await flight.wait()
