"""Writes of one turn leave together, in order, and none is lost on closing."""

from __future__ import annotations

import asyncio
from typing import Any

from router.api.coalescing import LARGE_BYTES, CoalescingTransport


class Transport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def get_extra_info(self, name: str) -> str:
        return f"info on {name}"


def coalescing(transport: Transport) -> CoalescingTransport:
    return CoalescingTransport(transport, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_writes_of_one_turn_leave_as_one() -> None:
    below = Transport()
    transport = coalescing(below)
    transport.write(b"head ")
    transport.write(b"body")
    assert below.calls == []
    await asyncio.sleep(0)
    assert below.calls == [b"head body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert below.calls == [b"head body", b"more"]


async def test_a_large_piece_goes_out_at_once_behind_what_waits() -> None:
    below = Transport()
    transport = coalescing(below)
    large = b"x" * (LARGE_BYTES + 1)
    transport.write(b"head")
    transport.write(large)
    assert below.calls == [b"head", large]
    await asyncio.sleep(0)
    assert below.calls == [b"head", large]


async def test_closing_sends_what_waits_first() -> None:
    below = Transport()
    transport = coalescing(below)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert below.calls == [b"last words", "close"]


async def test_everything_else_is_the_transports_own() -> None:
    assert coalescing(Transport()).get_extra_info("socket") == "info on socket"
