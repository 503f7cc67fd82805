"""`LedgerWriter`: moves settled spend from the Redis stream to the ledger, exactly once.

An entry leaves the stream only after the ledger has it. Whoever dies in between leaves it pending,
and the next reader books it again, which the ledger knows for a repeat by its request id.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis

from policies.spend import SpendRecord
from router.clock import SYSTEM_CLOCK, Clock
from router.errors import StoreUnavailable
from router.stores.base import Ledger, LedgerRefused

logger = logging.getLogger(__name__)

BATCH_SIZE = 2_000
LINGER_SECONDS = 0.2
"""Pause between reads, so that records come in batches: a commit each would cost the hot path its core."""

CLAIM_IDLE_MS = 5_000
"""Entries that a reader has held for longer belonged to a dead one. Claiming a live one's is harmless."""

_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_DRAIN_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Entry:
    id: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Dead:
    entry: _Entry
    error: str


@dataclass(slots=True)
class WriterCounts:
    """Since the start: records new to the ledger, known to it, unusable; and reads or writes that failed."""

    booked: int = 0
    repeated: int = 0
    dead: int = 0
    failed: int = 0


class LedgerWriter:
    """One reader of `stream_key`, by the name of `consumer`, which no other live reader may bear.

    `redis_client` must leave answers as bytes. What cannot be booked goes to `<stream_key>:dead`
    with its error; that stream has no limit, since each entry is spend that no ledger has.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        ledger: Ledger,
        stream_key: str,
        group: str = "ledger",
        *,
        consumer: str,
        batch_size: int = BATCH_SIZE,
        linger_seconds: float = LINGER_SECONDS,
        claim_idle_ms: int = CLAIM_IDLE_MS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._redis = redis_client
        self._ledger = ledger
        self._stream = stream_key
        self._dead_stream = f"{stream_key}:dead"
        self._group = group
        self._consumer = consumer
        self._batch_size = batch_size
        self._linger_seconds = linger_seconds
        self._claim_idle_ms = claim_idle_ms
        self._clock = clock
        self._own_pending = True  # an earlier life of this consumer may have left some
        self._claim_at = 0.0
        self._failures = 0
        self.counts = WriterCounts()

    def run(self, stop: threading.Event) -> None:
        """Moves records until `stop` is set. Nothing that fails ends it: it waits and tries again."""
        while not stop.is_set():
            moved = self._try_move()
            if moved is None:
                stop.wait(self._backoff_seconds())
            elif moved < self._batch_size:
                stop.wait(self._linger_seconds)

    def drain(self, timeout_seconds: float = 10.0) -> bool:
        """Moves records until the stream is empty; False where that took longer than `timeout_seconds`."""
        pause = threading.Event()
        deadline = self._clock.monotonic() + timeout_seconds
        while self._clock.monotonic() < deadline:
            moved = self._try_move()
            if moved is None:
                pause.wait(min(self._backoff_seconds(), timeout_seconds))
            elif moved == 0:
                if self._waiting() == 0:
                    return True
                pause.wait(_DRAIN_POLL_SECONDS)
        return False

    def move_batch(self) -> int:
        """Moves at most one batch; returns how many entries left the stream.

        Raises StoreUnavailable or RedisError; then every entry is still in the stream.
        """
        entries = self._read()
        if not entries:
            return 0
        # Whatever happens from here on leaves the entries pending under our name.
        self._own_pending = True
        records, dead = _decoded(entries)
        dead += self._book(records)
        self._discard(entries, dead)
        return len(entries)

    def _try_move(self) -> int | None:
        try:
            moved = self.move_batch()
        except (StoreUnavailable, redis.RedisError) as error:
            logger.warning("spend stays in the stream for now: %s", error)
        except Exception:  # The border of the thread: were it to end, spend would pile up unseen.
            logger.exception("the ledger writer failed; it goes on")
        else:
            self._failures = 0
            return moved
        self._failures += 1
        self.counts.failed += 1
        return None

    def _backoff_seconds(self) -> float:
        return _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS)) - 1]

    def _waiting(self) -> int | None:
        try:
            return int(self._redis.xlen(self._stream))
        except redis.RedisError:
            return None

    # reading

    def _read(self) -> list[_Entry]:
        """Our own pending entries first, then those of the dead, then new ones."""
        try:
            if self._own_pending:
                entries = self._read_group("0")
                if entries:
                    return entries
                self._own_pending = False
            return self._claim() or self._read_group(">")
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
            return self._read_group(">")

    def _read_group(self, after: str) -> list[_Entry]:
        reply: Any = self._redis.xreadgroup(self._group, self._consumer, {self._stream: after}, count=self._batch_size)
        streams = reply.values() if isinstance(reply, dict) else [found for _, found in reply or ()]
        # RESP3 wraps the entries of a stream in one more list.
        return [entry for found in streams for entry in _entries(found[0] if _is_wrapped(found) else found)]

    def _claim(self) -> list[_Entry]:
        now = self._clock.monotonic()
        if now < self._claim_at:
            return []
        reply: Any = self._redis.xautoclaim(
            self._stream, self._group, self._consumer, self._claim_idle_ms, count=self._batch_size
        )
        entries = _entries(reply[1])
        if entries:
            logger.warning("took over %d records that another writer left pending", len(entries))
        else:
            self._claim_at = now + self._claim_idle_ms / 2000
        return entries

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another writer was faster
                raise

    # writing

    def _book(self, records: Sequence[tuple[_Entry, SpendRecord]]) -> list[_Dead]:
        """Books all that can be; returns what the ledger will never take, found by halving."""
        try:
            new = self._ledger.append([record for _, record in records])
        except LedgerRefused as error:
            if len(records) == 1:
                return [_Dead(records[0][0], str(error))]
            middle = len(records) // 2
            return self._book(records[:middle]) + self._book(records[middle:])
        self.counts.booked += new
        self.counts.repeated += len(records) - new
        return []

    def _discard(self, entries: Sequence[_Entry], dead: Sequence[_Dead]) -> None:
        ids = [entry.id for entry in entries]
        with self._redis.pipeline(transaction=True) as pipeline:
            for item in dead:
                pipeline.xadd(self._dead_stream, {"record": item.entry.raw, "error": item.error})
            pipeline.xack(self._stream, self._group, *ids)
            pipeline.xdel(self._stream, *ids)
            pipeline.execute()
        for item in dead:
            logger.error("a record of spend went to %s: %s", self._dead_stream, item.error)
        self.counts.dead += len(dead)


def _is_wrapped(found: Any) -> bool:
    return len(found) == 1 and bool(found[0]) and isinstance(found[0][0], (list, tuple))


def _entries(found: Any) -> list[_Entry]:
    """Entries without fields were deleted while they were pending: they go the way of unusable ones."""
    return [_Entry(id, (fields or {}).get(b"record", b"")) for id, fields in found if id is not None]


def _decoded(entries: Sequence[_Entry]) -> tuple[list[tuple[_Entry, SpendRecord]], list[_Dead]]:
    records: list[tuple[_Entry, SpendRecord]] = []
    dead: list[_Dead] = []
    for entry in entries:
        try:
            records.append((entry, SpendRecord.from_json(orjson.loads(entry.raw))))
        except (orjson.JSONDecodeError, TypeError) as error:
            dead.append(_Dead(entry, f"not a record: {error}"))
    return records, dead
