"""Ticks at a fixed rate, precise to some microseconds: uvloop's own timers only know whole milliseconds.

A timerfd of Linux wakes the loop; see timerfd_create(2). Ticks missed in a stall are still yielded, with the time they
were due.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import AsyncIterator

CLOCK_MONOTONIC = 1
TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("first", _Timespec))


class Pacer:
    """An asynchronous iterator over the due times (perf_counter_ns) of a fixed rate; ends never."""

    def __init__(self, rate: float) -> None:
        self._period_ns = round(1e9 / rate)
        self._start_ns = 0
        self._ticks = 0
        self._rung = asyncio.Event()

    async def __aenter__(self) -> Pacer:
        """Start the timer; the first tick is due one period from now."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._start_ns = time.perf_counter_ns()  # the same clock as CLOCK_MONOTONIC on Linux
        spec = _TimerSpec(_timespec(self._period_ns), _timespec(self._start_ns + self._period_ns))
        if libc.timerfd_settime(self._descriptor, TFD_TIMER_ABSTIME, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        asyncio.get_running_loop().add_reader(self._descriptor, self._ring)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the timer."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _ring(self) -> None:
        self._ticks += int.from_bytes(os.read(self._descriptor, 8), "little")
        self._rung.set()

    async def __aiter__(self) -> AsyncIterator[int]:
        yielded = 0
        while True:
            while yielded < self._ticks:
                yielded += 1
                yield due_ns(self._start_ns, self._period_ns, yielded)
            self._rung.clear()
            await self._rung.wait()


def due_ns(start_ns: int, period_ns: int, number: int) -> int:
    """When request `number` (from 1) of a schedule is due."""
    return start_ns + number * period_ns


def _timespec(nanoseconds: int) -> _Timespec:
    return _Timespec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
