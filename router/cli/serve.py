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

from router.bootstrap import Lineup, admin_services, line_up, rebuild_counters
from router.cli.admin import FAILED, USAGE, ConfigOption, fail
from router.clock import SYSTEM_CLOCK
from router.config import Config, default_config_path, load_config
from router.errors import ConfigError, ParsimonyError
from router.prices import load_prices
from router.services import AdminServices
from router.stores.sql_engine import migrate
from router.supervisor import Supervisor
from router.telemetry import configure_logging

logger = logging.getLogger(__name__)

FIRST_TEAM = "default"


def serve(config: ConfigOption = None) -> None:
    """Serve the OpenAI-compatible endpoint until SIGTERM or Ctrl-C."""
    path = config or default_config_path()
    try:
        settings = load_config(path)
        configure_logging(settings.logging.format, settings.logging.level)
        lineup = line_up(settings)
        _check_prices(settings)
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
        supervisor.start(lambda: _prepare(settings, lineup, url))
        supervisor.watch(stop)
        logger.info("draining: requests under way may finish")
    finally:
        supervisor.stop()


def _prepare(settings: Config, lineup: Lineup, url: str) -> None:
    """Brings the stores up to date, says what serves, and on the first start makes a key."""
    admin = admin_services(settings)
    migrate(admin.engine)
    # Budgets may have been set, and Redis may have lost its data, while nothing was running.
    rebuild_counters(admin, SYSTEM_CLOCK.now())
    typer.echo(f"Parsimony serves {url}/v1")
    typer.echo(_lineup_text(lineup))
    secret = _first_key(admin)
    if secret is not None:
        typer.echo(_snippets(url, secret))
    admin.engine.dispose()


def _first_key(admin: AdminServices) -> str | None:
    """The secret of the first admin key; None where keys exist already."""
    if admin.directory.list_keys():
        return None
    if not admin.directory.list_teams():
        admin.directory.create_team(FIRST_TEAM)
    team = admin.directory.list_teams()[0]
    _, secret = admin.directory.create_key(team.id, "first admin key", "admin")
    return secret


def _lineup_text(lineup: Lineup) -> str:
    names = ", ".join(f"{deployment.name} ({deployment.tier})" for deployment in lineup.active)
    if lineup.simulated:
        return (
            f"SIMULATED models, no provider is called: {names}\n"
            "Set OPENAI_API_KEY, MISTRAL_API_KEY or PARSIMONY_LOCAL_BASE_URL (vLLM, Ollama) to use real ones."
        )
    disabled = "".join(f"\n  not used: {name} ({gap})" for name, gap in lineup.disabled)
    return f"Models: {names}{disabled}"


def _snippets(url: str, secret: str) -> str:
    return f"""
Admin key, shown this once (`parsimony keys rotate` makes another):

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


def _check_prices(settings: Config) -> None:
    """A deployment without a price cannot be configured, nor a baseline."""
    prices = load_prices(settings.prices)
    for name in (settings.baseline, *(deployment.price for deployment in settings.deployments)):
        prices.model(name)


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
