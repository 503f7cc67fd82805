"""Settlements on disk until Redis has booked them, so that a process killed while Redis is away loses none.

One file per process, `<data_dir>/spool/<worker>-<random>.spool`, locked (flock) while its process lives. A line is a
JSON array of a request's id and what settle.lua takes for it, or null once that is booked; the last line of a
request counts. Appending takes about 10 microseconds and no fsync: what is written survives the process, however it
ends, but not a loss of power.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import redis
from redis.commands.core import Script

from router.errors import ConfigError, StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import Settlement
from router.stores.redis_admission import SETTLE, settle_arguments

logger = logging.getLogger(__name__)

MAX_SPOOL_BYTES = 134_217_728
"""Of one process, about 70,000 requests. Beyond it nothing more is put on disk."""
_BATCH = 100

Arguments = list[str | int]
"""The number of keys, the keys, and the other arguments of settle.lua."""


def spool_folder(data_dir: Path) -> Path:
    return data_dir / "spool"


class Spool:
    """The file of this process. `waiting` requests are in it, and not booked."""

    def __init__(self, data_dir: Path, worker_id: str) -> None:
        """Raises ConfigError where the file cannot be made."""
        self._pending_key = redis_keys.pending(worker_id)
        self._final: dict[str, bool] = {}
        """For each request in the file that is not booked: whether its truth is there, or only a guess at it."""
        self._size = 0
        self.writable = True
        """False from when the disk, or what the spool may take of it, is full, until it takes something or is empty."""
        folder = spool_folder(data_dir)
        # A random part, since a worker may come back under the same name before its last file is settled.
        self._path = folder / f"{worker_id}-{secrets.token_hex(4)}.spool"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = _made(self._path)
        except OSError as error:
            raise ConfigError(f"data_dir: {self._path} cannot be written: {error.strerror}") from error

    @property
    def waiting(self) -> int:
        return len(self._final)

    def keep(self, settlement: Settlement, *, final: bool = True) -> None:
        """Puts `settlement` on disk; one that is not `final` is a guess, and gives way to the truth.

        Raises StoreUnavailable: the disk, or what the spool may take of it, is full.
        """
        if self._final.get(settlement.request_id):
            return
        # The answer is not kept: it is large, belongs to a client, and serves the cache alone.
        without_answer = replace(settlement, cache_key="", keep_seconds=0, answer=b"")
        arguments = [
            part.decode() if isinstance(part, bytes) else part
            for part in settle_arguments(without_answer, self._pending_key)
        ]
        self._append(settlement.request_id, arguments)
        self._final[settlement.request_id] = final

    def forget(self, request_id: str) -> None:
        """It is booked. Settling it again would change nothing, so that a disk which does not take this matters not."""
        if self._final.pop(request_id, None) is None:
            return
        try:
            if self._final:
                self._append(request_id, None)
            elif self._size:
                os.ftruncate(self._file, 0)
                self._size = 0
                self.writable = True  # maybe: while it says no, nobody is sent here who would find out
        except (OSError, StoreUnavailable):
            pass

    def close(self) -> None:
        """Gives the file up: what waits in it is taken over, and without that it goes."""
        if not self._final:
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _append(self, request_id: str, arguments: Arguments | None) -> None:
        line = _line(request_id, arguments)
        try:
            if self._size + len(line) > MAX_SPOOL_BYTES:
                raise OSError(f"it holds {self._size} bytes, and may hold {MAX_SPOOL_BYTES}")
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, self._size)
                raise OSError("the disk is full")
        except OSError as error:
            if self.writable:
                logger.error("%s cannot be written: %s", self._path, error)
            self.writable = False
            raise StoreUnavailable("Settlements cannot be put on disk.", retry_after_s=1) from error
        self._size += written
        self.writable = True


def replay_dead(data_dir: Path, client: redis.Redis) -> int:
    """Settles what processes left behind that have ended; returns how many requests that were.

    Before counters are taken from the ledger, it is best: then the ledger has it all. Raises redis.RedisError: what
    is not settled by then stays on disk.
    """
    settled = 0
    for path in sorted(spool_folder(data_dir).glob("*.spool")):
        try:
            with _taken_over(path) as file:
                if file is not None:
                    settled += _replay(path, file, client)
        except OSError as error:
            logger.error("the settlements in %s cannot be read: %s", path, error)
    return settled


def _replay(path: Path, file: int, client: redis.Redis) -> int:
    left, unreadable = _read(path)
    settle = client.register_script(SETTLE)
    settled = 0
    requests = iter(list(left.items()))
    while batch := list(islice(requests, _BATCH)):
        replies = _settle(settle, batch, client)
        booked = [request_id for (request_id, _), reply in zip(batch, replies, strict=True) if reply in (0, 1)]
        if failed := [reply for reply in replies if reply not in (0, 1)]:
            logger.error("%d settlements in %s must wait: %s", len(failed), path, failed[0])
        try:
            os.write(file, b"".join([_line(request_id, None) for request_id in booked]))
        except OSError:
            pass  # the disk is full; settling them again would change nothing
        for request_id in booked:
            del left[request_id]
        settled += len(booked)
    if settled:
        logger.warning("settled %d requests that an ended process left in %s", settled, path)
    if not left:
        _set_aside(path, unreadable)
        path.unlink()
    return settled


def _settle(script: Script, batch: list[tuple[str, Arguments]], client: redis.Redis) -> list[Any]:
    """The answer to each, or its error."""
    with client.pipeline(transaction=False) as pipeline:
        for _, (count, *arguments) in batch:
            keys = [str(key) for key in arguments[: int(count)]]
            script(keys=keys, args=arguments[len(keys) :], client=pipeline)
        return pipeline.execute(raise_on_error=False)


def _read(path: Path) -> tuple[dict[str, Arguments], list[bytes]]:
    """What is not booked, by request; and the lines that nobody can read.

    A last line without an end, which was being written when its process ended, is cut off.
    """
    left: dict[str, Arguments] = {}
    unreadable: list[bytes] = []
    with path.open("r+b") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                logger.warning("%s ends within a line, which is left out: %r", path, line[:80])
                lines.truncate(path.stat().st_size - len(line))
                break
            try:
                request_id, arguments = _parsed(line)
            except ValueError:
                unreadable.append(line)
                continue
            if arguments is None:
                left.pop(request_id, None)
            else:
                left[request_id] = arguments
    return left, unreadable


def _line(request_id: str, arguments: Arguments | None) -> bytes:
    return orjson.dumps([request_id, arguments], option=orjson.OPT_APPEND_NEWLINE)


def _parsed(line: bytes) -> tuple[str, Arguments | None]:
    """Raises ValueError."""
    values: Any = orjson.loads(line)
    if not (isinstance(values, list) and len(values) == 2 and isinstance(values[0], str)):
        raise ValueError("no request")
    request_id, arguments = values
    if arguments is not None and not _settles(arguments):
        raise ValueError("not what settle.lua takes")
    return request_id, arguments


def _settles(arguments: Any) -> bool:
    if not (isinstance(arguments, list) and all(isinstance(argument, str | int) for argument in arguments)):
        return False
    keys = arguments[0] if arguments else None
    # As settle.lua's head says: 7 keys and arguments, and for each counter a key and 3 arguments.
    return isinstance(keys, int) and keys >= 7 and len(arguments) == 1 + keys + 7 + 3 * (keys - 7)


def _set_aside(path: Path, lines: list[bytes]) -> None:
    if not lines:
        return
    aside = path.with_name(path.name + ".unreadable")
    with aside.open("ab") as file:
        file.writelines(lines)
    logger.error("%d lines of %s cannot be read; they are in %s", len(lines), path, aside)


def _made(path: Path) -> int:
    """A new file, locked before it has its name: whoever finds an unlocked one takes its process for ended."""
    unnamed = path.with_suffix(".new")
    file = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(path)
    return file


@contextmanager
def _taken_over(path: Path) -> Iterator[int | None]:
    """The file of an ended process, locked; None while its process lives, or where somebody else was faster."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # It may have been settled and removed between the two.
        yield file if path.exists() else None
    finally:
        os.close(file)
