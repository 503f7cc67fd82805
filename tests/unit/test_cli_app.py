"""The entry point of every command: how one ends whose words nobody takes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from router.cli import app as entry

FULL = Path("/dev/full")


def parsimony(*words: str, stdout: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router.cli", *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_full_disk_is_told_of_in_one_line(word: str) -> None:
    with FULL.open("wb") as full:
        done = parsimony(word, stdout=full.fileno())
    sentence = "parsimony: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, sentence)


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_reader_who_has_gone_is_no_news(word: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = parsimony(word, stdout=writing)
    finally:
        os.close(writing)
    assert done.stderr == ""


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file"), OSError(errno.ENOSPC, "full", "f")])
def test_other_failures_are_not_taken_for_one_of_printing(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(entry, "app", fail)
    with pytest.raises(type(error)) as raised:
        entry.main()
    assert raised.value is error


def test_a_command_without_stdout_ends_as_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "argv", ["parsimony", "--version"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0


def every_command(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield f"{path} {name}", command
        if hasattr(command, "list_commands"):
            yield from every_command(command, f"{path} {name}")


def test_help_breaks_no_line_in_the_midst_of_a_sentence() -> None:
    """Of paragraphs after the first one, typer keeps the lines as they are written."""
    helps = {name: cleandoc(command.help or "") for name, command in every_command(get_command(entry.app), "parsimony")}
    assert "parsimony ledger reprice" in helps
    lines = [(name, line) for name, text in helps.items() for line in text.partition("\n\n")[2].splitlines()]
    prose = [(name, line) for name, line in lines if line and not line.startswith("parsimony ")]
    assert [(name, line) for name, line in prose if not line.endswith((".", ":"))] == []
