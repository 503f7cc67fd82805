"""Parsimony's version, as its installed metadata has it; pyproject.toml is where it is written."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def parsimony_version() -> str:
    try:
        return version("parsimony")
    except PackageNotFoundError:
        return "0+uninstalled"  # run from a checkout that nobody installed
