"""A key is looked up once, served from memory while it is fresh, and never when it is too old."""

from __future__ import annotations

import asyncio
import threading

import pytest

from router.errors import InvalidApiKey, StoreUnavailable
from router.pipeline.authenticate import FRESH_SECONDS, OUTAGE_SECONDS, STALE_SECONDS, Authenticator
from router.stores.base import Principal, secret_sha256
from tests.support.pipeline_bench import HandClock

SECRET = "pk-1"
ALICE = Principal("key-1", "team-1", "application", None, ())


class Directory:
    """Counts what it is asked; fails while `down`."""

    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {secret_sha256(SECRET): ALICE}
        self.asked = 0
        self.down = False

    def look_up(self, digest: str) -> Principal | None:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("down")
        return self.principals.get(digest)


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def door(directory: Directory, hand: HandClock) -> Authenticator:
    return Authenticator(directory.look_up, hand.clock())


async def refreshed(directory: Directory, asked: int) -> None:
    async with asyncio.timeout(5):
        while directory.asked < asked:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("header", [b"Bearer pk-1", b"bearer pk-1", b"BEARER  pk-1 "])
async def test_a_known_key_is_let_in(door: Authenticator, header: bytes) -> None:
    assert await door.authenticate(header) is ALICE


@pytest.mark.parametrize(
    "header",
    [None, b"", b"pk-1", b"Basic pk-1", b"Bearer", b"Bearer ", b"Bearer pk-2", b"Bearer \xff", b"Bearer pk-1 x"],
)
async def test_anything_else_is_not(door: Authenticator, header: bytes | None) -> None:
    with pytest.raises(InvalidApiKey):
        await door.authenticate(header)


async def test_a_stored_hash_opens_nothing(door: Authenticator) -> None:
    with pytest.raises(InvalidApiKey):
        await door.authenticate(b"Bearer " + secret_sha256(SECRET).encode())


async def test_memory_answers_while_it_is_fresh(door: Authenticator, directory: Directory, hand: HandClock) -> None:
    for _ in range(5):
        await door.authenticate(b"Bearer pk-1")
        hand.now_s += FRESH_SECONDS / 5
    assert directory.asked == 1


async def test_unknown_keys_are_remembered_too(door: Authenticator, directory: Directory) -> None:
    for _ in range(5):
        with pytest.raises(InvalidApiKey):
            await door.authenticate(b"Bearer pk-wrong")
    assert directory.asked == 1


async def test_an_older_entry_serves_while_it_is_read_again(
    door: Authenticator, directory: Directory, hand: HandClock
) -> None:
    await door.authenticate(b"Bearer pk-1")
    directory.principals.clear()  # revoked
    hand.now_s += FRESH_SECONDS + 0.1
    assert await door.authenticate(b"Bearer pk-1") is ALICE
    await refreshed(directory, 2)
    with pytest.raises(InvalidApiKey):
        await door.authenticate(b"Bearer pk-1")


async def test_a_revoked_key_is_refused_within_the_bound(
    door: Authenticator, directory: Directory, hand: HandClock
) -> None:
    await door.authenticate(b"Bearer pk-1")
    directory.principals.clear()
    hand.now_s += STALE_SECONDS + 0.1
    with pytest.raises(InvalidApiKey):
        await door.authenticate(b"Bearer pk-1")


async def test_a_directory_that_is_down_is_bridged_for_a_while_only(
    door: Authenticator, directory: Directory, hand: HandClock
) -> None:
    await door.authenticate(b"Bearer pk-1")
    directory.down = True
    hand.now_s += FRESH_SECONDS + 0.1
    assert await door.authenticate(b"Bearer pk-1") is ALICE
    await refreshed(directory, 2)
    assert await door.authenticate(b"Bearer pk-1") is ALICE
    hand.now_s += STALE_SECONDS
    assert await door.authenticate(b"Bearer pk-1") is ALICE
    with pytest.raises(StoreUnavailable):
        await door.authenticate(b"Bearer never seen")
    hand.now_s += OUTAGE_SECONDS
    with pytest.raises(StoreUnavailable):
        await door.authenticate(b"Bearer pk-1")


async def test_while_the_directory_hangs_nobody_with_a_known_key_waits_twice(hand: HandClock) -> None:
    hangs = threading.Event()
    asked: list[str] = []

    def look_up(digest: str) -> Principal:
        asked.append(digest)
        if len(asked) > 1:
            hangs.wait(5)
            raise StoreUnavailable("no answer in time")
        return ALICE

    door = Authenticator(look_up, hand.clock())
    await door.authenticate(b"Bearer pk-1")
    hand.now_s += STALE_SECONDS + 1
    waiting = [asyncio.ensure_future(door.authenticate(b"Bearer pk-1")) for _ in range(30)]
    async with asyncio.timeout(5):
        while len(asked) < 2:
            await asyncio.sleep(0.01)
    assert (len(asked), any(task.done() for task in waiting)) == (2, False)  # one look-up for all of them
    hangs.set()
    assert await asyncio.gather(*waiting) == [ALICE] * 30
    hangs.clear()
    async with asyncio.timeout(4):  # from now on nobody waits, though each look-up hangs
        assert await door.authenticate(b"Bearer pk-1") is ALICE
    hangs.set()


async def test_a_key_expires_on_time_though_memory_is_fresh(
    door: Authenticator, directory: Directory, hand: HandClock
) -> None:
    expires_at_ms = int(hand.now_s * 1000) + 500
    directory.principals[secret_sha256(SECRET)] = Principal(
        "key-1", "team-1", "application", None, (), expires_at_ms=expires_at_ms
    )
    await door.authenticate(b"Bearer pk-1")
    hand.now_s += 0.5
    with pytest.raises(InvalidApiKey):
        await door.authenticate(b"Bearer pk-1")
