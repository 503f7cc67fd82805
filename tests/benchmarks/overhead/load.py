"""The load generator: connections as asyncio Protocols on uvloop, a closed loop or a fixed schedule.

Run as a process of its own; prints a LoadResult as JSON. A request of the fixed schedule is timed from the moment it
should have left, not from when it did, so a stall counts for every request behind it (no coordinated omission).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Final, cast
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.benchmarks.overhead.pacer import Pacer
from tests.benchmarks.overhead.prompts import Bodies
from tests.benchmarks.overhead.upstream import CHUNKS_PER_STREAM
from tests.benchmarks.overhead.wire import HEAD_END, LAST_CHUNK, Head, parse_head, status_of, stream_is_whole

MAX_CONNECTIONS: Final = 256
DRAIN_S: Final = 8.0
FEW_ROUNDS: Final = 4  # answers a connection, below which a window cuts off too much


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One load: `rate` None means a closed loop with `connections`, otherwise requests a second on a schedule."""

    url: str
    stream: bool
    seconds: float
    warm_up_s: float = 0.0
    connections: int = 64
    rate: float | None = None
    model: str = "auto"
    api_key: str = "sk-benchmark"
    repeat_share: float = 0.0
    first_number: int = 0
    user: str = ""


@dataclass(slots=True)
class LoadResult:
    """What came back. Times are nanoseconds: whole answers, and the first event of streams.

    `answered` counts every good answer, `completed` those that came between the warm-up and the end. `per_second` is
    taken from the latter, or from all and the time that they took where a slow proxy completed too few.
    """

    seconds: float = 0.0
    answered: int = 0
    completed: int = 0
    per_second: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    latencies_ns: list[int] = field(default_factory=list)
    first_event_ns: list[int] = field(default_factory=list)


