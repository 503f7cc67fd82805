"""The version is written once, in pyproject.toml, and everything that shows it reads it from the metadata."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from router import version as module
from router.cli.app import app
from router.version import parsimony_version

ROOT = Path(__file__).resolve().parents[2]


def test_it_is_what_the_metadata_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda name: f"{name} 9.8.7")
    assert parsimony_version() == "parsimony 9.8.7"


def test_a_checkout_that_nobody_installed_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    assert parsimony_version() == "0+uninstalled"


def test_the_command_prints_it() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"parsimony {parsimony_version()}\n")


def test_it_is_written_once() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    holders = [path for path in (ROOT / "router").rglob("*.py") if f'"{written}"' in path.read_text(encoding="utf-8")]
    assert holders == []
