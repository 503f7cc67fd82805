"""Tables on a narrow terminal: what is there to be copied stays whole."""

from __future__ import annotations

import os

import pytest
from rich.console import Console
from rich.table import Table

from router.cli import admin

HEADINGS = ("key", "team", "name", "role", "secret", "state", "models", "created")
ROW = (
    "key_9ed63f609a61a963", "engineering", "what the key is for", "application", "sk-parsimony-AbCdEf…",
    "replaced by key_79cadf8530377bcb", "mistral/mistral-medium, openai/gpt-4", "2026-11-22",
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 100])
def test_ids_are_not_folded(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(admin, "Console", lambda: Console(width=width, force_terminal=True, color_system=None))
    admin.print_table(HEADINGS, [ROW])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[1].split()[:2] == ["key_9ed63f609a61a963", "engineering"]


def test_without_a_terminal_nothing_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    admin.print_table(HEADINGS, [ROW])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_table_of_amounts_is_not_cut_to_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def console(width: int = 40) -> Console:
        return Console(width=width, force_terminal=True, color_system=None)

    monkeypatch.setattr(admin, "Console", console)
    table = Table("budget", "limit")
    table.add_row("b" * 40, "100.00")
    admin.print_whole(table, 80)
    assert "100.00" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "actor"), [("wei", "cli:wei"), (None, f"cli:{os.getuid()}")])
def test_who_changes_something_is_known_by_login_or_number(
    name: str | None, actor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getuser() -> str:
        if name is None:
            raise KeyError("getpwuid(): uid not found")
        return name

    monkeypatch.setattr("getpass.getuser", getuser)
    assert admin.actor() == actor
