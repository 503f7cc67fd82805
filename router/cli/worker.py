"""`python -m router.cli.worker`: one worker, started by `parsimony serve` on a listening socket."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from router.api.coalescing import CoalescingProtocol
from router.app import create_app
from router.bootstrap import open_services
from router.config import Config, load_config
from router.errors import ParsimonyError
from router.preflight import check
from router.processes import exit_status
from router.telemetry import configure_logging

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 10_000
"""Of one worker, idle ones included: a request on a further one gets 503."""
IDLE_SECONDS = 75
"""How long an idle connection is kept: longer than load balancers keep theirs (60 s is usual), so that it is they
who close it. A worker that stood still for long, as on a machine that was suspended, would otherwise close
connections under the requests that have come on them meanwhile."""


class _Server(uvicorn.Server):
    """uvicorn raises the signal again once it has stopped, which would end the process before
    settlements are flushed; here the worker's own handler only asks it to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(config: Config, listener: socket.socket, simulated_url: str | None) -> None:
    async with open_services(config, simulated_url=simulated_url) as services:
        server = _Server(
            uvicorn.Config(
                create_app(services),
                http=CoalescingProtocol,
                ws="none",
                proxy_headers=False,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                backlog=2048,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=int(config.server.drain_seconds),
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
        # What start-up made stays: the collector need not look at it again. What a request makes is nearly
        # free of cycles: looking for them rarely leaves fewer and shorter pauses.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 100)
        await server.serve(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(prog="router.cli.worker")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--simulated-url")
    arguments = parser.parse_args()
    loop_factory = uvicorn.Config("", loop="uvloop", log_config=None).get_loop_factory()
    try:
        config = load_config(arguments.config)
        configure_logging(config.logging.format, config.logging.level)
        check(arguments.config, config)  # again: this may be a restart, and the files others than at the start
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(config, socket.socket(fileno=arguments.fd), arguments.simulated_url))
    except ParsimonyError as error:
        print(f"parsimony: {error}", file=sys.stderr)
        sys.exit(exit_status(error))


if __name__ == "__main__":
    main()
