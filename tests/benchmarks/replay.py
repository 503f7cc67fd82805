"""How fast `parsimony replay` reads, and what memory that takes: `python -m tests.benchmarks.replay --rows 1000000`.

The log is invented: questions of seven kinds, every second with a text of up to 2,000 characters to work on, one in six
a repeat. Rows without usage (`--uncounted`) have their tokens counted, which is the dearest way to read one.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil

from router.replay.forecast import forecast
from router.replay.run import cores, replay
from router.replay.sources import Position
from tests.support.logs import pair, plan_for, prompts

_WORDS = "the gate of an old garden opens when seven ducks cross the river beside a bakery at noon".split()
_BLOCK_ROWS = 10_000
_MIB = 1 << 20


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        characters = write_log(path, options.rows, options.uncounted)
        print(f"{options.rows:,} rows, {path.stat().st_size / _MIB:,.0f} MiB, {characters:,.0f} characters a prompt")
        Measured(path, options.workers).run(options.rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--uncounted", type=float, default=0.0, help="share of rows whose log counts no tokens")
    return parser.parse_args()


def write_log(path: Path, rows: int, uncounted: float = 0.0) -> float:
    """Mean characters of a prompt. Written a part at a time: the log may be larger than the memory."""
    characters = 0
    draw = random.Random(5)
    with path.open("wb") as log:
        for number, prompt in enumerate(itertools.islice(_endless(draw), rows)):
            record = pair(prompt, number % 40_000, "gpt-4", draw.randrange(20, 800))
            record["response"]["id"] = f"chatcmpl-{number}"
            if draw.random() < uncounted:
                del record["response"]["usage"]
            characters += len(prompt)
            log.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    return characters / rows


def _endless(draw: random.Random) -> Iterator[str]:
    for part in itertools.count():
        for prompt in prompts(_BLOCK_ROWS, seed=part):
            context = " ".join(draw.choices(_WORDS, k=draw.randrange(0, 400))) if draw.random() < 0.5 else ""
            yield f"{prompt}\n\n{context}" if context else prompt


class Measured:
    """A replay whose processes are weighed after each block."""

    def __init__(self, path: Path, workers: int) -> None:
        self._path, self._workers = path, workers
        self._peaks: list[tuple[int, int]] = []
        self._me = psutil.Process(os.getpid())

    def run(self, rows: int) -> None:
        plan = plan_for(None, int(time.time() * 1_000))
        began, cpu = time.perf_counter(), os.times()
        sums = replay([str(self._path)], plan, self._workers, progress=self._weigh)
        found = forecast(sums, plan, (str(self._path),))
        wall, after = time.perf_counter() - began, os.times()
        used = sum(after[:4]) - sum(cpu[:4])
        print(f"{wall:,.1f} s with {self._workers} workers: {rows / wall:,.0f} rows/s; {used:,.1f} s of CPU, "
              f"{used / rows * 1e6:,.0f} us a row")  # fmt: skip
        tenth = max((size for read, size in self._peaks if read <= rows // 10), default=0)
        print(f"memory of all processes: {tenth / _MIB:,.0f} MiB at most in the first tenth, "
              f"{max(size for _, size in self._peaks) / _MIB:,.0f} MiB in all")  # fmt: skip
        print(f"{found.judged:,} judged, {found.repeats:,} repeats, {sum(bad.count for bad in found.bad):,} bad")

    def _weigh(self, position: Position, read_bytes: int, rows: int) -> None:
        processes = [self._me, *self._me.children(recursive=True)]
        self._peaks.append((rows, sum(process.memory_info().rss for process in processes)))


if __name__ == "__main__":
    main()
