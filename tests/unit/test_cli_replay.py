"""`parsimony replay` from end to end: what people and programs read, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from array import array
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD
from typing import Any, BinaryIO

import psutil
import pytest
from typer.testing import CliRunner, Result

from router.cli.app import app
from tests.support.logs import CONFIG, as_csv, as_lines, pair, pairs, write
from tests.support.server import ROOT, wait_until


def run(*words: str, stdin: bytes | None = None) -> Result:
    command = ["replay", *words, "--config", str(CONFIG), "--workers", "1"]
    return CliRunner().invoke(app, command, input=stdin)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("logs") / "log.jsonl", as_lines([*pairs(80), {"hello": 1}]))


def test_people_read_a_table_a_curve_and_the_basis(log: str) -> None:
    result = run(log, "--targets", "0.8,0.95")
    assert result.exit_code == 0, result.output
    assert "81 rows: 80 requests judged, 0 as they were, 1 bad" in result.output
    for words in (
        "80 judged requests are too few",
        "auto, as configured",
        "0.95",
        "as good",
        "A auto, as configured",
        "list price of the day",
    ):
        assert words in result.output
    assert f"{log}:81: none of 1 fields" in result.output


def test_programs_read_exact_amounts(log: str) -> None:
    found = json.loads(run(log, "--format", "json").stdout)
    assert [setting["quality_target"] for setting in found["settings"]][:2] == [None, 0.8]
    rows = list(csv.DictReader(io.StringIO(run(log, "--format", "csv").stdout)))
    assert [row["cost_usd"] for row in rows] == [setting["cost_usd"]["value"] for setting in found["settings"]]
    assert {row["paid_usd"] for row in rows} == {found["paid_usd"]}
    assert len(found["basis"]) >= 5


def test_the_picture_is_svg_that_fetches_nothing(log: str, tmp_path: Path) -> None:
    assert run(log, "--picture", str(tmp_path / "p.svg")).exit_code == 0
    text = (tmp_path / "p.svg").read_text()
    drawing = ElementTree.fromstring(text)
    points = drawing.find("{http://www.w3.org/2000/svg}polyline")
    assert points is not None
    assert len(points.attrib["points"].split()) > 5
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 10
    assert text.count("http") == 1  # the name of the language itself


def test_a_picture_that_cannot_be_written_takes_no_figures_along(log: str) -> None:
    result = run(log, "--picture", "/nowhere/p.svg")
    assert result.exit_code == 2
    assert "/nowhere/p.svg: cannot be written" in result.output
    assert "80 requests judged" in result.output


def test_an_empty_log_says_that_it_is(tmp_path: Path) -> None:
    result = run(write(tmp_path / "log", b""))
    assert result.exit_code == 1
    assert "the logs hold no rows" in result.output


def test_a_log_may_come_through_a_pipe(log: str) -> None:
    piped = run("-", "--format", "json", stdin=Path(log).read_bytes())
    found, expected = json.loads(piped.stdout), json.loads(run(log, "--format", "json").stdout)
    assert found["settings"] == expected["settings"]


def test_columns_and_models_can_be_named(tmp_path: Path) -> None:
    rows = [{"Engine": "ours", "Frage": "Say hello.", "In": 9, "Out": 20, "When": "2025-10-09"} for _ in range(3)]
    path = write(tmp_path / "log.csv", as_csv(rows))
    names = ["model=Engine", "prompt=Frage", "input_tokens=In", "output_tokens=Out", "time=When"]
    columns = [word for name in names for word in ("--column", name)]
    found = json.loads(run(path, *columns, "--model", "ours=gpt-4", "--format", "json").stdout)
    assert (found["judged"], found["repeats"], found["undated"]) == (3, 2, 0)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", as_csv([{"Engine": "gpt-4", "Frage": "Say hello.", "In": 9, "Out": 20}]))
    result = run(path, "--column", "model=Engine", "--column", "prompt=frage")
    assert result.exit_code == 1
    assert f"{path}:2: --column: the first line names no column 'frage'" in result.output


@pytest.mark.parametrize("option", ["--picture", "--bad-rows", "--checkpoint"])
def test_no_log_is_overwritten(option: str, tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", as_lines(pairs(3)))
    result = run(str(tmp_path), option, path)
    assert result.exit_code == 2
    assert f"{option}: found {path}, which is one of the logs" in result.output
    assert Path(path).read_bytes() == as_lines(pairs(3))


def test_no_two_files_are_written_to_one_place(tmp_path: Path) -> None:
    path, place = write(tmp_path / "log.jsonl", as_lines(pairs(3))), tmp_path / "out"
    result = run(path, "--checkpoint", str(place), "--bad-rows", str(place))
    assert result.exit_code == 2
    assert f"--checkpoint: found {place}, which is what --bad-rows writes; name another file" in result.output
    assert not place.exists()


def test_all_bad_rows_are_written_and_the_first_are_shown(tmp_path: Path) -> None:
    records: list[Any] = [{"hello": n} for n in range(9)] + [pair("Say hello.")]
    path = write(tmp_path / "log", as_lines(records))
    result = run(path, "--bad-rows", str(tmp_path / "bad"))
    assert "9 rows: unknown format" in result.output
    assert result.output.count(f"    {path}:") == 3
    listed = [json.loads(line) for line in (tmp_path / "bad").read_text().splitlines()]
    assert [(row["line"], row["kind"]) for row in listed] == [(n, "unknown format") for n in range(1, 10)]


def test_a_log_without_any_prompt_ends_with_a_hint(tmp_path: Path) -> None:
    silent = [{"model": "gpt-4", "input_tokens": 9, "output_tokens": 9} for _ in range(4)]
    result = run(write(tmp_path / "log", as_lines(silent)))
    assert result.exit_code == 1
    assert "4 requests stay as they were" in result.output
    assert "no request could be judged" in result.output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        *(
            (["--targets", text], f"--targets: found {text!r}; allowed: numbers above 0 and up to 1, such as 0.9,0.95")
            for text in ("high", "", "0.9,", "2", "0", "-1", "nan", "inf", "0.9,1.1")
        ),
        (["--alias", "nobody"], "--alias"),
        (["--input-format", "xml"], "--input-format"),
        (["--column", "model"], "--column"),
        (["--column", "colour=Blue"], "--column"),
        (["--model", "ours=nobody-knows-13b"], "nobody-knows-13b"),
        (["--bad-rows", "/nowhere/bad"], "/nowhere/bad"),
        (["--checkpoint", "/nowhere/state"], "/nowhere/state"),
    ],
)
def test_a_wrong_word_is_named(log: str, words: list[str], found: str) -> None:
    result = run(log, *words)
    assert result.exit_code == 2, result.output
    assert found in result.output
    assert "Traceback" not in result.output


def test_a_missing_log_is_named() -> None:
    result = run("/nowhere/log")
    assert result.exit_code == 2
    assert "/nowhere/log: there is no such file" in result.output


def test_a_checkpoint_gives_the_same_again(log: str, tmp_path: Path) -> None:
    words = (log, "--format", "json", "--checkpoint", str(tmp_path / "state"))
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert run(*words).stdout == first.stdout


def test_the_progress_is_for_terminals(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "replaying" not in run(log).stderr
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take anything for a terminal
    shown = run(log).stderr
    assert "replaying" in shown
    assert "81 rows" in shown
    assert "replaying" not in run(log, "--no-progress").stderr


def sleeps_for_want_of(pipe: BinaryIO, pid: int) -> bool:
    """Between two reads of what came at once, a signal is heard only when more comes."""
    left = array("i", [0])
    ioctl(pipe, FIONREAD, left)
    return left[0] == 0 and psutil.Process(pid).status() == psutil.STATUS_SLEEPING


def test_ctrl_c_is_no_crash(tmp_path: Path) -> None:
    """The log is a pipe that nobody closes: the replay waits for more when it is interrupted."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "router.cli", "replay", str(pipe), "--config", str(CONFIG), "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with pipe.open("wb") as log:  # opens when the other side reads
        log.write(as_lines(pairs(3)))
        log.flush()
        wait_until("it waits for more", lambda: sleeps_for_want_of(log, process.pid))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode() == "parsimony: interrupted\n"
