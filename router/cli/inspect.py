"""`parsimony config check|schema` and `parsimony classify`."""

from __future__ import annotations

import orjson
import typer

from classifiers import registry
from classifiers.base import Message, Prompt
from router.bootstrap import line_up
from router.cli.admin import DEFAULT_CONFIG, ConfigOption, JsonOption
from router.config import Config, load_config
from router.errors import ConfigError
from router.prices import load_prices

config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")


@config_app.command("check")
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Say whether the configuration can be used, and what would serve."""
    try:
        settings = load_config(config)
        prices = load_prices(settings.prices)
        for name in (settings.baseline, *(deployment.price for deployment in settings.deployments)):
            prices.model(name)
        lineup = line_up(settings)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    kind = "simulated" if lineup.simulated else "real"
    typer.echo(f"{config}: good; {kind} models: {', '.join(d.name for d in lineup.active)}")
    for name, gap in lineup.disabled:
        typer.echo(f"  not used: {name} ({gap})")


@config_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    typer.echo(orjson.dumps(Config.model_json_schema(), option=orjson.OPT_INDENT_2).decode())


def classify(text: str, classifier: str = "heuristic", as_json: JsonOption = False) -> None:
    """Judge how hard TEXT is, as if it were a whole prompt."""
    try:
        judged = registry.create(classifier).classify(Prompt((Message("user", text),)))
    except ValueError as error:
        typer.echo(f"parsimony: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(orjson.dumps(judged).decode())
        return
    typer.echo(f"{judged.tier}  score {judged.score:.3f}  ({judged.classifier})")
    for signal in judged.signals:
        typer.echo(f"  {signal}")
