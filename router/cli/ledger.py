"""`parsimony ledger`: what the ledger holds, its roll-ups, and late corrections of prices."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from policies.money import format_usd
from policies.repricing import booked
from policies.spend import SpendRecord
from router.cli.admin import actor, administration, now, now_ms, print_facts, print_json, print_table
from router.cli.options import FAILED, ConfigOption, JsonOption, fail, warn
from router.prices import load_prices
from router.reports.periods import ReportPeriod, local_text, report_period
from router.reports.price_list import PriceList
from router.reports.repricing import Correction, Repricer, Tally, Target, target_of
from router.services import AdminServices
from router.stores.sql_engine import reading
from router.stores.sql_holdings import Holdings, holdings
from router.stores.sql_repricing import Replaced, Repricing
from router.stores.sql_rollups import rebuild_rollups
from router.stores.sql_state import rows_from_ms

app = typer.Typer(help="What the ledger holds, its roll-ups, and late corrections of prices.", no_args_is_help=True)
rollups = typer.Typer(help="The hourly sums that reports are made of.", no_args_is_help=True)
app.add_typer(rollups, name="rollups")


@app.command("reprice")
def reprice(
    from_text: Annotated[str, typer.Option("--from", metavar="DATE", help="First day or instant, UTC.")],
    to_text: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Day or instant where it ends, not included; else now.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="By its name in the price file: served, failed or as the baseline.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="Only what this deployment served, and what measured that.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record of changes.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Reckon booked amounts anew with the prices that the price file holds now, after a late correction of it.

    Rows keep what they said before (`parsimony ledger repricings`).
    What is right already stays, so that a run that broke off is completed by the same command.
    Budgets follow when their counters are next compared with the ledger.
    """
    with administration(config) as services:
        if not reason.strip() and not dry_run:
            raise ValueError("say why (--reason): whoever reads the ledger later will ask")
        prices = PriceList(services.config, load_prices(services.config.prices))
        target = target_of(prices, model, deployment)
        span = _of_records(services, report_period(now(), from_text=from_text, to_text=to_text))
        if dry_run or not yes:
            tally = _looked_through(services, Repricer(target, prices), span, "comparing")
            _print_tally(tally, span)
            if dry_run or not tally.changed_count:
                return
            typer.confirm(f"Change {tally.changed_count} rows?", abort=True)
        tally, changed = _apply(services, target, prices, span, reason.strip())
    if yes:  # else it was shown before
        _print_tally(tally, span)
    if tally.changed_count:
        _print_what_was_done(tally, changed)


def _of_records(services: AdminServices, span: ReportPeriod) -> ReportPeriod:
    """As much of `span` as there are records of."""
    with reading(services.engine) as connection:
        kept_from_ms = rows_from_ms(connection)
    if span.from_ms >= kept_from_ms:
        return span
    warn(f"records from before {local_text(kept_from_ms, 'UTC')} were let go, and what was booked of them stays")
    return replace(span, from_ms=min(kept_from_ms, span.to_ms))


def _apply(
    services: AdminServices, target: Target, prices: PriceList, span: ReportPeriod, reason: str
) -> tuple[Tally, int]:
    """A transaction for each chunk, so that nobody waits long. Begun once there is something to change."""
    kept = services.repricings
    terms = {"model": target.model, "deployment": target.deployment, "from_ms": span.from_ms, "to_ms": span.to_ms}
    begun: int | None = None
    changed = 0

    def apply(corrections: Sequence[Correction]) -> None:
        nonlocal begun, changed
        if begun is None:
            begun = kept.begin(now_ms(), actor(), reason, terms)
        changed += kept.apply(begun, [(correction.record, correction.amounts) for correction in corrections])

    tally = _looked_through(services, Repricer(target, prices), span, "repricing", apply)
    return tally, changed


def _looked_through(
    services: AdminServices,
    repricer: Repricer,
    span: ReportPeriod,
    doing: str,
    apply: Callable[[Sequence[Correction]], None] = lambda corrections: None,
) -> Tally:
    cells = services.books.cells(span.from_ms, span.to_ms, ())
    total = sum(cell.request_count for cell in cells)
    with _progress(doing, total) as told, _garbage_of_chunks_alone():
        for records in services.ledger.records(span.from_ms, span.to_ms):
            corrections = repricer.corrections(records)
            if corrections:
                apply(corrections)
            told(repricer.tally.row_count, total)
    return repricer.tally


