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


def targets_of(text: str) -> list[float]:
    """The quality targets that --targets names, each once, in order; fails where one is none."""
    try:
        targets = sorted({float(part) for part in text.split(",")})
    except ValueError:
        targets = []
    if not targets or not all(0.0 < target <= 1.0 for target in targets):
        fail(f"--targets: found {text!r}; allowed: numbers above 0 and up to 1, such as 0.9,0.95", USAGE)
    return targets
