"""`Supervisor`: the processes of one `parsimony serve`, started in order, watched, and stopped in order."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from router.config import Config
from router.errors import ConfigError, ParsimonyError
from router.processes import UNUSABLE_CONFIG, follow_parent
from router.stores.redis_server import EmbeddedRedis

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.2
_RESTART_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_SETTLED_SECONDS = 30
"""A process that has lived so long starts anew without delay."""
_STOP_SECONDS = 10


@dataclass(slots=True)
class _Child:
    name: str
    command: list[str]
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    restarts: int = 0
    not_before_s: float = field(default=0.0)

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, pass_fds=self.fds, preexec_fn=follow_parent)
        self.started_s = time.monotonic()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts Redis (where embedded), the ledger writer, the simulated models (where they serve) and the workers.

    A process that dies is started again, with growing pauses, unless it cannot use the configuration.
    Stopping goes against the stream of spend: first the workers drain, then the writer, then Redis goes,
    so nothing is left unsettled.
    """

    def __init__(self, config: Config, config_path: Path, *, simulated: bool) -> None:
        self._config = config
        self._redis = None if config.redis.url else EmbeddedRedis(config.data_dir / "redis")
        self.listener = _listen(config.server.host, config.server.port)
        self._simulated = _listen("127.0.0.1", 0) if simulated else None
        self._writer = _Child("writer", _module("writer", "--config", str(config_path)))
        self._children = [*self._plan(config_path), self._writer]

    def start(self) -> None:
        """Starts everything but the writer, which needs the tables."""
        if self._redis is not None:
            self._redis.start()
        for child in self._children:
            if child is not self._writer:
                child.start()

    def start_writer(self) -> None:
        """Once the stores have been brought up to date."""
        self._writer.start()

    def watch(self, stop: threading.Event) -> None:
        """Until `stop`, starts again what has died. Raises ConfigError where a process says that this is no use."""
        while not stop.wait(_WATCH_SECONDS):
            if self._redis is not None and not self._redis.running:
                logger.error("the embedded Redis died; starting it again")
                self._restart_redis(self._redis)
            for child in self._children:
                self._revive(child)

    def stop(self) -> None:
        # Once the workers close theirs, too, newcomers are refused at once, and not left waiting for nobody.
        self.listener.close()
        drain_s = self._config.server.drain_seconds
        self._end("worker", drain_s + _STOP_SECONDS)
        self._end("writer", _STOP_SECONDS)
        self._end("simulated", _STOP_SECONDS)
        if self._redis is not None:
            self._redis.stop()

    def _plan(self, config_path: Path) -> list[_Child]:
        serving = ["--config", str(config_path), "--fd", str(self.listener.fileno())]
        children = []
        if self._simulated is not None:
            host, port = self._simulated.getsockname()
            fd = self._simulated.fileno()
            children.append(_Child("simulated", _module("simulated", "--fd", str(fd)), (fd,)))
            serving += ["--simulated-url", f"http://{host}:{port}/v1"]
        for _ in range(self._config.server.workers):
            children.append(_Child("worker", _module("worker", *serving), (self.listener.fileno(),)))
        return children

    def _restart_redis(self, server: EmbeddedRedis) -> None:
        try:
            server.start()
        except (ParsimonyError, OSError) as error:
            logger.error("it did not start, and is tried again: %s", error)

    def _revive(self, child: _Child) -> None:
        now_s = time.monotonic()
        if child.running or now_s < child.not_before_s:
            return
        if child.not_before_s == 0.0:
            assert child.process is not None
            if child.process.returncode == UNUSABLE_CONFIG and not self._serving():
                raise ConfigError(f"a {child.name} cannot use the configuration, as it says above")
            child.restarts = 0 if now_s - child.started_s > _SETTLED_SECONDS else child.restarts
            pause_s = _RESTART_SECONDS[min(child.restarts, len(_RESTART_SECONDS) - 1)]
            logger.error("%s ended with %s; starting it again in %g s", child.name, child.process.returncode, pause_s)
            child.restarts += 1
            child.not_before_s = now_s + pause_s
            return
        child.not_before_s = 0.0
        child.start()

    def _serving(self) -> bool:
        """Whether a worker runs: a file that was broken since must not end those that serve."""
        return any(child.running for child in self._children if child.name == "worker")

    def _end(self, name: str, timeout_s: float) -> None:
        children = [child for child in self._children if child.name == name and child.running]
        for child in children:
            assert child.process is not None
            child.process.terminate()
        deadline_s = time.monotonic() + timeout_s
        for child in children:
            assert child.process is not None
            try:
                child.process.wait(max(deadline_s - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                logger.error("%s did not stop within %g s; killing it", name, timeout_s)
                child.process.kill()
                child.process.wait()


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"router.cli.{name}", *arguments]


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything starts: a port that is taken is said at once, and early clients queue."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        problem = os.strerror(error.errno) if error.errno else str(error)
        raise ParsimonyError(f"cannot listen on {host}:{port}: {problem}; see server.host and server.port") from error