class Recorder:
    """Collects samples of one load, from `opens_at_ns` to `closes_at_ns` by the time a request was due."""

    def __init__(self, spec: LoadSpec) -> None:
        self.stream = spec.stream
        self.opens_at_ns = perf_counter_ns() + round(spec.warm_up_s * 1e9)
        self.closes_at_ns = self.opens_at_ns + round(spec.seconds * 1e9)
        self.answered = 0
        self.completed = 0
        self.started_at_ns = perf_counter_ns()
        self.last_at_ns = self.started_at_ns
        self.latencies = array("q")
        self.first_events = array("q")
        self.errors: Counter[str] = Counter()

    def good(self, due_ns: int, first_ns: int) -> None:
        """A whole answer; one that came after the end has a latency, but is none of the answers a second."""
        now = perf_counter_ns()
        self.answered += 1
        self.last_at_ns = now
        self.completed += self.opens_at_ns <= now <= self.closes_at_ns
        if self.opens_at_ns <= due_ns:
            self.latencies.append(now - due_ns)
            if self.stream:
                self.first_events.append(first_ns - due_ns)

    def bad(self, kind: str) -> None:
        """An answer that is none; counted in the warm-up too, where something is just as wrong."""
        self.errors[kind] += 1


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._head: Head | None = None
        self._left = 0
        self._first_ns = 0
        self._due_ns = 0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Report for work."""
        self._transport = cast(asyncio.Transport, transport)
        self._load.idle(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Count the request that was under way as failed, and have the connection replaced."""
        if self._busy:
            self._busy = False
            self._load.recorder.bad("connection closed")
        self._load.lost(self)

    def send(self, request: bytes, due_ns: int) -> None:
        """Write one request that was due at `due_ns`."""
        assert self._transport is not None
        self._busy, self._due_ns, self._first_ns = True, due_ns, 0
        self._head = None
        self._pieces.clear()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect the answer; time its first event; finish it when its framing says so."""
        if self._head is None:
            data = b"".join((*self._pieces, data))
            self._pieces.clear()
            end = data.find(HEAD_END)
            if end < 0:
                self._pieces.append(data)
                return
            self._head = parse_head(data[:end])
            data = data[end + 4 :]
            self._left = self._head.content_length or 0
        if not self._first_ns and b"data:" in data:
            self._first_ns = perf_counter_ns()
        self._pieces.append(data)
        if self._is_complete(data):
            self._finish()

    def _is_complete(self, data: bytes) -> bool:
        assert self._head is not None
        if not self._head.chunked:
            self._left -= len(data)
            return self._left <= 0
        if len(data) >= len(LAST_CHUNK):
            return data.endswith(LAST_CHUNK)
        return b"".join(self._pieces[-len(LAST_CHUNK) :]).endswith(LAST_CHUNK)

    def _finish(self) -> None:
        assert self._head is not None and self._transport is not None
        self._busy = False
        problem = self._problem(b"".join(self._pieces))
        if problem is None:
            self._load.recorder.good(self._due_ns, self._first_ns)
        else:
            self._load.recorder.bad(problem)
        if self._head.closes:
            self._transport.close()
        else:
            self._load.idle(self)

    def _problem(self, body: bytes) -> str | None:
        """What is wrong with an answer; None where it is whole."""
        assert self._head is not None
        status = status_of(self._head)
        if status != 200:
            return f"status {status}"
        if self._load.recorder.stream:
            return None if stream_is_whole(body, CHUNKS_PER_STREAM) else "short stream"
        return None if b'"usage"' in body and b'"choices"' in body else "short answer"


class Load:
    """One load under way: hands requests to connections."""

    def __init__(self, spec: LoadSpec) -> None:
        parts = urlsplit(spec.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._spec = spec
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {spec.api_key}\r\n"
            "Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: parsimony-benchmark\r\nContent-Length: "
        ).encode()
        self._bodies = Bodies(spec.model, spec.stream, spec.repeat_share, spec.first_number, spec.user)
        self._idle: list[Connection] = []
        self._waiting: list[int] = []
        self._open = 0
        self._tasks: list[asyncio.Future[None]] = []
        self._closed_loop_runs = False
        self.recorder = Recorder(spec)

    async def run(self) -> LoadResult:
        """Make the load and return what came of it."""
        closed = self._spec.rate is None
        await asyncio.gather(*(self._connect() for _ in range(self._spec.connections if closed else 16)))
        self.recorder = Recorder(self._spec)
        if closed:
            await self._closed_loop()
        else:
            await self._schedule(self._spec.rate or 0.0)
        return self._result()

    async def _connect(self) -> None:
        self._open += 1
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self._address)
        except OSError as error:
            self._open -= 1
            self.recorder.bad(type(error).__name__)

    def idle(self, connection: Connection) -> None:
        """A connection is free: it takes the request that waits longest, or in a closed loop the next."""
        if self._waiting:
            self._send(connection, self._waiting.pop(0))
        elif self._closed_loop_runs and perf_counter_ns() < self.recorder.closes_at_ns:
            self._send(connection, perf_counter_ns())
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Replace a connection that was closed, while there is work."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if perf_counter_ns() < self.recorder.closes_at_ns:
            self._tasks.append(asyncio.ensure_future(self._connect()))

    def _send(self, connection: Connection, due_ns: int) -> None:
        body = next(self._bodies)
        connection.send(b"%b%d\r\n\r\n%b" % (self._head, len(body), body), due_ns)

    async def _closed_loop(self) -> None:
        self._closed_loop_runs = True
        for connection in self._take_idle():
            self.idle(connection)
        await self._until_drained()

    async def _schedule(self, rate: float) -> None:
        async with Pacer(rate) as pacer:
            async for due_ns in pacer:
                if due_ns >= self.recorder.closes_at_ns:
                    break
                if self._idle:
                    self._send(self._idle.pop(), due_ns)
                    continue
                self._waiting.append(due_ns)
                if self._open < MAX_CONNECTIONS:
                    self._tasks.append(asyncio.ensure_future(self._connect()))
        await self._until_drained()

    def _take_idle(self) -> list[Connection]:
        taken, self._idle = self._idle, []
        return taken

    async def _until_drained(self) -> None:
        """Wait for the load's end and then, for a bounded time, for the answers that are still out."""
        while perf_counter_ns() < self.recorder.closes_at_ns:
            await asyncio.sleep(0.02)
        deadline = self.recorder.closes_at_ns + DRAIN_S * 1e9
        while len(self._idle) < self._open and perf_counter_ns() < deadline:
            await asyncio.sleep(0.02)
        unanswered = len(self._waiting) + self._open - len(self._idle)
        if unanswered:
            self.recorder.errors["no answer"] += unanswered

    def _per_second(self) -> float:
        recorder = self.recorder
        if recorder.completed >= FEW_ROUNDS * self._spec.connections:
            return recorder.completed / self._spec.seconds
        return recorder.answered / max(1, recorder.last_at_ns - recorder.started_at_ns) * 1e9

    def _result(self) -> LoadResult:
        recorder = self.recorder
        return LoadResult(
            seconds=self._spec.seconds,
            answered=recorder.answered,
            completed=recorder.completed,
            per_second=self._per_second(),
            errors=dict(recorder.errors),
            latencies_ns=recorder.latencies.tolist(),
            first_event_ns=recorder.first_events.tolist(),
        )


def main() -> None:
    """Read a LoadSpec as JSON, run it, print the LoadResult."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("spec", help="a LoadSpec as JSON")
    spec = LoadSpec(**orjson.loads(parser.parse_args().spec))

    async def run() -> LoadResult:
        return await Load(spec).run()

    gc.disable()  # The process lives for seconds; a collection in the middle would show up as the proxy's latency.
    print(orjson.dumps(asdict(uvloop.run(run()))).decode())


if __name__ == "__main__":
    main()
