"""The replay itself: blocks to judges, one a core, and their verdicts into sums, in the order of the log."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import orjson

from router.errors import ConfigError
from router.processes import follow_parent
from router.replay import checkpoint
from router.replay.judge import Judge
from router.replay.plan import Plan
from router.replay.sources import BLOCK_BYTES, Block, Position, blocks
from router.replay.sums import Sums
from router.replay.verdicts import BadLine, Verdicts

BLOCKS_AHEAD = 2
"""Of each worker: the one in work, and the next."""
BLOCKS_BETWEEN_CHECKPOINTS = 64

Progress = Callable[[Position, int, int], None]
"""Is told after each block: where, how far that file is read, how many rows there were so far."""


class ReplayFailed(ConfigError):
    """A worker ended, or a file could not be written; what was saved until then stays."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Where a replay keeps its state, and where it lists all bad rows."""

    checkpoint: Path | None = None
    bad_rows: Path | None = None
    every_blocks: int = BLOCKS_BETWEEN_CHECKPOINTS


def replay(
    paths: Sequence[str],
    plan: Plan,
    workers: int = 1,
    saving: Saving = Saving(),
    progress: Progress = lambda position, read_bytes, rows: None,
    block_bytes: int = BLOCK_BYTES,
) -> Sums:
    """All rows of all logs, reckoned. The same logs and plan give the same sums, with any number of workers and
    after any interruption. Raises LogError, CheckpointError and ReplayFailed."""
    of = None if saving.checkpoint is None else checkpoint.identity([*paths, *plan.batches.paths], plan.digest())
    saved = None if saving.checkpoint is None else checkpoint.read(saving.checkpoint)
    sums = Sums(plan)
    if saving.checkpoint is not None and of is not None and saved is not None:
        checkpoint.check(saving.checkpoint, saved, of)
        _check_list(saving.bad_rows, saved)
        sums.restore(saved.arrays, saved.sums)
        plan = replace(plan, now_ms=saved.now_ms)
    with _bad_rows(saving.bad_rows, saved.bad_bytes if saved else 0) as bad_file:

        def save() -> None:
            if saving.checkpoint is not None and of is not None:
                bad_file.flush()
                checkpoint.write(saving.checkpoint, of, sums, plan.now_ms, bad_file.tell())

        save()  # one that cannot be written is told now, not after the work
        rows = 0
        try:
            for number, verdicts in enumerate(_verdicts(paths, plan, workers, sums.position, block_bytes), start=1):
                _list_bad(bad_file, paths[verdicts.next.file], sums.add(verdicts))
                rows += len(verdicts.score) + len(verdicts.kept_paid) + len(verdicts.bad) + verdicts.unanswered
                progress(sums.position, verdicts.read_bytes, rows)
                if number % saving.every_blocks == 0:
                    save()
        except BrokenProcessPool as error:
            raise ReplayFailed("a worker ended before its time; was it killed for its memory?") from error
        finally:
            save()
    return sums


def _verdicts(paths: Sequence[str], plan: Plan, workers: int, start: Position, block_bytes: int) -> Iterator[Verdicts]:
    ahead = blocks(paths, start, block_bytes)
    if workers == 1:
        yield from map(Judge(plan).judge, ahead)
    else:
        yield from _judged_by_many(plan, workers, ahead)


def _judged_by_many(plan: Plan, workers: int, ahead: Iterable[Block]) -> Iterator[Verdicts]:
    """In the order of the blocks. Workers are started afresh, not forked: a progress bar is a thread."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(plan,))
    pending: deque[Future[Verdicts]] = deque()
    try:
        for block in ahead:
            pending.append(pool.submit(_judge, block))
            if len(pending) >= workers * BLOCKS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_judges: list[Judge] = []
"""Of a worker process: its one judge."""


def _start(plan: Plan) -> None:
    follow_parent()
    _judges.append(Judge(plan))


def _judge(block: Block) -> Verdicts:
    return _judges[0].judge(block)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_list(path: Path | None, saved: checkpoint.Saved) -> None:
    """Raises CheckpointError where the list would lack what was found before."""
    if path is None:
        return
    found = path.stat().st_size if path.is_file() else 0
    if found < saved.bad_bytes or (saved.sums["bad"] and not saved.bad_bytes):
        raise checkpoint.CheckpointError(
            f"{path}: lacks the bad rows that the replay found before it was interrupted; put the list back that was "
            "begun with it, go on without --bad-rows, or begin anew with another --checkpoint"
        )


@contextmanager
def _bad_rows(path: Path | None, keep_bytes: int) -> Iterator[IO[bytes]]:
    """The list of bad rows, from where a checkpoint left it."""
    try:
        with open(path or os.devnull, "r+b" if path is None or (keep_bytes and path.exists()) else "w+b") as file:
            if path is not None:
                file.truncate(keep_bytes)
                file.seek(keep_bytes)
            yield file
    except OSError as error:
        raise ReplayFailed(f"{error.filename or path}: cannot be written ({error.strerror or error})") from error


def _list_bad(file: IO[bytes], log: str, bad_lines: Iterable[BadLine]) -> None:
    for bad in bad_lines:
        said = {"file": log, "line": bad.line, "kind": bad.kind, "found": bad.sentence}
        file.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))
