"""The admin API without a server: real stores, and a caller of any role and team."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from router.api.admin import admin_router
from router.bootstrap import open_admin
from router.errors import ParsimonyError
from router.services import AdminServices
from router.stores.base import Principal, Role
from router.stores.sql_engine import migrate

KNOWN = {"authorization": "Bearer known"}


@contextmanager
def open_stores(config: Path) -> Iterator[AdminServices]:
    """The stores of `config`, migrated, for a test."""
    services = open_admin(config)
    migrate(services.engine)
    try:
        yield services
    finally:
        services.engine.dispose()


def client_of(services: AdminServices, role: Role = "admin", team_id: str = "ops") -> TestClient:
    """Its key `key_<role>` is of this role and team; any other header than KNOWN is an application's key."""

    async def authenticate(request: Request) -> Principal:
        known = request.headers.get("authorization") == KNOWN["authorization"]
        return Principal(f"key_{role}", team_id, role if known else "application", None, ())

    async def render(_: Request, error: Any) -> JSONResponse:
        return JSONResponse(
            {"message": error.message, "code": error.code, "param": error.param}, status_code=error.status
        )

    app = FastAPI()
    app.include_router(admin_router(services, authenticate))
    app.add_exception_handler(ParsimonyError, render)
    return TestClient(app, headers=KNOWN, base_url="http://test/admin/v1")
