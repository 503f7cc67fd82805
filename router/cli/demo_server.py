"""The demo's server: `parsimony serve` as a child on a folder and a port of its own, gone without a trace after."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

READY_S = 30.0
STOP_S = 20.0
GONE_S = 5.0
CLOSE_S = 5.0
POLL_S = 0.1
LOG_TAIL_LINES = 20
# Every process that the server starts inherits it; so what is left over can be found, wherever it was reparented.
MARKER = "PARSIMONY_DEMO_RUN"


class DemoFailed(Exception):
    """The demo did not do what it should; `str(error)` says what, and what the server logged last."""


class DemoServer:
    """One `parsimony serve` with simulated models. `start` it, use `url`, then `stop` it."""

    def __init__(self, folder: Path, base_config: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.config_path = folder / "parsimony.yaml"
        self.log_path = folder / "server.log"
        self._marker = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self.config_path.write_text(yaml.safe_dump(_demo_config(base_config, folder, self.port)), encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once /health/ready says so. Raises DemoFailed where the server ends first or takes too long."""
        command = [sys.executable, "-m", "router.cli", "serve", "--config", str(self.config_path)]
        environment = {**os.environ, MARKER: self._marker}
        with self.log_path.open("wb") as log:
            # In a session of its own: Ctrl-C at the terminal must reach the demo alone, which then ends the server.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + READY_S
        while not self._ready():
            if self._process.poll() is not None:
                raise DemoFailed(f"the server ended with status {self._process.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"the server was not ready after {READY_S:.0f} s\n{self.log_tail()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ends the server with SIGTERM. Raises DemoFailed where it has to be killed, fails, or leaves a process."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._kill()
            raise DemoFailed(f"the server did not stop {STOP_S:.0f} s after SIGTERM\n{self.log_tail()}") from None
        left = self._leftovers()
        if left:
            self._kill()
            raise DemoFailed(f"the server left processes behind: {', '.join(left)}")
        if status not in (0, -signal.SIGTERM):
            raise DemoFailed(f"the server ended with status {status}\n{self.log_tail()}")

    def close(self) -> None:
        """Ends whatever still runs, gently if it will; for when something went wrong. Raises nothing."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()

    def _kill(self) -> None:
        for process in self._marked():
            process.kill()
        if self._process is not None:
            self._process.wait(STOP_S)

    def log(self) -> str:
        """All that the server and its children have written."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self) -> str:
        lines = self.log().splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=1.0).status_code == 200
        except httpx.TransportError:
            return False

    def _leftovers(self) -> list[str]:
        """Names of processes that outlive the server by more than GONE_S."""
        deadline = time.monotonic() + GONE_S
        while (marked := self._marked()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return [f"{process.name()} ({process.pid})" for process in marked]

    def _marked(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARKER) == self._marker
        except (psutil.Error, OSError):
            # Somebody else's, a zombie, or gone by now.
            return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _demo_config(base: Path, folder: Path, port: int) -> dict[str, Any]:
    """The user's configuration with simulated models, stores of its own and a free port."""
    values: dict[str, Any] = yaml.safe_load(base.read_text(encoding="utf-8"))
    values["server"] = {**(values.get("server") or {}), "host": "127.0.0.1", "port": port, "workers": 1}
    values["data_dir"] = str(folder / "data")
    for key in ("prices", "hardware"):
        values[key] = str((base.parent / values.get(key, f"{key}.yaml")).resolve())
    classifier = values.get("classifier") or {}
    for key in ("evidence", "quality_targets"):
        if classifier.get(key):
            classifier[key] = str((base.parent / classifier[key]).resolve())
    values["simulate"] = "always"
    # The user's own stores stay out of it, and so do the budgets and the receivers of the user's own teams: nobody
    # shall get an alert, or a report, of what never happened.
    for section in ("redis", "sql", "budgets", "alerts", "reports"):
        values.pop(section, None)
    return values
