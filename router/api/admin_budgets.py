"""The admin API's budgets: what limits there are, where they stand, who spends fastest, and who changed what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr

from classifiers.base import Tier
from policies.budget import Action, SubjectKind, Unit, WhenUnavailable
from policies.budget_terms import parse_limit, parse_share, window_or_default
from router.api import admin_examples as examples
from router.api.admin_access import Caller, CallerOf, Id
from router.api.admin_examples import documented
from router.api.admin_source import AdminSource
from router.clock import SYSTEM_CLOCK
from router.errors import InvalidRequest
from router.reports.budgets import MAX_WINDOWS, history, standing_as_json, standings, window_use_as_json
from router.reports.spenders import Span, spenders_as_json, spenders_report
from router.stores.administration import (
    Terms,
    audit_of_budget,
    audit_of_team,
    budget_of,
    remove_budget,
    remove_monthly,
    set_budget,
    states_of,
    team_of,
    user_states,
)
from router.stores.entries import audit_entry_as_json, budget_as_json
from router.stores.sql_rates import Spender

Share = StrictStr | StrictInt | float


class BudgetTerms(BaseModel):
    """Shares are written as "80%", "0.8" or 0.8; money as a decimal string or a whole number, never as a float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_usd: StrictStr | StrictInt | None = None
    limit: StrictInt | None = None
    timezone: str = "UTC"
    action: Action = "cache_only"
    downgrade_from: Share | None = None
    downgrade_to: Tier = "simple"
    alert_at: list[Share] = ["80%", "100%"]
    paced: bool = False
    when_unavailable: WhenUnavailable | None = None


class NewBudget(BudgetTerms):
    """Terms that are left out have the defaults shown, or stay as they are where there is such a budget already."""

    subject_kind: SubjectKind
    subject_id: Id = "default"
    unit: Unit = "usd"
    window: str | None = None
    model: str | None = None
    tier: Tier | None = None


def add_reading(router: APIRouter, services: AdminSource) -> None:
    # Those whose path goes on come first: a budget's id holds slashes, too.
    @router.get("/budgets", **documented("List budgets and where they stand", examples.BUDGETS))
    def list_budgets(
        caller: CallerOf, team: str | None = None, subject_kind: SubjectKind | None = None
    ) -> dict[str, Any]:
        """Of a budget of every user (`<team>/*`), the state is that of the user who has used most."""
        scope = caller.scope(team)
        if scope is not None:
            team_of(services, scope)
        now = SYSTEM_CLOCK.now()
        wanted = [b for b in services.directory.list_budgets(scope) if subject_kind in (None, b.subject_kind)]
        found = standings(services.ledger, states_of(services, wanted, now), now)
        return {"budgets": [standing_as_json(standing) for standing in found]}

    @router.get(
        "/budgets/{budget_id:path}/history", **documented("Show the last windows and all changes", examples.HISTORY)
    )
    def show_history(
        budget_id: str, caller: CallerOf, windows: Annotated[int, Query(ge=1, le=MAX_WINDOWS)] = 12
    ) -> dict[str, Any]:
        """What was used in each window is the ledger's sum; the limit then may have been another one."""
        budget = budget_of(services, budget_id, caller.only_team)
        used = history(services.ledger, budget, SYSTEM_CLOCK.now(), windows)
        return {
            "budget": budget_as_json(budget),
            "windows": [window_use_as_json(budget, use) for use in used],
            "audit": [audit_entry_as_json(entry) for entry in audit_of_budget(services.directory, budget)],
        }

    @router.get("/budgets/{budget_id:path}/users", **documented("Show each end user's standing", examples.USERS))
    def show_users(budget_id: str, caller: CallerOf) -> dict[str, Any]:
        """For a budget of every user: those who used any of it in this window, the heaviest first, 1,000 at most."""
        budget, now = budget_of(services, budget_id, caller.only_team), SYSTEM_CLOCK.now()
        found = standings(services.ledger, user_states(services, budget, now), now)
        return {"users": [standing_as_json(standing) for standing in found]}

    @router.get("/budgets/{budget_id:path}", **documented("Show a budget and where it stands", examples.BUDGET))
    def show_budget(budget_id: str, caller: CallerOf) -> dict[str, Any]:
        budget, now = budget_of(services, budget_id, caller.only_team), SYSTEM_CLOCK.now()
        (found,) = standings(services.ledger, states_of(services, [budget], now), now)
        return standing_as_json(found)


