"""Readiness asks the database once for all who ask, and says what waits on disk."""

from __future__ import annotations

import asyncio
import threading

import pytest

from router.api.health import SqlCheck, is_near, spool_state


class Database:
    """Counts who asks; is silent until `speak`, and may be broken."""

    def __init__(self, *, silent: bool = False, broken: bool = False) -> None:
        self.asked = 0
        self.speak = threading.Event()
        self.broken = broken
        if not silent:
            self.speak.set()

    def ping(self) -> None:
        self.asked += 1
        self.speak.wait(10)
        if self.broken:
            raise RuntimeError("secret")


@pytest.mark.parametrize(("broken", "state"), [(False, "ok"), (True, "cannot be used")])
async def test_one_answer_is_for_all_and_for_a_while(broken: bool, state: str) -> None:
    database = Database(broken=broken)
    check = SqlCheck(database.ping)
    assert set(await asyncio.gather(*[check.state() for _ in range(50)])) == {state}
    assert (await check.state(), database.asked) == (state, 1)


async def test_an_answer_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.api.health.SQL_FRESH_SECONDS", 0.0)
    database = Database()
    check = SqlCheck(database.ping)
    assert await check.state() == "ok"
    database.broken = True
    assert (await check.state(), database.asked) == ("cannot be used", 2)


async def test_a_silent_database_holds_one_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.api.health.SQL_TIMEOUT_SECONDS", 0.05)
    database = Database(silent=True)
    check = SqlCheck(database.ping)
    try:
        async with asyncio.timeout(5):
            silent = await asyncio.gather(*[check.state() for _ in range(200)])
            assert (set(silent), await check.state()) == ({"does not answer in time"}, "does not answer in time")
            assert await asyncio.to_thread(lambda: "free") == "free"
        assert database.asked == 1
    finally:
        database.speak.set()


@pytest.mark.parametrize(
    ("waiting", "writable", "state"),
    [
        (0, True, "empty"),
        (3, True, "3 requests wait for Redis"),
        (3, False, "3 requests wait for Redis, and the disk takes no more"),
    ],
)
def test_what_is_on_disk_is_told(waiting: int, writable: bool, state: str) -> None:
    assert spool_state(waiting, writable) == state


def test_what_is_near() -> None:
    assert all(map(is_near, ["127.0.0.1", "::1", "10.1.2.3", "192.168.7.7", "::ffff:10.0.0.1", "fd00::1"]))
    assert not any(map(is_near, ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "localhost", ""]))
