"""`parsimony budgets`: what may be used, where that stands, and what it did before."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from classifiers.base import Tier
from policies.budget import ORGANIZATION, Action, Budget, SubjectKind, Unit, WhenUnavailable
from policies.budget_terms import amount_in_unit, budget_name, format_share, parse_limit, parse_share, window_or_default
from router.cli.admin import administration, now, print_facts, print_json, print_table, print_whole
from router.cli.audit import print_changes
from router.cli.options import ConfigOption, JsonOption
from router.reports.budgets import (
    MAX_WINDOWS,
    STANDING_COLUMNS,
    WindowUse,
    history,
    standing_as_json,
    standing_table,
    standings,
    window_use_as_json,
)
from router.stores.administration import (
    Terms,
    audit_of_budget,
    budget_of,
    remove_budget,
    set_budget,
    states_of,
    team_of,
    user_states,
)
from router.stores.entries import audit_entry_as_json, budget_as_json

app = typer.Typer(help="What may be used, where that stands, and what it did before.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="BUDGET_ID", help="As `parsimony budgets list --ids` shows it.")]
_WINDOWS = "hour, day, week, month, quarter, year, lifetime, rolling:7d (m, h, d), or minute for a rate limit"

KindArgument = Annotated[
    SubjectKind, typer.Argument(metavar="KIND", help="organization, team, project, key, user or tag.")
]
SubjectAndLimitArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[SUBJECT] LIMIT",
        help="Whose (a user's is TEAM/USER, or 'TEAM/*' for each; none for the organization); dollars or a count.",
    ),
]
UnitOption = Annotated[Unit, typer.Option("--unit", help="What is counted.")]
WindowOption = Annotated[str | None, typer.Option("--window", help=f"{_WINDOWS}; else month, and for parallel now.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Count only what this deployment answers.")]
TierOption = Annotated[Tier | None, typer.Option("--tier", help="Count only what deployments of this tier answer.")]
TimezoneOption = Annotated[str | None, typer.Option("--timezone", help="Where its windows begin.")]
ActionOption = Annotated[Action | None, typer.Option("--action", help="What being used up does.")]
DowngradeFromOption = Annotated[
    str | None, typer.Option("--downgrade-from", metavar="SHARE", help="From here on small models only: 80%, or none.")
]
DowngradeToOption = Annotated[Tier | None, typer.Option("--downgrade-to", help="What small means.")]
AlertAtOption = Annotated[
    list[str] | None, typer.Option("--alert-at", metavar="SHARE", help="Tell of this share; repeat for more.")
]
PacedOption = Annotated[
    bool | None, typer.Option("--paced/--not-paced", help="Raise the bar for large models while ahead of the window.")
]
WhenUnavailableOption = Annotated[
    WhenUnavailable | None, typer.Option("--when-unavailable", help="While Redis is away; else as configured.")
]


@app.command("list")
def list_budgets(
    team: Annotated[
        str | None, typer.Option("--team", help="Only this team's, its projects', keys' and users'.")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Show ids and terms in place of where they stand.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every budget: what is spent, held and left, and when it will be used up.

    Of a budget of every user (TEAM/*) it is the user who has used most.
    """
    with administration(config) as services:
        if team is not None:
            team_of(services, team)
        budgets = services.directory.list_budgets(team)
        if ids:
            _print_terms(budgets, as_json)
            return
        found = standings(services.ledger, states_of(services, budgets, now()), now())
    if as_json:
        print_json([standing_as_json(standing) for standing in found])
    elif found:
        print_whole(standing_table(found), STANDING_COLUMNS)
    else:
        typer.echo("There are no budgets; `parsimony budgets set team TEAM USD` sets one.")


