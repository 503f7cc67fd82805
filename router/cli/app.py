"""The command line: one file a command, loaded when it is called for."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core

from router.cli.options import FAILED, warn
from router.version import parsimony_version

COMMANDS = {
    "serve": "router.cli.serve:serve",
    "demo": "router.cli.demo:demo",
    "classify": "router.cli.inspect:classify",
    "explain": "router.cli.explain:explain",
    "keys": "router.cli.keys:app",
    "teams": "router.cli.teams:app",
    "projects": "router.cli.projects:app",
    "budgets": "router.cli.budgets:app",
    "spenders": "router.cli.spenders:spenders",
    "alerts": "router.cli.alerts:app",
    "audit": "router.cli.audit:audit",
    "report": "router.cli.report:app",
    "ledger": "router.cli.ledger:app",
    "replay": "router.cli.replay:replay",
    "baseline": "router.cli.baseline:app",
    "classifier": "router.cli.classifier:app",
    "config": "router.cli.inspect:config_app",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Commands(typer.core.TyperGroup):
    """Imports a command when it is named: all of them together take seconds, and `serve` is in a hurry."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        target = COMMANDS.get(cmd_name)
        return None if target is None else _load(cmd_name, target)


def _load(name: str, target: str) -> Any:
    module, _, attribute = target.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(found)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=_Commands,
    name="parsimony",
    help="Use the smallest model that will do, and prove what that saved.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"parsimony {parsimony_version()}")
        raise typer.Exit


@app.callback()
def parsimony(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Use the smallest model that will do, and prove what that saved."""


def main() -> None:
    """Where what a command prints cannot be written, it ends in a sentence; in none where its reader has gone."""
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # as it is where the caller closed it
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in (*_NO_ROOM, errno.EPIPE):
            raise
        # Python writes out at its end what is left: again in vain, with a traceback of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            warn(f"the output cannot be written: {error.strerror}")
        raise SystemExit(FAILED) from None