@contextmanager
def _garbage_of_chunks_alone() -> Iterator[None]:
    """Else the collector looks at all that was loaded before again with nearly every chunk: a quarter of the time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _print_what_was_done(tally: Tally, changed: int) -> None:
    if changed < tally.changed_count:
        typer.echo(f"{tally.changed_count - changed} rows were booked anew meanwhile, and stay: run the command again.")
    typer.echo(
        f"{changed} rows are repriced. Counters of budgets follow within minutes where a server runs, when they are "
        "compared with the ledger; it prices by the file that it read when it started, so restart it."
    )


@app.command("repricings")
def repricings(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many to show.")] = 50,
    request_id: Annotated[str | None, typer.Option("--request", help="What this request said before each.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show late corrections of prices, the newest first; or the versions of one request, the oldest first."""
    with administration(config) as services:
        kept = services.repricings
        if request_id is None:
            _print_repricings(kept.all(limit), as_json)
            return
        record = services.ledger.get(request_id)
        if record is None:
            fail(f"there is no record of {request_id!r}", FAILED)
        versions = kept.of_request(request_id)
    _print_versions(record, versions, as_json)


def _print_repricings(found: Sequence[Repricing], as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in found])
        return
    rows = [(str(each.id), _moment(each.at_ms), each.actor, str(each.row_count), each.reason) for each in found]
    print_table(("id", "at (UTC)", "actor", "rows", "reason"), rows, whole=("id", "at (UTC)"))


def _print_versions(record: SpendRecord, versions: Sequence[Replaced], as_json: bool) -> None:
    told = [(f"until repricing {each.repricing.id}", each.amounts, each.repricing.reason) for each in versions]
    told.append(("now", booked(record), ""))
    if as_json:
        print_json([{"version": name, "reason": reason, **asdict(amounts)} for name, amounts, reason in told])
        return
    rows = [
        (
            name, format_usd(amounts.cost_nusd), amounts.price_effective_from or "-", format_usd(amounts.retries_nusd),
            format_usd(amounts.prompt_cache_nusd), format_usd(amounts.baseline_cost_nusd),
            amounts.baseline_price_effective_from or "-", reason,
        )
        for name, amounts, reason in told
    ]  # fmt: skip
    headings = (
        "version",
        "cost USD",
        "price of",
        "retries",
        "prompt cache",
        "counterfactual",
        "its price of",
        "reason",
    )
    print_table(headings, rows, whole=("version",))


@app.command("status")
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what the ledger holds: how much, how old and how new, and until when hours are closed."""
    with administration(config) as services:
        found = holdings(services.engine)
    if as_json:
        print_json(asdict(found))
    else:
        print_facts(_holdings_in_words(found))


def _holdings_in_words(found: Holdings) -> list[tuple[str, str]]:
    kept = f"; those before {_moment(found.kept_from_ms)} were let go" if found.kept_from_ms else ""
    partitions = [f"{name}: {_size(size)}" for name, size in found.partitions.items()]
    closed = [f"{source}: until {_moment(until_ms)}" for source, until_ms in found.closed_until_ms.items()]
    return [
        ("database", f"{found.database}, {_size(found.database_bytes)}"),
        ("records", f"{found.request_count}{kept}"),
        ("oldest", _moment(found.oldest_ms)),
        ("newest", _moment(found.newest_ms)),
        ("roll-ups", f"{found.rollup_count}, until {_moment(found.rolled_up_until_ms)}"),
        *[("partition", text) for text in partitions],
        *[("closed hours", text) for text in closed or ["none"]],
    ]


@rollups.callback()
def of_rollups() -> None:
    """The hourly sums that reports are made of."""


@rollups.command("rebuild")
def rebuild(config: ConfigOption = None) -> None:
    """Sum up every hour anew from its records. Servers may go on meanwhile; what is let go keeps its sums."""
    with administration(config) as services, _progress("summing up days", None) as progress:
        days = rebuild_rollups(services.engine, progress)
    if not days:
        typer.echo("There are no records to sum up.")
        return
    typer.echo(f"The hours of {days} {'day' if days == 1 else 'days'} are summed up anew.")


def _moment(at_ms: int | None) -> str:
    return "-" if at_ms is None else local_text(at_ms, "UTC")[:16].replace("T", " ")


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


@contextmanager
def _progress(doing: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """Tells of what is done, in all, and of how much; on a terminal alone."""
    console = Console(stderr=True)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _print_tally(tally: Tally, span: ReportPeriod) -> None:
    typer.echo(
        f"{local_text(span.from_ms, 'UTC')} to {local_text(span.to_ms, 'UTC')}: of {tally.row_count} rows "
        f"{tally.concerned_count} are concerned, {tally.changed_count} change"
    )
    if tally.left_count:
        typer.echo(
            f"{tally.left_count} of them stay in part as booked: nobody counted their tokens, or the configuration no "
            "longer says what they are priced at"
        )
    rows = [
        (
            deployment, baseline, str(each.row_count), format_usd(each.cost_nusd), format_usd(each.new_cost_nusd),
            format_usd(each.baseline_cost_nusd), format_usd(each.new_baseline_cost_nusd),
        )
        for (deployment, baseline), each in sorted(tally.by_deployment.items())
    ]  # fmt: skip
    if rows:
        headings = ("deployment", "baseline", "rows", "cost USD", "-> cost", "counterfactual", "-> counterfactual")
        print_table(headings, rows, whole=("deployment", "baseline"))
