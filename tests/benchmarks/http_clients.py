"""What an upstream call costs in each HTTP client, and what each does when the peer misbehaves.

Run: python -m tests.benchmarks.http_clients [cost|peers] [--only NAME...]

`cost` prints CPU microseconds a call (all threads of the client's process, user and system) at 1, 16 and 64 in flight;
`peers` prints, for each misbehaviour, the exception raised and how long it took. Findings: README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.request import urlopen

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from tests.benchmarks import http_client_peers as peers
from tests.benchmarks.http_client_adapters import CLIENTS, HttpClient
from tests.benchmarks.overhead.processes import free_port, wait_for_port

IN_FLIGHT = (1, 16, 64)
CALLS = {"http1": 12_000, "pyreqwest": 8_000, "aiohttp": 8_000, "httpx": 800}
WARM_UP_CALLS = 200
BODY = orjson.dumps({"model": "benchmark", "messages": [{"role": "user", "content": "why is the sky blue? " * 45}]})
STREAM_BODY = orjson.dumps(
    {"model": "benchmark", "stream": True, "messages": [{"role": "user", "content": "why is the sky blue? " * 45}]}
)


def cpu_seconds() -> float:
    """User and system time of this process, every thread included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def whole(client: HttpClient, url: str) -> None:
    """One answer read whole."""
    status, _ = await client.call(url, BODY)
    assert status == 200


async def streamed(client: HttpClient, url: str) -> None:
    """One answer read piece by piece."""
    pieces = b"".join([piece async for piece in client.stream(url, STREAM_BODY)])
    assert pieces.endswith(b"data: [DONE]\n\n")


async def cost_us(call: Callable[[], Awaitable[None]], calls: int, in_flight: int) -> tuple[float, float]:
    """CPU and wall microseconds a call, with `in_flight` callers in a closed loop."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await call()

    cpu, wall = cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return (cpu_seconds() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6


def set_pace(url: str, pace: str) -> None:
    """Tell the benchmark's upstream how the chunks of its streams leave."""
    with urlopen(url.replace("/v1/chat/completions", f"/pace/{pace}"), timeout=5) as response:
        response.read()


async def measure(name: str, url: str) -> list[list[str]]:
    """One client's rows: whole answers and streams, a column for each number in flight."""
    client = CLIENTS[name](5.0, 30.0)
    rows = []
    for label, call, share in (("whole", whole, 1), ("20 chunks, at once", streamed, 4), ("one by one", streamed, 4)):
        set_pace(url, "one-by-one" if label == "one by one" else "at-once")
        await cost_us(partial(call, client, url), WARM_UP_CALLS, 16)
        row = [name, label]
        for in_flight in IN_FLIGHT:
            cpu, wall = await cost_us(partial(call, client, url), CALLS[name] // share, in_flight)
            row.append(f"{cpu:,.0f} ({wall:,.0f})")
        rows.append(row)
    await client.close()
    return rows


def print_cost(names: list[str], console: Console) -> None:
    """Measure each client in turn against the benchmark's own upstream on the other core."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.overhead.upstream", "--port", str(port)]
    upstream = subprocess.Popen(command)
    try:
        wait_for_port(port)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(upstream.pid, cores[-1:])
        os.sched_setaffinity(0, cores[:1])
        table = Table(title="CPU µs a call (wall µs), client process alone on one core")
        for column in ("client", "answer", *(f"{number} in flight" for number in IN_FLIGHT)):
            table.add_column(column, justify="left" if column in ("client", "answer") else "right")
        for name in names:
            for row in uvloop.run(measure(name, f"http://127.0.0.1:{port}/v1/chat/completions")):
                table.add_row(*row)
        console.print(table)
    finally:
        upstream.kill()
        upstream.wait()


def print_peers(names: list[str], console: Console) -> None:
    """Put each client through every misbehaviour and print what came of it."""
    table = Table(title="what each client makes of a misbehaving peer", show_lines=True)
    table.add_column("peer")
    for name in names:
        table.add_column(name, overflow="fold")
    outcomes = {name: uvloop.run(peers.outcomes(CLIENTS[name])) for name in names}
    for case in outcomes[names[0]]:
        table.add_row(case, *(outcomes[name][case] for name in names))
    console.print(table)


def main() -> None:
    """Read the options and run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=("cost", "peers", "both"), default="both")
    parser.add_argument("--only", nargs="+", choices=sorted(CLIENTS), default=list(CLIENTS))
    options = parser.parse_args()
    console = Console(width=max(120, Console().width))
    if options.part != "cost":
        print_peers(options.only, console)
    if options.part != "peers":
        print_cost(options.only, console)


if __name__ == "__main__":
    main()
