"""`parsimony demo`: sample traffic through simulated models and the real endpoint, then what it saved."""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from router.cli.demo_server import DemoFailed, DemoServer
from router.cli.explain import explain
from router.cli.options import ConfigOption
from router.cli.report import savings
from router.config import default_config_path, load_config
from router.errors import ParsimonyError

if TYPE_CHECKING:
    from router.cli.demo_traffic import DemoOutcome, DemoRequest

TRAFFIC = Path("demo") / "traffic.jsonl"
BUDGETS_USD: Mapping[str, str] = {"support": "5", "engineering": "10"}
SHORT_OF_MONEY = "research"
# Half of what they cost at the moderate model. With more it would hardly run out: near its end, answers get shorter.
SHORT_USD_PER_REQUEST = Decimal("0.0004")
SETTLED_S = 15.0
POLL_S = 0.2
ADMIN_TIMEOUT_S = 10.0
INTERRUPTED = 130
# The reason whose explanation shows the most, first.
TELLING_REASONS = ("budget", "moderate", "simple", "complex")


@dataclass(frozen=True, slots=True)
class _Run:
    """What one demo works with."""

    server: DemoServer
    requests: tuple[DemoRequest, ...]
    strong_models: tuple[str, ...]
    console: Console


def demo(
    limit: Annotated[int | None, typer.Option("--limit", min=20, help="Send only so many of the requests.")] = None,
    config: ConfigOption = None,
) -> None:
    """Start a throw-away server with simulated models, send it sample traffic, and print the savings report."""
    # Here, as `openai` takes most of a second to import and no other command needs it.
    from router.cli.demo_traffic import read_traffic

    console = Console()
    config_path = config or default_config_path()
    try:
        settings = load_config(config_path)
        requests = read_traffic(config_path.parent / TRAFFIC, limit)
        strong = tuple(deployment.name for deployment in settings.deployments if deployment.tier != "simple")
        with _throwaway_server(config_path) as server:
            _show(_Run(server, requests, strong, console))
    except KeyboardInterrupt:
        console.print("[yellow]Interrupted; the server is stopped and its data is gone.[/]")
        raise typer.Exit(INTERRUPTED) from None
    except (DemoFailed, ParsimonyError, OSError, ValueError) as error:
        typer.echo(f"parsimony demo failed: {error}", err=True)
        raise typer.Exit(1) from None
    console.print(_goodbye())


