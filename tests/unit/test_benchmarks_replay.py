"""The benchmark of replay measures what it says."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from tests.benchmarks.replay import Measured, write_log


def test_a_log_has_the_rows_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    characters = write_log(path, 300, uncounted=0.5)
    records = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert len(records) == 300
    assert 100 < characters < 2_000
    assert 90 < sum("usage" in record["response"] for record in records) < 210


def test_all_rows_are_judged_and_weighed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    write_log(path, 200)
    Measured(path, 1).run(200)
    said = capsys.readouterr().out
    assert "200 judged" in said
    assert re.search(r"memory of all processes: \d+ MiB", said)
