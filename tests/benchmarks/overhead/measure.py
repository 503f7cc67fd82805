"""The measurements of one run: which loads each target gets, in which order, and what is kept of them.

Core 0 is the proxy's alone; the load generator, the upstream and a proxy's other processes share core 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import numpy as np
import orjson
import psutil

from tests.benchmarks.overhead.load import LoadResult, LoadSpec
from tests.benchmarks.overhead.processes import Child, Memory, free_port, memory_of, place, wait_for_port
from tests.benchmarks.overhead.targets import Launch, Target

CORES: Final = sorted(os.sched_getaffinity(0))
PROXY_CORE: Final = CORES[0]
OTHER_CORES: Final = set(CORES[1:2] or CORES)
NUMBERS_A_LOAD: Final = 10_000_000
RATE_SHARE: Final = 0.5  # of what a slow proxy can bear at most
WARM_UP_S: Final = 1.0
LOAD_OVERHEAD_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how hard; `seconds` is the length of each load."""

    seconds: float = 6.0
    connections: int = 64
    rate: float = 200.0
    gap_ms: float = 0.0
    repeat_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Good answers a second in a closed loop, and what the proxy's worker spent on them.

    `cpu_us` is its CPU time an answer, user and system, every thread: steadier than the rate on a busy machine.
    `core_share` is its part of a core: well under 1 where something else held it up.
    """

    per_second: float
    cpu_us: float | None
    core_share: float | None
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles at a fixed rate in microseconds: directly at the upstream, and through the proxy."""

    rate: float
    direct_p50_us: float
    direct_p99_us: float
    through_p50_us: float
    through_p99_us: float
    errors: dict[str, int]

    @property
    def added_p50_us(self) -> float:
        """What the proxy adds to the median."""
        return self.through_p50_us - self.direct_p50_us

    @property
    def added_p99_us(self) -> float:
        """What the proxy adds to the 99th percentile."""
        return self.through_p99_us - self.direct_p99_us