@contextmanager
def _throwaway_server(config_path: Path) -> Iterator[DemoServer]:
    """A server that is stopped, checked for leftovers and removed with its data, whatever happens inside."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="parsimony-demo-", ignore_cleanup_errors=True) as folder:
        server = DemoServer(Path(folder), config_path)
        try:
            yield server
            server.stop()
        finally:
            server.close()
            signal.signal(signal.SIGTERM, before)


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _show(run: _Run) -> None:
    console, server = run.console, run.server
    with console.status("Starting Parsimony with a private Redis, SQLite and simulated models"):
        began = time.monotonic()
        server.start()
    console.print(f"Parsimony is ready at {server.url}/v1 [dim]({time.monotonic() - began:.1f} s)[/]")
    with httpx.Client(
        base_url=f"{server.url}/admin/v1", headers=_admin_headers(server), timeout=ADMIN_TIMEOUT_S
    ) as api:
        secrets = _create_teams(api, run)
        outcomes = _send(run, secrets)
        check_outcomes(outcomes)
        _await_ledger(api, len(outcomes))
    console.print(_tally(outcomes), "")
    savings(config=server.config_path, output="table")
    example = telling_example(outcomes)
    console.print(f"\n[bold]$ parsimony explain {example}[/]")
    explain(example, config=server.config_path)


def _admin_headers(server: DemoServer) -> dict[str, str]:
    """With the key that the first start prints, once, as to any new user."""
    found = re.search(r"\bsk-parsimony-[\w-]+", server.log())
    if found is None:
        raise DemoFailed(f"the first start printed no admin key\n{server.log_tail()}")
    return {"authorization": f"Bearer {found[0]}"}


def _create_teams(api: httpx.Client, run: _Run) -> dict[str, str]:
    """The teams of the traffic with their budgets; returns a key of each."""
    counts = {team: sum(request.team == team for request in run.requests) for team in (*BUDGETS_USD, SHORT_OF_MONEY)}
    short = (SHORT_USD_PER_REQUEST * counts[SHORT_OF_MONEY]).quantize(Decimal("0.001"))
    secrets = {}
    for team, limit_usd in {**BUDGETS_USD, SHORT_OF_MONEY: str(short)}.items():
        # A team that accepts small models can always afford one more answer: only one that insists runs out.
        models = list(run.strong_models) or None if team == SHORT_OF_MONEY else None
        _call(api, "POST", "/teams", {"id": team})
        _call(api, "PUT", f"/teams/{team}/budget", {"limit_usd": limit_usd})
        key = _call(api, "POST", "/keys", {"team_id": team, "name": "demo", "allowed_models": models})
        secrets[team] = str(key["secret"])
        insists = f", on {' or '.join(models)} only" if models else ""
        line = f"  team {team:<12} {counts[team]:>3} requests, ${limit_usd} a month{insists}"
        run.console.print(line, highlight=False, soft_wrap=True)
    return secrets


def _call(api: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        answer = api.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise DemoFailed(f"{method} {path} got no answer: {error}") from error
    if not answer.is_success:
        raise DemoFailed(f"{method} {path} got {answer.status_code}: {answer.text}")
    values: dict[str, Any] = answer.json()
    return values


def _send(run: _Run, secrets: Mapping[str, str]) -> list[DemoOutcome]:
    from router.cli.demo_traffic import send_all

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=run.console) as progress:
        task = progress.add_task("Requests", total=len(run.requests))
        return asyncio.run(send_all(run.requests, f"{run.server.url}/v1", secrets, lambda _: progress.advance(task)))


def check_outcomes(outcomes: Sequence[DemoOutcome]) -> None:
    """Every request is answered, or refused for want of budget; and the team short of money met both."""
    wrong = [outcome for outcome in outcomes if not outcome.answered and not (outcome.refused and _short(outcome))]
    if wrong:
        first = wrong[0]
        raise DemoFailed(
            f"{len(wrong)} of {len(outcomes)} requests failed; the first, of team {first.team}: "
            f"{first.status} {first.code or ''} {first.message}"
        )
    if not any(outcome.refused for outcome in outcomes):
        raise DemoFailed(f"team {SHORT_OF_MONEY} should have run out of its budget, but nothing was refused")
    if not any(outcome.answered and _short(outcome) for outcome in outcomes):
        raise DemoFailed(f"team {SHORT_OF_MONEY} should have run out of its budget partway, but got no answer at all")


def _short(outcome: DemoOutcome) -> bool:
    return outcome.team == SHORT_OF_MONEY


def _await_ledger(api: httpx.Client, count: int) -> None:
    """Until every request is booked; records reach the ledger about a second after the answer."""
    deadline = time.monotonic() + SETTLED_S
    while (booked := _call(api, "GET", "/reports/savings")["total"]["request_count"]) != count:
        if time.monotonic() > deadline:
            raise DemoFailed(f"{count} requests were sent, but the ledger holds {booked}")
        time.sleep(POLL_S)


def _tally(outcomes: Sequence[DemoOutcome]) -> str:
    refused = sum(outcome.refused for outcome in outcomes)
    hits = sum(outcome.headers.get("x-parsimony-cache") == "hit" for outcome in outcomes)
    return (
        f"{len(outcomes) - refused} answered, {hits} of them from the response cache; {refused} refused with "
        f"429 insufficient_quota, since what was left of team {SHORT_OF_MONEY}'s budget could not carry them."
    )


def telling_example(outcomes: Sequence[DemoOutcome]) -> str:
    """The id of a request whose explanation shows something."""
    by_reason = {o.headers.get("x-parsimony-reason"): o for o in reversed(outcomes) if o.answered}
    telling = [by_reason[reason] for reason in TELLING_REASONS if reason in by_reason]
    if not telling:
        raise DemoFailed("no answer carried an x-parsimony-reason that explains a routing decision")
    return telling[0].headers["x-parsimony-request-id"]


def _goodbye() -> str:
    return (
        "\n[bold]The models were simulated.[/] Routing, budgets, cache and ledger are the real ones; the dollars are "
        "what real prices would make of simulated lengths, so they show how Parsimony works, not what you will save."
        "\n\nThe server is stopped, its data is gone. To go on: [bold]make serve[/]"
    )
