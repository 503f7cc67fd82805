"""The admin API at /admin/v1: teams, keys, budgets, reports and single requests.

All of it is synchronous and runs in the thread pool: it reads SQL and Redis, and may take its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Protocol

import redis
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from policies.budget import SubjectKind
from policies.money import parse_usd
from router.clock import SYSTEM_CLOCK
from router.config import Config
from router.errors import InvalidRequest, RecordNotFound, StoreUnavailable
from router.prices import PriceBook, load_prices
from router.reports import render
from router.reports.explanation import explained, explanation_as_json
from router.reports.savings import report_span, savings_report
from router.stores.administration import (
    budget_as_json,
    budget_state_as_json,
    budget_states,
    key_as_json,
    put_budget,
    team_as_json,
    team_of,
)
from router.stores.base import AdminStores, DirectoryError, KeyInfo, Role, UnknownEntryError


class AdminSource(AdminStores, Protocol):
    """The stores, and the configuration whose prices explain a request."""

    @property
    def config(self) -> Config: ...


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewTeam(_Body):
    id: str
    name: str | None = None


class NewKey(_Body):
    team_id: str
    name: str
    role: Role = "application"
    allowed_models: list[str] | None = None


class Rotation(_Body):
    grace_seconds: int = Field(default=0, ge=0)


class NewBudget(_Body):
    """Dollars a calendar month, as a decimal string or a whole number; null takes the budget away."""

    limit_usd: StrictStr | StrictInt | None
    timezone: str = "UTC"


RequireAdmin = Callable[[Request], Awaitable[object]]


class _AdminRoute(APIRoute):
    """The border where callers are let in, and where the stores' errors become those of the API."""

    require_admin: ClassVar[RequireAdmin]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def translated(request: Request) -> Response:
            # Not as a dependency: FastAPI reads and parses the body before it asks those.
            await type(self).require_admin(request)
            try:
                return await handle(request)
            except UnknownEntryError as error:
                raise RecordNotFound(str(error)) from error
            except DirectoryError as error:
                raise InvalidRequest(str(error)) from error
            except redis.RedisError as error:
                raise StoreUnavailable(f"the budget counters are out of reach: {error}") from error

        return translated


def admin_router(services: AdminSource, require_admin: RequireAdmin) -> APIRouter:
    """The routes. `require_admin` raises unless the caller holds an admin key; it is asked before a body is read."""
    route_class = type("_LockedRoute", (_AdminRoute,), {"require_admin": staticmethod(require_admin)})
    router = APIRouter(prefix="/admin/v1", tags=["admin"], route_class=route_class)
    _add_teams(router, services)
    _add_keys(router, services)
    _add_reports(router, services)
    _add_requests(router, services)
    return router


def _add_teams(router: APIRouter, stores: AdminStores) -> None:
    @router.get("/teams")
    def list_teams() -> dict[str, Any]:
        budgets = stores.directory.list_budgets()
        return {"teams": [team_as_json(team, budgets) for team in stores.directory.list_teams()]}

    @router.post("/teams", status_code=201)
    def create_team(body: NewTeam) -> dict[str, Any]:
        return team_as_json(stores.directory.create_team(body.id, body.name), ())

    @router.get("/teams/{team_id}")
    def show_team(team_id: str) -> dict[str, Any]:
        team = team_of(stores, team_id)
        states = budget_states(stores, team_id, SYSTEM_CLOCK.now())
        return team_as_json(team, [state.budget for state in states]) | {
            "budgets": [budget_state_as_json(state) for state in states],
            "keys": [_key(key) for key in stores.directory.list_keys(team_id)],
        }

    @router.put("/teams/{team_id}/budget")
    def set_team_budget(team_id: str, body: NewBudget) -> dict[str, Any]:
        return _put_budget(stores, "team", team_id, body)


def _add_keys(router: APIRouter, stores: AdminSource) -> None:
    @router.get("/keys")
    def list_keys(team: str | None = None) -> dict[str, Any]:
        return {"keys": [_key(key) for key in stores.directory.list_keys(team)]}

    @router.post("/keys", status_code=201)
    def create_key(body: NewKey, response: Response) -> dict[str, Any]:
        stores.config.check_model_names(body.allowed_models or ())
        return _secret(response, *stores.directory.create_key(body.team_id, body.name, body.role, body.allowed_models))

    @router.post("/keys/{key_id}/revoke")
    def revoke_key(key_id: str) -> dict[str, Any]:
        return _key(stores.directory.revoke_key(key_id))

    @router.post("/keys/{key_id}/rotate", status_code=201)
    def rotate_key(key_id: str, response: Response, body: Rotation | None = None) -> dict[str, Any]:
        grace_seconds = body.grace_seconds if body else 0
        return _secret(response, *stores.directory.rotate_key(key_id, grace_seconds))

    @router.put("/keys/{key_id}/budget")
    def set_key_budget(key_id: str, body: NewBudget) -> dict[str, Any]:
        return _put_budget(stores, "key", key_id, body)


def _add_reports(router: APIRouter, stores: AdminStores) -> None:
    @router.get("/reports/savings", response_model=None)
    def savings(
        from_text: Annotated[str | None, Query(alias="from")] = None,
        to_text: Annotated[str | None, Query(alias="to")] = None,
        team: str | None = None,
        output: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    ) -> dict[str, Any] | Response:
        now = SYSTEM_CLOCK.now()
        try:
            from_ms, to_ms = report_span(from_text, to_text, now)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        if team is not None:
            team_of(stores, team)
        report = savings_report(
            stores.ledger,
            from_ms,
            to_ms,
            team_id=team,
            budgets=budget_states(stores, team, now),
            baseline_deployments=stores.baseline_deployments,
        )
        if output == "csv":
            return PlainTextResponse(render.as_csv(report), media_type="text/csv")
        return render.as_json(report)


def _add_requests(router: APIRouter, services: AdminSource) -> None:
    @cache
    def prices() -> PriceBook:
        return load_prices(services.config.prices)

    @router.get("/requests/{request_id}")
    def show_request(request_id: str) -> dict[str, Any]:
        record = services.ledger.get(request_id)
        if record is None:
            raise RecordNotFound(
                f"There is no record of {request_id!r}; records reach the ledger about a second after the answer."
            )
        return explanation_as_json(explained(record, services.config, prices()))


def _put_budget(stores: AdminStores, kind: SubjectKind, subject_id: str, body: NewBudget) -> dict[str, Any]:
    try:
        limit_nusd = None if body.limit_usd is None else parse_usd(body.limit_usd)
    except ValueError as error:
        raise InvalidRequest(str(error), param="limit_usd") from error
    budget = put_budget(stores, kind, subject_id, limit_nusd, body.timezone)
    return {"budget": None if budget is None else budget_as_json(budget)}


def _key(key: KeyInfo) -> dict[str, Any]:
    return key_as_json(key, int(SYSTEM_CLOCK.wall() * 1000))


def _secret(response: Response, key: KeyInfo, secret: str) -> dict[str, Any]:
    """The only answer that ever holds the secret; no cache on the way may keep it."""
    response.headers["cache-control"] = "no-store"
    return {"key": _key(key), "secret": secret}
