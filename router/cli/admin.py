"""What the administrative commands share: opening the stores, and failing in one sentence."""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import redis
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.budget import BudgetState, SubjectKind
from policies.money import format_usd, parse_usd
from router.bootstrap import open_admin
from router.cli.options import FAILED, USAGE, fail, warn
from router.clock import SYSTEM_CLOCK
from router.config import default_config_path
from router.errors import ParsimonyError, StoreUnavailable
from router.services import AdminServices
from router.stores.administration import Terms, budget_states, remove_monthly, set_budget
from router.stores.entries import budget_as_json
from router.stores.sql_engine import migrate

_UNFOLDED_COLUMNS = 1_000


@contextmanager
def administration(config: Path | None) -> Iterator[AdminServices]:
    """The stores for one command, which ends with a sentence on stderr where something is wrong.

    Exit codes: 2 for what the caller wrote, in the command or the configuration; 1 for what could
    not be done.
    """
    try:
        services = open_admin(config or default_config_path())
        migrate(services.engine)
        try:
            yield services.acting_as(actor())
        finally:
            services.engine.dispose()
    except (StoreUnavailable, redis.RedisError) as error:
        fail(str(error), FAILED)
    except (ParsimonyError, ValueError) as error:
        fail(str(error), USAGE)


def actor() -> str:
    """Whoever sits at the terminal, as the audit log names them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # in a container that has no name for this user
        return f"cli:{os.getuid()}"


def now() -> datetime:
    return SYSTEM_CLOCK.now()


def now_ms() -> int:
    return int(SYSTEM_CLOCK.wall() * 1000)


def print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_facts(facts: list[tuple[str, str]]) -> None:
    """One fact a line, so that it can be read by people and cut by tools."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name:<{width}}  {value}")


def print_table(
    headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, whole: Collection[str] = ("key", "team")
) -> None:
    """Cells are folded where the terminal is narrow, save those of the columns `whole`: ids are there to be copied."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in whole)
    for row in rows:
        table.add_row(*map(Text, row))
    print_whole(table)


def print_whole(table: Table, least_columns: int = 0) -> None:
    """For grep and cut: no line is folded to the width of a terminal that is not there.

    One that is narrower than `least_columns` wraps the lines itself: better than amounts cut short.
    """
    console = Console()
    columns = max(console.width, least_columns) if console.is_terminal else _UNFOLDED_COLUMNS
    (console if columns == console.width else Console(width=columns)).print(table)


def states_or_warning(services: AdminServices, team_id: str | None) -> tuple[BudgetState, ...]:
    """Where the budgets stand; none, and a warning, while Redis is out of reach."""
    try:
        return budget_states(services, team_id, now())
    except StoreUnavailable as error:
        warn(f"{error}; what follows goes without them")
        return ()


def change_budget(
    config: Path | None, kind: SubjectKind, subject_id: str, amount: str, timezone: str | None, as_json: bool
) -> None:
    """Sets the monthly budget of a team or key as it was written, and says what holds now."""
    with administration(config) as services:
        limit_nusd = parse_limit(amount)
        if limit_nusd is None:
            remove_monthly(services, kind, subject_id)
            budget = None
        else:
            terms: Terms = {} if timezone is None else {"timezone": timezone}
            budget = set_budget(services, kind, subject_id, limit_nusd, terms=terms)
    if as_json:
        print_json(None if budget is None else budget_as_json(budget))
    elif budget is None:
        typer.echo(f"{subject_id} has no budget {'of its own ' if kind == 'key' else ''}now.")
    else:
        typer.echo(f"{subject_id} may spend {format_usd(budget.limit)} USD a month ({budget.timezone}).")


def parse_limit(text: str) -> int | None:
    """Dollars a month, or "none". Raises ValueError with a sentence."""
    return None if text.strip().lower() == "none" else parse_usd(text)