@app.command("show")
def show(budget_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show a budget's terms and where it stands; of a budget of every user, each of them."""
    with administration(config) as services:
        budget = budget_of(services, budget_id)
        states = (
            user_states(services, budget, now()) if budget.is_of_every_user else states_of(services, [budget], now())
        )
        found = standings(services.ledger, states, now())
    if as_json:
        print_json(budget_as_json(budget) | {"standings": [standing_as_json(standing) for standing in found]})
        return
    print_facts(_facts(budget))
    if found:
        print_whole(standing_table(found), STANDING_COLUMNS)


@app.command("set")
def set_(
    subject_kind: KindArgument,
    subject_and_limit: SubjectAndLimitArgument,
    unit: UnitOption = "usd",
    window: WindowOption = None,
    model: ModelOption = None,
    tier: TierOption = None,
    timezone: TimezoneOption = None,
    action: ActionOption = None,
    downgrade_from: DowngradeFromOption = None,
    downgrade_to: DowngradeToOption = None,
    alert_at: AlertAtOption = None,
    paced: PacedOption = None,
    when_unavailable: WhenUnavailableOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a budget, or change one: what is not named stays as it is.

    parsimony budgets set team support 500 --timezone Asia/Shanghai --action downgrade --downgrade-from 80% --paced

    parsimony budgets set key key_0123456789abcdef 60 --unit requests --window minute
    """
    given = {
        "timezone": timezone,
        "action": action,
        "downgrade_to": downgrade_to,
        "paced": paced,
        "when_unavailable": when_unavailable,
    }
    with administration(config) as services:
        subject_id, limit = _subject_and_limit(subject_kind, subject_and_limit)
        services.config.check_deployment(model)
        budget = set_budget(
            services,
            subject_kind,
            subject_id,
            parse_limit(limit, unit),
            unit=unit,
            window=window_or_default(window, unit),
            model=model,
            tier=tier,
            terms=_terms(given, downgrade_from, alert_at),
        )
    if as_json:
        print_json(budget_as_json(budget))
    else:
        typer.echo(f"{budget.id}: {_sentence(budget)}")


@app.command("remove")
def remove(budget_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take a budget away."""
    with administration(config) as services:
        budget = remove_budget(services, budget_id)
    if as_json:
        print_json(budget_as_json(budget))
    else:
        typer.echo(f"{budget.id} is removed; it was {_sentence(budget)}")


@app.command("history")
def show_history(
    budget_id: IdArgument,
    windows: Annotated[int, typer.Option("--windows", min=1, max=MAX_WINDOWS, help="How many.")] = 12,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was used in the last windows, by the ledger, and every change of the budget."""
    with administration(config) as services:
        budget = budget_of(services, budget_id)
        used = history(services.ledger, budget, now(), windows)
        changes = [audit_entry_as_json(entry) for entry in audit_of_budget(services.directory, budget)]
    if as_json:
        uses = [window_use_as_json(budget, use) for use in used]
        print_json({"budget": budget_as_json(budget), "windows": uses, "audit": changes})
        return
    print_table(("window", "from (UTC)", "to (UTC)", "used"), [_use_row(budget, use) for use in used])
    print_changes(changes)


def _subject_and_limit(kind: SubjectKind, words: list[str]) -> tuple[str, str]:
    """Raises ValueError with a sentence."""
    if kind == "organization" and len(words) == 1:
        return ORGANIZATION, words[0]
    if len(words) != 2:
        expected = "LIMIT" if kind == "organization" else "SUBJECT LIMIT"
        raise ValueError(f"write: parsimony budgets set {kind} {expected}; found {' '.join(words)}")
    return words[0], words[1]


def _terms(given: dict[str, Any], downgrade_from: str | None, alert_at: list[str] | None) -> Terms:
    """Those that were named. Raises ValueError for what is no share."""
    terms: Terms = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]
    if downgrade_from is not None:
        terms["downgrade_from"] = None if downgrade_from == "none" else parse_share(downgrade_from)
    if alert_at:
        terms["alert_shares"] = tuple(map(parse_share, alert_at))
    return terms


def _print_terms(budgets: tuple[Budget, ...], as_json: bool) -> None:
    if as_json:
        print_json([budget_as_json(budget) for budget in budgets])
        return
    rows = [(budget.id, budget.amount_text(budget.limit), budget.action, budget.source) for budget in budgets]
    print_table(("budget", "limit", "used up", "source"), rows, whole=("budget",))


def _sentence(budget: Budget) -> str:
    zone = f" ({budget.timezone})" if budget.parsed_window.is_calendar else ""
    window = "" if budget.window == "now" else f", window {budget.window}{zone}"
    return f"{budget.amount_text(budget.limit)}{window}; used up: {budget.action}"


def _facts(budget: Budget) -> list[tuple[str, str]]:
    downgrade = "never"
    if budget.downgrades_from is not None:
        share = format_share(budget.downgrade_from) if budget.downgrade_from is not None else "100%"
        downgrade = f"from {share} on to {budget.downgrade_to} or below"
    return [
        ("budget", budget.id),
        ("of", budget_name(budget)),
        ("limit", budget.amount_text(budget.limit)),
        ("window", f"{budget.window} ({budget.timezone})"),
        ("used up", budget.action),
        ("downgrade", downgrade),
        ("alerts at", ", ".join(map(format_share, budget.alert_shares)) or "none"),
        ("paced", "yes" if budget.paced else "no"),
        ("Redis away", budget.when_unavailable or "as configured"),
        ("source", budget.source),
    ]


def _use_row(budget: Budget, use: WindowUse) -> tuple[str, ...]:
    value: dict[str, Any] = window_use_as_json(budget, use)
    return value["window_label"], value["from"][:16], value["to"][:16], amount_in_unit(budget, use.used)
