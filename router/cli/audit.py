"""`parsimony audit`: who changed what."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from router.cli.admin import administration, print_json, print_table
from router.cli.options import ConfigOption, JsonOption
from router.stores.entries import audit_entry_as_json


def audit(
    target: Annotated[
        str | None, typer.Option("--target", help="Only entries whose name begins so, such as team:support.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many to show.")] = 50,
    before: Annotated[
        int | None,
        typer.Option("--before", min=1, max=2**63 - 1, metavar="ID", help="Only what is older than this; see --json."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the changes of teams, projects, keys and budgets, the newest first."""
    with administration(config) as services:
        found = services.directory.audit(target=target, before_id=before, limit=limit)
    entries = [audit_entry_as_json(entry) for entry in found]
    if as_json:
        print_json(entries)
    else:
        print_changes(entries)


def print_changes(entries: list[dict[str, Any]]) -> None:
    rows = [
        (entry["at"][:19].replace("T", " "), entry["actor"], entry["action"], entry["target"], _change(entry))
        for entry in entries
    ]
    print_table(("at (UTC)", "actor", "action", "target", "change"), rows, whole=("at (UTC)", "target"))


def _change(entry: dict[str, Any]) -> str:
    """What differs, as `name: before -> after`; of what is new or gone, its values."""
    before, after = entry["before"] or {}, entry["after"] or {}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not before or not after:
        return ", ".join(f"{name}: {_text((before or after)[name])}" for name in changed)
    return ", ".join(f"{name}: {_text(before.get(name))} -> {_text(after.get(name))}" for name in changed)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
