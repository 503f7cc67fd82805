"""Child processes of the benchmark: free ports, start and end by process id, cores, memory."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request

POLL_S = 0.01


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
