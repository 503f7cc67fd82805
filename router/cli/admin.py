"""What the administrative commands share: opening the stores, and failing in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import redis
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.money import parse_usd
from router.bootstrap import open_admin
from router.clock import SYSTEM_CLOCK
from router.config import default_config_path
from router.errors import ParsimonyError, StoreUnavailable
from router.services import AdminServices
from router.stores.sql_engine import migrate

FAILED = 1
USAGE = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration to read; else PARSIMONY_CONFIG, else configs/parsimony.yaml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


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
            yield services
        finally:
            services.engine.dispose()
    except (StoreUnavailable, redis.RedisError) as error:
        fail(str(error), FAILED)
    except (ParsimonyError, ValueError) as error:
        fail(str(error), USAGE)


def fail(sentence: str, code: int) -> NoReturn:
    warn(sentence)
    raise typer.Exit(code)


def warn(sentence: str) -> None:
    typer.echo(f"parsimony: {sentence}", err=True)


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


def print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def parse_limit(text: str) -> int | None:
    """Dollars a month, or "none". Raises ValueError with a sentence."""
    return None if text.strip().lower() == "none" else parse_usd(text)
