"""Whose key is this? Answered from memory; the directory is asked when memory is too old."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from router.clock import Clock
from router.errors import InvalidApiKey, StoreUnavailable
from router.stores.base import Principal, secret_sha256

logger = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
STALE_SECONDS = 6.0
OUTAGE_SECONDS = 900.0
"""How long known keys serve on while the directory cannot be read; a key revoked meanwhile does, too."""
MAX_ENTRIES = 50_000
LOOK_UP_THREADS = 4


@dataclass(slots=True)
class _Entry:
    principal: Principal | None
    read_at_s: float
    unreachable: bool = False
    """The directory could not be read when this was last tried."""


class Authenticator:
    """Maps `Authorization: Bearer <key>` to a Principal.

    `look_up` reads the directory by the SHA-256 of the key; it blocks, so it runs in a thread of our
    own, once at a time for each key. An entry older than FRESH_SECONDS is read again in the
    background while it still serves; one older than STALE_SECONDS does not: a revoked key is refused
    within STALE_SECONDS at most. While the directory is out of reach, known keys serve on for
    OUTAGE_SECONDS, and nobody waits for it.
    """

    def __init__(self, look_up: Callable[[str], Principal | None], clock: Clock) -> None:
        self._look_up = look_up
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._reads: dict[str, asyncio.Task[_Entry]] = {}
        self._threads = ThreadPoolExecutor(LOOK_UP_THREADS, thread_name_prefix="keys")

    async def authenticate(self, authorization: bytes | None) -> Principal:
        """Raises InvalidApiKey for a missing, malformed, unknown, revoked or expired key."""
        secret_sha256 = _hash_of_bearer(authorization)
        entry = self._entries.get(secret_sha256)
        if entry is None:
            entry = await asyncio.shield(self._read(secret_sha256))
        else:
            age_s = self._clock.monotonic() - entry.read_at_s
            if age_s > FRESH_SECONDS:
                entry = await self._refreshed(secret_sha256, entry, age_s)
        principal = entry.principal
        if principal is None or self._expired(principal):
            raise InvalidApiKey("The API key is unknown, revoked or expired.")
        return principal

    async def _refreshed(self, secret_sha256: str, entry: _Entry, age_s: float) -> _Entry:
        """The entry as it is while a new one is read; the new one, where the old is too old."""
        read = self._read(secret_sha256)
        if age_s <= STALE_SECONDS or (entry.unreachable and age_s <= OUTAGE_SECONDS):
            return entry
        try:
            return await asyncio.shield(read)
        except StoreUnavailable:
            if age_s > OUTAGE_SECONDS:
                raise
            return entry

    def _read(self, secret_sha256: str) -> asyncio.Task[_Entry]:
        """The look-up under way for this key, or a new one."""
        read = self._reads.get(secret_sha256)
        if read is None:
            read = self._reads[secret_sha256] = asyncio.ensure_future(self._look_up_again(secret_sha256))
            read.add_done_callback(lambda done: self._ended(secret_sha256, done))
        return read

    async def _look_up_again(self, secret_sha256: str) -> _Entry:
        principal = await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, secret_sha256)
        entry = self._entries[secret_sha256] = _Entry(principal, self._clock.monotonic())
        self._entries.move_to_end(secret_sha256)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    def _ended(self, secret_sha256: str, read: asyncio.Task[_Entry]) -> None:
        self._reads.pop(secret_sha256, None)
        if read.cancelled() or (error := read.exception()) is None:
            return
        logger.warning("could not read a key: %s", error)
        entry = self._entries.get(secret_sha256)
        if entry is not None:
            entry.unreachable = isinstance(error, StoreUnavailable)

    def _expired(self, principal: Principal) -> bool:
        return principal.expires_at_ms is not None and self._clock.wall() * 1000 >= principal.expires_at_ms


def _hash_of_bearer(authorization: bytes | None) -> str:
    if not authorization:
        raise InvalidApiKey("No API key was given; send it as 'Authorization: Bearer <key>'.")
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not secret:
        raise InvalidApiKey("The Authorization header must read 'Bearer <key>'.")
    return secret_sha256(secret.strip())
