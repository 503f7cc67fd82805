"""The supervisor has its address before anything starts, and says so where it cannot; what dies comes back."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from router import supervisor as module
from router.config import Config, load_config
from router.errors import ConfigError, ParsimonyError
from router.processes import UNUSABLE_CONFIG
from router.supervisor import Supervisor
from tests.support.administration import write_config

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def config(folder: Path, server: str = "{port: 0, drain_seconds: 1}") -> tuple[Config, Path]:
    path = write_config(folder, "unix:///nowhere.sock")
    path.write_text(path.read_text(encoding="utf-8") + f"server: {server}\n", encoding="utf-8")
    return load_config(path), path


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """A supervisor whose processes do nothing: what they do is other tests' business."""
    monkeypatch.setattr(module, "_module", lambda *_: SLEEPER)
    settings, path = config(tmp_path, "{port: 0, workers: 2, drain_seconds: 1}")
    return Supervisor(settings, path, simulated=True)


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.02)


def pids(supervisor: Supervisor) -> dict[str, int]:
    return {f"{n} {c.name}": c.process.pid for n, c in enumerate(supervisor._children) if c.process is not None}


def states(supervisor: Supervisor) -> dict[str, bool]:
    """By name; where two have one name, whether the last runs."""
    return {child.name: child.running for child in supervisor._children}


def test_clients_may_connect_before_a_worker_is_there(tmp_path: Path) -> None:
    supervisor = Supervisor(*config(tmp_path), simulated=False)
    with socket.create_connection(supervisor.listener.getsockname()):
        pass
    assert states(supervisor) == {"worker": False, "writer": False}
    supervisor.stop()


def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ParsimonyError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            Supervisor(*config(tmp_path, f"{{port: {port}}}"), simulated=False)


def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ParsimonyError, match=r"cannot listen on 203\.0\.113\.1:0: "):
        Supervisor(*config(tmp_path, "{host: 203.0.113.1, port: 0}"), simulated=False)


def test_it_starts_the_writer_last_and_stops_everything(sleepers: Supervisor) -> None:
    sleepers.start()
    assert states(sleepers) == {"simulated": True, "worker": True, "writer": False}
    sleepers.start_writer()
    running = pids(sleepers)
    assert len(running) == 4
    sleepers.stop()
    assert set(states(sleepers).values()) == {False}
    with pytest.raises(OSError):
        os.kill(running["3 writer"], 0)


def test_what_dies_is_started_again_and_the_rest_left_alone(sleepers: Supervisor) -> None:
    stop = threading.Event()
    sleepers.start()
    sleepers.start_writer()
    before = pids(sleepers)
    watch = threading.Thread(target=sleepers.watch, args=(stop,))
    watch.start()
    try:
        os.kill(before["1 worker"], signal.SIGKILL)
        until(lambda: pids(sleepers)["1 worker"] != before["1 worker"] and all(states(sleepers).values()))
        after = pids(sleepers)
        assert {name for name in after if after[name] != before[name]} == {"1 worker"}
        os.kill(after["1 worker"], signal.SIGKILL)
        until(lambda: pids(sleepers)["1 worker"] != after["1 worker"] and all(states(sleepers).values()))
    finally:
        stop.set()
        watch.join()
        sleepers.stop()


def test_what_cannot_use_the_configuration_ends_everything(sleepers: Supervisor) -> None:
    for child in sleepers._children:
        if child.name == "worker":
            child.command = [sys.executable, "-c", f"raise SystemExit({UNUSABLE_CONFIG})"]
    sleepers.start()
    sleepers.start_writer()
    try:
        with pytest.raises(ConfigError, match="a worker cannot use the configuration"):
            sleepers.watch(threading.Event())
    finally:
        sleepers.stop()
    assert set(states(sleepers).values()) == {False}


def test_a_file_broken_since_does_not_end_the_workers_that_serve(sleepers: Supervisor) -> None:
    broken, serving = [child for child in sleepers._children if child.name == "worker"]
    broken.command = [sys.executable, "-c", f"raise SystemExit({UNUSABLE_CONFIG})"]
    sleepers.start()
    sleepers.start_writer()
    stop = threading.Event()
    watch = threading.Thread(target=sleepers.watch, args=(stop,))
    watch.start()
    try:
        deadline_s = time.monotonic() + 10
        while broken.restarts == 0 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert (broken.restarts > 0, serving.running, watch.is_alive()) == (True, True, True)
    finally:
        stop.set()
        watch.join()
        sleepers.stop()


def test_a_process_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(module, "_module", lambda *_: [sys.executable, "-c", deaf])
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.3)
    settings, path = config(tmp_path, "{port: 0, drain_seconds: 0.1}")
    supervisor = Supervisor(settings, path, simulated=False)
    supervisor.start()
    heard: list[str] = []

    def is_deaf() -> bool:
        heard.append(capfd.readouterr().out)
        return "deaf" in "".join(heard)

    until(is_deaf)
    (pid,) = pids(supervisor).values()
    supervisor.stop()
    with pytest.raises(OSError):
        os.kill(pid, 0)
