"""Whose key is this? Answered from memory; the directory is asked when memory is too old."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from router.clock import Clock
from router.errors import InvalidApiKey, StoreUnavailable
from router.stores.base import Principal

logger = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
STALE_SECONDS = 6.0
OUTAGE_SECONDS = 900.0
"""How long known keys serve on while the directory cannot be read; a key revoked meanwhile does, too."""
MAX_ENTRIES = 50_000


@dataclass(slots=True)
class _Entry:
    principal: Principal | None
    read_at_s: float
    refreshing: bool = False


class Authenticator:
    """Maps `Authorization: Bearer <key>` to a Principal.

    `look_up` reads the directory by the SHA-256 of the key; it blocks, so it runs in a thread. An
    entry older than FRESH_SECONDS is read again in the background while it still serves; one older
    than STALE_SECONDS does not: a revoked key is refused within STALE_SECONDS at most. While the
    directory is out of reach, known keys serve on for OUTAGE_SECONDS.
    """

    def __init__(self, look_up: Callable[[str], Principal | None], clock: Clock) -> None:
        self._look_up = look_up
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._refreshes: set[asyncio.Task[object]] = set()

    async def authenticate(self, authorization: bytes | None) -> Principal:
        """Raises InvalidApiKey for a missing, malformed, unknown, revoked or expired key."""
        secret_sha256 = _hash_of_bearer(authorization)
        now_s = self._clock.monotonic()
        entry = self._entries.get(secret_sha256)
        if entry is None or now_s - entry.read_at_s > STALE_SECONDS:
            entry = await self._read_or_keep(secret_sha256, entry, now_s)
        elif now_s - entry.read_at_s > FRESH_SECONDS and not entry.refreshing:
            self._refresh(secret_sha256, entry)
        principal = entry.principal
        if principal is None or self._expired(principal):
            raise InvalidApiKey("The API key is unknown, revoked or expired.")
        return principal

    async def _read_or_keep(self, secret_sha256: str, entry: _Entry | None, now_s: float) -> _Entry:
        """Reads an entry anew; where the directory is out of reach, a known key serves on for a while."""
        try:
            return await self._read(secret_sha256)
        except StoreUnavailable:
            if entry is None or now_s - entry.read_at_s > OUTAGE_SECONDS:
                raise
            return entry

    async def _read(self, secret_sha256: str) -> _Entry:
        principal = await asyncio.to_thread(self._look_up, secret_sha256)
        entry = self._entries[secret_sha256] = _Entry(principal, self._clock.monotonic())
        self._entries.move_to_end(secret_sha256)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    def _refresh(self, secret_sha256: str, entry: _Entry) -> None:
        entry.refreshing = True
        task = asyncio.ensure_future(self._read(secret_sha256))
        self._refreshes.add(task)
        task.add_done_callback(lambda done: self._refreshed(done, entry))

    def _refreshed(self, task: asyncio.Task[object], entry: _Entry) -> None:
        self._refreshes.discard(task)
        entry.refreshing = False
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("could not read a key again: %s", error)

    def _expired(self, principal: Principal) -> bool:
        return principal.expires_at_ms is not None and self._clock.wall() * 1000 >= principal.expires_at_ms


def _hash_of_bearer(authorization: bytes | None) -> str:
    if not authorization:
        raise InvalidApiKey("No API key was given; send it as 'Authorization: Bearer <key>'.")
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not secret:
        raise InvalidApiKey("The Authorization header must read 'Bearer <key>'.")
    return hashlib.sha256(secret.strip()).hexdigest()
