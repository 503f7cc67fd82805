"""`parsimony demo` as a new user runs it: the real server, the report, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
# Every process that the demo starts inherits it.
MARKER = "PARSIMONY_TEST_DEMO"
LIMIT = 40
TIMEOUT_S = 120

pytestmark = pytest.mark.e2e


@pytest.fixture
def workplace() -> Iterator[Path]:
    """The demo's temporary folder; short, as a Unix socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        yield Path(folder)


def start(workplace: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "router.cli", "demo", *arguments]
    environment = {**os.environ, "TMPDIR": str(workplace), MARKER: str(workplace), "COLUMNS": "200"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def left_over(workplace: Path) -> list[str]:
    """Command lines of living processes that the demo started, after a moment's grace."""
    for _ in range(50):
        found = [process for process in psutil.process_iter() if _is_ours(process, workplace)]
        if not found:
            return []
        time.sleep(0.1)
    return [" ".join(process.cmdline()) for process in found]


def _is_ours(process: psutil.Process, workplace: Path) -> bool:
    try:
        return process.environ().get(MARKER) == str(workplace)
    except (psutil.Error, OSError):
        return False


def test_the_demo_reports_savings_and_leaves_nothing_behind(workplace: Path) -> None:
    process = start(workplace, "--limit", str(LIMIT))
    output, _ = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 0, output
    assert f"{LIMIT} requests" in output
    for words in ("smaller model", "response cache", "refused or failed", "team research", "SIMULATED"):
        assert words in output
    for team in ("support", "engineering", "research"):
        assert re.search(rf"^{team} +\d+ ", output, re.MULTILINE), output
    assert re.search(r"^cost +", output, re.MULTILINE), "the explanation of one request"
    assert "refused with 429 insufficient_quota" in output
    assert "make serve" in output
    assert left_over(workplace) == []
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up(workplace: Path, number: signal.Signals) -> None:
    process = start(workplace)
    assert process.stdout is not None
    head = process.stdout.readline()
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT_S)

    assert "is ready" in head, head + output
    assert process.returncode == 130, output
    assert "Interrupted" in output
    assert left_over(workplace) == []
    assert list(workplace.iterdir()) == []


def test_a_configuration_that_cannot_be_used_is_said_in_a_sentence(workplace: Path) -> None:
    process = start(workplace, "--config", str(workplace / "absent.yaml"))
    output, _ = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode != 0
    assert "absent.yaml" in output
    assert "Traceback" not in output
