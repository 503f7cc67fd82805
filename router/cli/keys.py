"""`parsimony keys`: the secrets that applications present."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from router.cli.admin import administration, change_budget, now_ms, print_facts, print_json, print_table
from router.cli.options import ConfigOption, JsonOption
from router.stores.base import KeyInfo
from router.stores.entries import key_as_json

app = typer.Typer(help="The keys that applications present.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `parsimony keys list` shows it.")]


@app.command("create")
def create(
    team: Annotated[str, typer.Option("--team", help="The team that pays.")],
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    role: Annotated[
        str, typer.Option("--role", help="application; for the admin API: viewer, manager (of the team), or admin.")
    ] = "application",
    project: Annotated[str | None, typer.Option("--project", help="The team's project that it works for.")] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Its requests may name the end user and add tags.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="What its requests are; repeat for more.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="An alias or deployment it may use; repeat for more. Else all.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show its secret, this once."""
    with administration(config) as services:
        services.config.check_model_names(model or ())
        chosen: Any = role  # the directory says what it allows
        made = services.directory.create_key(
            team, name, chosen, model or None, project_id=project, trusted=trusted, tags=tag or ()
        )
    _show_secret(*made, as_json)


@app.command("list")
def list_keys(
    team: Annotated[str | None, typer.Option("--team", help="Only this team's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the keys, without their secrets."""
    with administration(config) as services:
        keys = [key_as_json(key, now_ms()) for key in services.directory.list_keys(team)]
    if as_json:
        print_json(keys)
        return
    print_table(
        ("key", "team", "project", "name", "role", "tags", "secret", "state", "models", "created"),
        [_row(key) for key in keys],
    )


@app.command("revoke")
def revoke(key_id: KeyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End a key for good."""
    with administration(config) as services:
        key = services.directory.revoke_key(key_id)
    if as_json:
        print_json(key_as_json(key, now_ms()))
    else:
        typer.echo(f"{key.id} of team {key.team_id} is revoked; running servers refuse it within seconds.")


@app.command("rotate")
def rotate(
    key_id: KeyArgument,
    grace_seconds: Annotated[int, typer.Option("--grace-seconds", help="How long the old secret still works.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a key by one of the same team, rights and budget, and show the new secret, this once."""
    with administration(config) as services:
        _show_secret(*services.directory.rotate_key(key_id, grace_seconds), as_json)


@app.command("set-budget")
def set_budget(
    key_id: KeyArgument,
    amount: Annotated[str, typer.Argument(metavar="USD", help="Dollars a calendar month, or none.")],
    timezone: Annotated[str | None, typer.Option("--timezone", help="Where its months begin; UTC if new.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what one key may spend in a month, within its team's budget."""
    change_budget(config, "key", key_id, amount, timezone, as_json)


def _show_secret(key: KeyInfo, secret: str, as_json: bool) -> None:
    if as_json:
        print_json({"key": key_as_json(key, now_ms()), "secret": secret})
        return
    models = "all" if key.allowed_models is None else ", ".join(sorted(key.allowed_models))
    print_facts(
        [
            ("key", key.id),
            ("team", key.team_id),
            ("name", key.name),
            ("role", key.role),
            *([("project", key.project_id)] if key.project_id else []),
            *([("trusted", "yes: it may name end users and tags")] if key.trusted else []),
            *([("tags", ", ".join(sorted(key.tags)))] if key.tags else []),
            ("models", models),
            ("secret", secret),
        ]
    )
    typer.echo("Keep the secret now: only its hash is stored, so it cannot be shown again.", err=True)


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    models = "all" if key["allowed_models"] is None else ", ".join(key["allowed_models"])
    state = key["state"] + (f" by {key['replaced_by']}" if key["state"] == "replaced" else "")
    role = f"{key['role']}, trusted" if key["trusted"] else key["role"]
    named = (key["id"], key["team_id"], key["project_id"] or "", key["name"], role, ", ".join(key["tags"]))
    return (*named, f"{key['prefix']}…", state, models, key["created_at"][:10])
