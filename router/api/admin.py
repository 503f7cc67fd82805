"""The admin API at /admin/v1: teams, projects, keys and single requests; budgets and reports have modules of their own.

All of it is synchronous and runs in the thread pool: it reads SQL and Redis, and may take its time.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from router.api import admin_budgets, admin_reports
from router.api import admin_examples as examples
from router.api.admin_access import ADMINS, MANAGERS, READERS, Authenticate, CallerOf, Id, router_for
from router.api.admin_examples import documented
from router.api.admin_source import AdminSource
from router.clock import SYSTEM_CLOCK
from router.errors import RecordNotFound
from router.prices import load_prices
from router.reports.explanation import explained, explanation_as_json
from router.stores.administration import Terms, budget_states, team_of
from router.stores.base import KeyInfo, Role
from router.stores.entries import budget_state_as_json, key_as_json, project_as_json, team_as_json


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewTeam(_Body):
    id: str
    name: str | None = None


class NewProject(_Body):
    team_id: Id
    id: str
    name: str | None = None


class NewKey(_Body):
    team_id: Id
    name: str
    role: Role = "application"
    allowed_models: list[str] | None = None
    project_id: Id | None = None
    trusted: bool = False
    tags: list[str] = []


class Rotation(_Body):
    grace_seconds: int = Field(default=0, ge=0)


class MonthlyBudget(_Body):
    """Dollars a calendar month, as a decimal string or a whole number; null takes the budget away."""

    limit_usd: StrictStr | StrictInt | None
    timezone: str | None = None

    @property
    def terms(self) -> Terms:
        return {} if self.timezone is None else {"timezone": self.timezone}


def admin_router(services: AdminSource, authenticate: Authenticate) -> APIRouter:
    """The routes. `authenticate` raises InvalidApiKey, and is asked before a body is read."""
    reading, managing, administering = (router_for(authenticate, roles) for roles in (READERS, MANAGERS, ADMINS))
    _add_reading(reading, services)
    admin_budgets.add_reading(reading, services)
    admin_budgets.add_spenders_and_changes(reading, services)
    admin_reports.add_reading(reading, services)
    _add_requests(reading, services)
    _add_managing(managing, services)
    admin_budgets.add_managing(managing, services)
    _add_administering(administering, services)
    admin_reports.add_administering(administering, services)
    router = APIRouter(prefix="/admin/v1")
    for part in (reading, managing, administering):
        router.include_router(part)
    return router


def _add_reading(router: APIRouter, stores: AdminSource) -> None:
    @router.get("/teams", **documented("List teams with their monthly budgets", examples.TEAMS))
    def list_teams(caller: CallerOf) -> dict[str, Any]:
        budgets = stores.directory.list_budgets(caller.only_team)
        teams = [team for team in stores.directory.list_teams() if caller.only_team in (None, team.id)]
        return {"teams": [team_as_json(team, budgets) for team in teams]}

    @router.get("/teams/{team_id}", **documented("Show a team, its budgets and its keys", examples.TEAM_DETAIL))
    def show_team(team_id: str, caller: CallerOf) -> dict[str, Any]:
        caller.scope(team_id)
        team = team_of(stores, team_id)
        states = budget_states(stores, team_id, SYSTEM_CLOCK.now())
        return team_as_json(team, [state.budget for state in states]) | {
            "budgets": [budget_state_as_json(state) for state in states],
            "keys": [_key(key) for key in stores.directory.list_keys(team_id)],
        }

    @router.get("/projects", **documented("List projects", examples.PROJECTS))
    def list_projects(caller: CallerOf, team: str | None = None) -> dict[str, Any]:
        return {"projects": [project_as_json(p) for p in stores.directory.list_projects(caller.scope(team))]}

    @router.get("/keys", **documented("List keys, without their secrets", examples.KEYS))
    def list_keys(caller: CallerOf, team: str | None = None) -> dict[str, Any]:
        return {"keys": [_key(key) for key in stores.directory.list_keys(caller.scope(team))]}


def _add_managing(router: APIRouter, stores: AdminSource) -> None:
    @router.post("/keys", status_code=201, **documented("Make a key", examples.SECRET, status=201))
    def create_key(body: NewKey, response: Response, caller: CallerOf) -> dict[str, Any]:
        """The answer is the only one that ever holds the secret."""
        caller.scope(body.team_id)
        caller.check_project(stores, body.project_id)
        caller.check_key_terms(body.role, body.trusted)
        stores.config.check_model_names(body.allowed_models or ())
        made = stores.acting_as(caller.actor).directory.create_key(
            body.team_id,
            body.name,
            body.role,
            body.allowed_models,
            project_id=body.project_id,
            trusted=body.trusted,
            tags=body.tags,
        )
        return _secret(response, *made)

    @router.post("/keys/{key_id}/revoke", **documented("End a key for good", examples.KEY))
    def revoke_key(key_id: str, caller: CallerOf) -> dict[str, Any]:
        caller.changeable_key(stores, key_id)
        return _key(stores.acting_as(caller.actor).directory.revoke_key(key_id))

    @router.post("/keys/{key_id}/rotate", status_code=201, **documented("Replace a key", examples.SECRET, status=201))
    def rotate_key(key_id: str, response: Response, caller: CallerOf, body: Rotation | None = None) -> dict[str, Any]:
        """By one of the same team, rights and budgets. The old one stops at once, or after `grace_seconds`."""
        caller.changeable_key(stores, key_id)
        grace_seconds = body.grace_seconds if body else 0
        return _secret(response, *stores.acting_as(caller.actor).directory.rotate_key(key_id, grace_seconds))

    @router.put("/keys/{key_id}/budget", **documented("Limit a key's dollars a month", examples.MONTHLY_BUDGET))
    def set_key_budget(key_id: str, body: MonthlyBudget, caller: CallerOf) -> dict[str, Any]:
        return admin_budgets.limit_monthly(stores, caller, "key", key_id, body.limit_usd, body.terms)


def _add_administering(router: APIRouter, stores: AdminSource) -> None:
    @router.post("/teams", status_code=201, **documented("Make a team", examples.TEAM, status=201))
    def create_team(body: NewTeam, caller: CallerOf) -> dict[str, Any]:
        return team_as_json(stores.acting_as(caller.actor).directory.create_team(body.id, body.name), ())

    @router.put("/teams/{team_id}/budget", **documented("Limit a team's dollars a month", examples.MONTHLY_BUDGET))
    def set_team_budget(team_id: str, body: MonthlyBudget, caller: CallerOf) -> dict[str, Any]:
        return admin_budgets.limit_monthly(stores, caller, "team", team_id, body.limit_usd, body.terms)

    @router.post("/projects", status_code=201, **documented("Make a project", examples.PROJECT, status=201))
    def create_project(body: NewProject, caller: CallerOf) -> dict[str, Any]:
        made = stores.acting_as(caller.actor).directory.create_project(body.team_id, body.id, body.name)
        return project_as_json(made)


def _add_requests(router: APIRouter, services: AdminSource) -> None:
    @router.get("/requests/{request_id}", **documented("Explain a request", examples.REQUEST))
    def show_request(request_id: str, caller: CallerOf) -> dict[str, Any]:
        record = services.ledger.get(request_id)
        if record is None or caller.only_team not in (None, record.team_id):
            raise RecordNotFound(
                f"There is no record of {request_id!r}; records reach the ledger about a second after the answer."
            )
        replaced = services.repricings.of_request(request_id)
        # Read anew each time, in milliseconds: a late correction of prices is in there, and its records name it.
        prices = load_prices(services.config.prices)
        return explanation_as_json(explained(record, services.config, prices, replaced))


def _key(key: KeyInfo) -> dict[str, Any]:
    return key_as_json(key, int(SYSTEM_CLOCK.wall() * 1000))


def _secret(response: Response, key: KeyInfo, secret: str) -> dict[str, Any]:
    """No cache on the way may keep the secret."""
    response.headers["cache-control"] = "no-store"
    return {"key": _key(key), "secret": secret}
