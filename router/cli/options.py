"""What every command shares, and the light ones need alone: its options, and how it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

FAILED = 1
USAGE = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration to read; else PARSIMONY_CONFIG, else configs/parsimony.yaml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def fail(sentence: str, code: int) -> NoReturn:
    warn(sentence)
    raise typer.Exit(code)


def warn(sentence: str) -> None:
    typer.echo(f"parsimony: {sentence}", err=True)
