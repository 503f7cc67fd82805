"""Child processes of the benchmark: free ports, start and end by process id, cores, memory."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psutil

POLL_S = 0.01
STOP_S = 10.0


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int, timeout_s: float = 20.0) -> None:
    """Return once something accepts connections on the port; TimeoutError otherwise."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_S)
    raise TimeoutError(f"nothing listens on port {port} after {timeout_s} s")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one process in bytes; `pss` shares what is shared among those who share it."""

    rss: int
    pss: int


class Child:
    """A process with everything it starts; its output goes to a file that is read only when it fails."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self.started_at = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdout=self._output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )

    @property
    def pid(self) -> int:
        """The process started; its children are found from it."""
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """The process and all of its descendants that still run."""
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait_until_ready(self, url: str, timeout_s: float) -> float:
        """Seconds from the start until `url` answers 200. RuntimeError, with the output's end, where it does not."""
        with httpx.Client(trust_env=False, timeout=1.0) as client:
            while time.perf_counter() - self.started_at < timeout_s:
                if self._process.poll() is not None:
                    raise RuntimeError(f"ended with {self._process.returncode}: {self.output_tail()}")
                with suppress(httpx.HTTPError):
                    if client.get(url).status_code == 200:
                        return time.perf_counter() - self.started_at
                time.sleep(POLL_S)
        raise RuntimeError(f"not ready after {timeout_s} s: {self.output_tail()}")

    def output_tail(self, length: int = 1_500) -> str:
        """The end of what the process wrote."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - length))
        return self._output.read().decode(errors="replace")

    def stop(self) -> None:
        """Ask the process to end; what is left of its family after a while is killed. By process id, nothing else."""
        family = self.family()
        with suppress(ProcessLookupError):
            self._process.terminate()
        _, left = psutil.wait_procs(family, timeout=STOP_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._output.close()


def place(pid: int, cores: set[int]) -> None:
    """Bind every thread of a process to the cores; threads it starts later inherit that."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def memory_of(pid: int) -> Memory:
    """What a process takes now."""
    info = psutil.Process(pid).memory_full_info()
    return Memory(rss=info.rss, pss=info.pss)