@dataclass(slots=True)
class Row:
    """One target's results; None where there is nothing to measure. `note` says what is missing or went wrong."""

    key: str
    name: str
    whole: Throughput | None = None
    streams: Throughput | None = None
    streams_one_by_one: Throughput | None = None
    answer: Latency | None = None
    first_event: Latency | None = None
    ready_s: float | None = None
    memory: Memory | None = None
    note: str = ""
    start_errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a load goes, with what credentials, and which process does the work (None: no proxy)."""

    url: str
    model: str
    api_key: str
    worker_pid: int | None = None


class Bench:
    """One run: the upstream, and the loads against it or through a target."""

    def __init__(self, options: Options, report: Callable[[str], None]) -> None:
        self._options = options
        self._report = report
        self._load_numbers = count()
        self._port = free_port()

    @contextmanager
    def upstream(self) -> Iterator[None]:
        """The upstream's process, for as long as the context lasts."""
        module = "tests.benchmarks.overhead.upstream"
        child = Child((sys.executable, "-m", module, "--port", str(self._port), "--gap-ms", str(self._options.gap_ms)))
        try:
            wait_for_port(self._port)
            place(child.pid, OTHER_CORES)
            yield
        finally:
            child.stop()

    @property
    def _direct(self) -> Endpoint:
        return Endpoint(f"http://127.0.0.1:{self._port}/v1/chat/completions", "benchmark", "sk-benchmark")

    def measure_direct(self) -> Row:
        """No proxy at all: the most that this harness can measure on this machine."""
        row = Row("direct", "no proxy (harness limit)")
        self._throughputs(row, self._direct, 0.5)
        return row

    def measure(self, target: Target) -> Row:
        """Start a target, load it, note its memory, stop it. What goes wrong stands in the row's note."""
        row = Row(target.key, target.name, note=target.missing() or "")
        if row.note:
            return row
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            self._report(f"{target.name}: starting")
            launch = target.launch(Path(folder), f"http://127.0.0.1:{self._port}/v1")
            child = Child(launch.command, launch.environment)
            try:
                self._measure_running(row, target, launch, child, Path(folder))
            except (RuntimeError, psutil.NoSuchProcess, StopIteration) as error:
                row.note = " ".join(str(error).split())[-300:]
            finally:
                child.stop()
        return row

    @contextmanager
    def running(self, target: Target) -> Iterator[Endpoint]:
        """The target, ready and on its core, for as long as the context lasts. Raises RuntimeError."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            launch = target.launch(Path(folder), f"http://127.0.0.1:{self._port}/v1")
            child = Child(launch.command, launch.environment)
            try:
                child.wait_until_ready(launch.ready_url, launch.ready_timeout_s)
                yield self._placed(target, launch, child, Path(folder))
            finally:
                child.stop()

    def _placed(self, target: Target, launch: Launch, child: Child, folder: Path) -> Endpoint:
        """Where a target that is ready is called; its worker has a core for itself from now on."""
        worker = target.worker_pid(child)
        endpoint = Endpoint(launch.url, target.model, target.credential(folder), worker)
        for process in child.family():
            place(process.pid, {PROXY_CORE} if process.pid == worker else OTHER_CORES)
        return endpoint

    def _measure_running(self, row: Row, target: Target, launch: Launch, child: Child, folder: Path) -> None:
        row.ready_s = child.wait_until_ready(launch.ready_url, launch.ready_timeout_s)
        endpoint = self._placed(target, launch, child, folder)
        self._throughputs(row, endpoint, target.time_share)
        row.memory = memory_of(target.worker_pid(child))
        self._latencies(row, endpoint, target.time_share)

    def _throughputs(self, row: Row, endpoint: Endpoint, share: float) -> None:
        seconds = self._options.seconds * share
        self._report(f"{row.name}: warming up")
        warm = self._load(endpoint, stream=False, seconds=min(WARM_UP_S, seconds))
        row.start_errors = warm.errors
        self._report(f"{row.name}: requests, closed loop")
        row.whole = self.throughput(endpoint, stream=False, seconds=seconds)
        self._report(f"{row.name}: streams, closed loop")
        row.streams = self.throughput(endpoint, stream=True, seconds=seconds)
        self._report(f"{row.name}: streams chunk by chunk, closed loop")
        with self._one_by_one():
            row.streams_one_by_one = self.throughput(endpoint, stream=True, seconds=seconds)

    def _latencies(self, row: Row, endpoint: Endpoint, share: float) -> None:
        assert row.whole is not None and row.streams_one_by_one is not None
        seconds = self._options.seconds * share
        self._report(f"{row.name}: requests, fixed rate")
        rate = bearable_rate(self._options.rate, row.whole.per_second)
        row.answer = self._latency(endpoint, rate, seconds, stream=False)
        self._report(f"{row.name}: streams, fixed rate")
        rate = bearable_rate(self._options.rate, row.streams_one_by_one.per_second)
        with self._one_by_one():
            row.first_event = self._latency(endpoint, rate, seconds, stream=True)

    def throughput(self, endpoint: Endpoint, *, stream: bool, seconds: float, user: str = "") -> Throughput:
        """A closed loop; `user` is the end user that its requests name."""
        before_s = cpu_seconds(endpoint.worker_pid)
        result = self._load(endpoint, stream=stream, seconds=seconds, user=user)
        spent_s = cpu_seconds(endpoint.worker_pid) - before_s
        if endpoint.worker_pid is None or not result.answered:
            return Throughput(result.per_second, None, None, result.errors)
        cpu_us = spent_s / result.answered * 1e6
        return Throughput(result.per_second, cpu_us, min(1.0, cpu_us * result.per_second / 1e6), result.errors)

    def _latency(self, endpoint: Endpoint, rate: float, seconds: float, *, stream: bool) -> Latency:
        """Directly right before through, since a shared machine is not the same a minute later."""
        direct = self._load(self._direct, stream=stream, seconds=seconds / 2, rate=rate)
        through = self._load(endpoint, stream=stream, seconds=seconds, rate=rate)
        direct_us, through_us = (each.first_event_ns if stream else each.latencies_ns for each in (direct, through))
        return Latency(rate, *percentiles_us(direct_us), *percentiles_us(through_us), through.errors)

    def _load(
        self, endpoint: Endpoint, *, stream: bool, seconds: float, rate: float | None = None, user: str = ""
    ) -> LoadResult:
        return run_load(
            LoadSpec(
                url=endpoint.url,
                stream=stream,
                seconds=seconds,
                warm_up_s=min(0.5, seconds / 4),
                connections=self._options.connections,
                rate=rate,
                model=endpoint.model,
                api_key=endpoint.api_key,
                repeat_share=self._options.repeat_share,
                first_number=next(self._load_numbers) * NUMBERS_A_LOAD,
                user=user,
            )
        )

    @contextmanager
    def _one_by_one(self) -> Iterator[None]:
        self._set_pace("one-by-one")
        try:
            yield
        finally:
            self._set_pace("at-once")

    def _set_pace(self, pace: str) -> None:
        with urlopen(f"http://127.0.0.1:{self._port}/pace/{pace}", timeout=10) as response:
            response.read()


def run_load(spec: LoadSpec) -> LoadResult:
    """Run one load in a process of its own beside the upstream."""
    command = (sys.executable, "-m", "tests.benchmarks.overhead.load", orjson.dumps(asdict(spec)).decode())
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        place(process.pid, OTHER_CORES)
        output, _ = process.communicate(timeout=spec.warm_up_s + spec.seconds + LOAD_OVERHEAD_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return LoadResult(**orjson.loads(output))


def cpu_seconds(pid: int | None) -> float:
    """CPU time a process has used so far, user and system, every thread; 0 for no process."""
    if pid is None:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def bearable_rate(wanted: float, capacity: float) -> float:
    """The fixed rate for a proxy: the wanted one, or a share of its capacity where that is too little."""
    return max(1.0, min(wanted, float(int(capacity * RATE_SHARE))))


def percentiles_us(samples_ns: list[int]) -> tuple[float, float]:
    """Median and 99th percentile of all samples, in microseconds; not-a-number where there are none."""
    if not samples_ns:
        return float("nan"), float("nan")
    p50, p99 = np.percentile(np.asarray(samples_ns), (50, 99)) / 1_000
    return float(p50), float(p99)
