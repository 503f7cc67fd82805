"""`parsimony alerts test`: whether every webhook takes what it is sent."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
import typer

from router.alerts.events import Event, trial_event
from router.alerts.webhooks import Outcome, Webhook, post, webhooks_of
from router.cli.options import FAILED, USAGE, ConfigOption, fail
from router.clock import SYSTEM_CLOCK
from router.config import default_config_path, load_config
from router.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Alerts when budgets run low.")


@app.callback()
def alerts() -> None:
    """Alerts when budgets run low."""


@app.command("test")
def send_trial(config: ConfigOption = None) -> None:
    """Post a test event to every webhook, once, and say what came of it."""
    try:
        webhooks = webhooks_of(load_config(config or default_config_path()).alerts, os.environ)
    except ConfigError as error:
        fail(str(error), USAGE)
    if not webhooks:
        fail("alerts.webhooks names none: alerts are logged, and that is all", USAGE)
    event = trial_event(secrets.token_hex(8), datetime.now(UTC))
    outcomes = asyncio.run(_post_to_all(webhooks, event))
    for webhook, outcome in zip(webhooks, outcomes, strict=True):
        signed = "signed" if webhook.secret else "unsigned"
        result = "delivered" if outcome.delivered else "not delivered"
        typer.echo(f"{webhook.host} ({webhook.format}, {signed}): {result}: {outcome}")
    if not all(outcome.delivered for outcome in outcomes):
        raise typer.Exit(FAILED)


async def _post_to_all(webhooks: Sequence[Webhook], event: Event) -> list[Outcome]:
    async with httpx.AsyncClient() as client:
        return await asyncio.gather(*(post(client, webhook, event, SYSTEM_CLOCK.wall()) for webhook in webhooks))