def add_spenders_and_changes(router: APIRouter, services: AdminSource) -> None:
    @router.get("/spenders", **documented("Show who spends fastest", examples.SPENDERS))
    def show_spenders(
        caller: CallerOf,
        window: Span = "day",
        by: Spender = "team",
        team: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
    ) -> dict[str, Any]:
        """Over the hour, day, week or 30 days that end now, beside as long a time before that."""
        scope = caller.scope(team)
        report = spenders_report(services.rates, by, window, SYSTEM_CLOCK.now(), team_id=scope, limit=limit)
        return spenders_as_json(report)

    @router.get("/audit", **documented("List changes, the newest first", examples.AUDIT))
    def list_changes(
        caller: CallerOf,
        target: str | None = None,
        before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> dict[str, Any]:
        """`target` is the beginning of an entry's name; `before`, the id of the last entry seen, turns the page."""
        if caller.only_team is None:
            found = services.directory.audit(target=target, before_id=before, limit=limit)
        else:
            found = audit_of_team(services.directory, caller.only_team, target, before, limit)
        return {"entries": [audit_entry_as_json(entry) for entry in found]}


def add_managing(router: APIRouter, services: AdminSource) -> None:
    @router.post("/budgets", status_code=201, **documented("Set a budget", examples.NEW_BUDGET, status=201))
    def create_budget(body: NewBudget, caller: CallerOf) -> dict[str, Any]:
        """Limits what a subject may use in a window. What it used in the current one already counts."""
        caller.check_subject(services, body.subject_kind, body.subject_id)
        services.config.check_deployment(body.model)
        limit = _limit(body, body.unit)
        if limit is None:
            raise InvalidRequest(f"{_limit_key(body.unit)} is missing", param=_limit_key(body.unit))
        budget = set_budget(
            services.acting_as(caller.actor),
            body.subject_kind,
            body.subject_id,
            limit,
            unit=body.unit,
            window=window_or_default(body.window, body.unit),
            model=body.model,
            tier=body.tier,
            terms=_terms(body),
        )
        return budget_as_json(budget)

    @router.put("/budgets/{budget_id:path}", **documented("Change a budget's limit and terms", examples.NEW_BUDGET))
    def change_budget(budget_id: str, body: BudgetTerms, caller: CallerOf) -> dict[str, Any]:
        """What is left out stays as it is."""
        budget = budget_of(services, budget_id, caller.only_team)
        caller.check_subject(services, budget.subject_kind, budget.subject_id)
        limit = _limit(body, budget.unit)
        changed = set_budget(
            services.acting_as(caller.actor),
            budget.subject_kind,
            budget.subject_id,
            budget.limit if limit is None else limit,
            unit=budget.unit,
            window=budget.window,
            model=budget.model,
            tier=budget.tier,
            terms=_terms(body),
        )
        return budget_as_json(changed)

    @router.delete("/budgets/{budget_id:path}", **documented("Remove a budget", examples.NEW_BUDGET))
    def delete_budget(budget_id: str, caller: CallerOf) -> dict[str, Any]:
        """Answers with what it was."""
        budget = budget_of(services, budget_id, caller.only_team)
        caller.check_subject(services, budget.subject_kind, budget.subject_id)
        return budget_as_json(remove_budget(services.acting_as(caller.actor), budget_id))


def limit_monthly(
    services: AdminSource, caller: Caller, kind: SubjectKind, subject_id: str, limit_usd: str | int | None, terms: Terms
) -> dict[str, Any]:
    """The shorthand for a budget of dollars a calendar month; None takes it away."""
    caller.check_subject(services, kind, subject_id)
    acting = services.acting_as(caller.actor)
    if limit_usd is None:
        remove_monthly(acting, kind, subject_id)
        return {"budget": None}
    return {"budget": budget_as_json(set_budget(acting, kind, subject_id, _parsed(limit_usd, "usd"), terms=terms))}


def _terms(body: BudgetTerms) -> Terms:
    """Those that were given."""
    values = body.model_dump(include=body.model_fields_set & set(BudgetTerms.model_fields) - {"limit", "limit_usd"})
    try:
        if values.get("downgrade_from") is not None:
            values["downgrade_from"] = parse_share(values["downgrade_from"])
        if "alert_at" in values:
            values["alert_shares"] = tuple(map(parse_share, values.pop("alert_at")))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    terms: Terms = values  # type: ignore[assignment]  # its keys are the model's fields
    return terms


def _limit(body: BudgetTerms, unit: Unit) -> int | None:
    key = _limit_key(unit)
    other = "limit" if key == "limit_usd" else "limit_usd"
    if getattr(body, other) is not None:
        raise InvalidRequest(f"{other} is not for the unit {unit!r}; write {key}", param=other)
    value = getattr(body, key)
    return None if value is None else _parsed(value, unit)


def _limit_key(unit: Unit) -> str:
    return "limit_usd" if unit == "usd" else "limit"


def _parsed(value: str | int, unit: Unit) -> int:
    try:
        return parse_limit(value, unit)
    except ValueError as error:
        raise InvalidRequest(str(error), param=_limit_key(unit)) from error
