"""`parsimony config check|schema` and `parsimony classify`."""

from __future__ import annotations

import orjson
import typer

from classifiers.base import DEFAULT_CLASSIFIER, Message, Prompt
from router import preflight
from router.cli.options import USAGE, ConfigOption, JsonOption, fail
from router.config import Config, default_config_path, load_config
from router.errors import ConfigError
from router.lineup import construct_classifier

config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")


@config_app.command("check")
def check(config: ConfigOption = None) -> None:
    """Say whether the configuration can be used, and what would serve."""
    path = config or default_config_path()
    try:
        settings = load_config(path)
        lineup = preflight.check(path, settings)
    except ConfigError as error:
        fail(str(error), USAGE)
    kind = "simulated" if lineup.simulated else "real"
    typer.echo(f"{path}: good; {kind} models: {', '.join(d.name for d in lineup.active)}")
    for name, gap in lineup.disabled:
        typer.echo(f"  not used: {name} ({gap})")
    for note in preflight.quality_notes(settings):
        typer.echo(f"  {note}")


@config_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    typer.echo(orjson.dumps(Config.model_json_schema(), option=orjson.OPT_INDENT_2).decode())


def classify(text: str, classifier: str = DEFAULT_CLASSIFIER, as_json: JsonOption = False) -> None:
    """Judge how hard TEXT is, as if it were a whole prompt."""
    try:
        judged = construct_classifier(classifier).classify(Prompt((Message("user", text),)))
    except (ConfigError, ValueError) as error:
        fail(str(error), USAGE)
    if as_json:
        typer.echo(orjson.dumps(judged).decode())
        return
    typer.echo(f"{judged.tier}  score {judged.score:.3f}  ({judged.classifier})")
    if judged.output_length is not None:
        length = judged.output_length
        typer.echo(f"answer: about {length.expected_tokens} tokens, 95 of 100 within {length.p95_tokens}")
    for signal in judged.signals:
        typer.echo(f"  {signal}")
