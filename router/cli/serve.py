"""`parsimony serve`: the server, staying up."""

from __future__ import annotations

import fcntl
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from classifiers.base import TIERS
from router.cli.options import FAILED, USAGE, ConfigOption, fail
from router.config import Config, default_config_path, load_config
from router.errors import ConfigError, ParsimonyError
from router.lineup import Lineup
from router.preflight import check, quality_notes
from router.supervisor import Supervisor
from router.telemetry import configure_logging

logger = logging.getLogger(__name__)


def serve(config: ConfigOption = None) -> None:
    """Serve the OpenAI-compatible endpoint until SIGTERM or Ctrl-C."""
    path = config or default_config_path()
    try:
        settings = load_config(path)
        configure_logging(settings.logging.format, settings.logging.level)
        lineup = check(path, settings)
        with _alone(settings.data_dir):
            _run(settings, path, lineup)
    except (ParsimonyError, OSError) as error:
        fail(str(error), USAGE if isinstance(error, ConfigError) else FAILED)


def _run(settings: Config, config_path: Path, lineup: Lineup) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    supervisor = Supervisor(settings, config_path, simulated=lineup.simulated)
    host, port = supervisor.listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        supervisor.start()
        typer.echo(f"Parsimony serves {url}/v1")
        typer.echo("\n".join([_lineup_text(lineup), *quality_notes(settings)]))
        # Here, as SQLAlchemy and Alembic take longer to load than all else; meanwhile the workers load, too.
        from router.cli.first_start import prepare

        prepare(settings, lambda secret: typer.echo(_snippets(url, secret)))
        supervisor.start_writer()
        supervisor.watch(stop)
        logger.info("draining: requests under way may finish")
    finally:
        supervisor.stop()


def _lineup_text(lineup: Lineup) -> str:
    names = ", ".join(f"{deployment.name} ({deployment.tier})" for deployment in lineup.active)
    if lineup.simulated:
        return (
            f"SIMULATED models, no provider is called: {names}\n"
            "Set OPENAI_API_KEY, MISTRAL_API_KEY or PARSIMONY_LOCAL_BASE_URL (vLLM, Ollama) to use real ones."
        )
    disabled = "".join(f"\n  not used: {name} ({gap})" for name, gap in lineup.disabled)
    missing = [tier for tier in TIERS if all(TIERS.index(d.tier) < TIERS.index(tier) for d in lineup.active)]
    weak = f"\nWARNING: no model of tier {' or '.join(missing)}: such requests go to a weaker one" if missing else ""
    return f"Models: {names}{disabled}{weak}"


def _snippets(url: str, secret: str) -> str:
    return f"""
Admin key, shown this once (`parsimony keys create --role admin` makes another):

    {secret}

Try it:

    curl {url}/v1/chat/completions -H "Authorization: Bearer {secret}" \\
      -H "Content-Type: application/json" \\
      -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

    from openai import OpenAI
    client = OpenAI(base_url="{url}/v1", api_key="{secret}")
    answer = client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "你好！"}}])
    print(answer.choices[0].message.content)
"""


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One server a data folder: two would fight over its Redis and its ledger."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{data_dir}: another parsimony serve is using this data_dir") from None
        yield
