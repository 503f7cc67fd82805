"""The ASGI application: the hot endpoint by hand, everything else through FastAPI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy import text
from starlette.exceptions import HTTPException

from router.api.asgi import Receive, Scope, Send, bounded, chat_completions, send_error
from router.api.health import health_router
from router.api.models import models_router
from router.errors import AdminRequired, InvalidRequest, MethodNotAllowed, ParsimonyError, fault
from router.openai.errors import error_body, error_headers
from router.services import Services
from router.stores.base import Principal
from router.stores.sql_engine import reading
from router.version import parsimony_version

logger = logging.getLogger(__name__)

HOT_PATH = "/v1/chat/completions"
ADMIN_PATHS = ("/admin", "/docs", "/openapi.json")
"""What these begin with takes the admin API; the last two describe it."""
REST_BODY_BYTES = 65_536
"""The largest body of any other request."""

Authenticate = Callable[[Request], Awaitable[Principal]]


class Application:
    """Dispatches between the hot endpoint and `rest`, a FastAPI app with OpenAPI documentation.

    The admin API joins it when it is first asked for: what it imports takes as long as all else that a worker starts
    with, and most workers are never asked.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_body_bytes = services.config.server.max_body_bytes
        self._authenticate = _authentication(services)
        self._routers = [models_router(services.models, self._authenticate), _health(services, self._authenticate)]
        self.rest = _rest(self._routers)
        self._has_admin = False
        self._joining = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == HOT_PATH:
            if scope["method"] == "POST":
                await chat_completions(self._services.pipeline, self._max_body_bytes, scope, receive, send)
            else:
                await send_error(send, MethodNotAllowed(f"Use POST for {HOT_PATH}; found {scope['method']}."))
            return
        if scope["type"] == "http":
            receive = bounded(receive, REST_BODY_BYTES)
            if not self._has_admin and scope["path"].startswith(ADMIN_PATHS) and not await self._join_admin():
                await send_error(send, fault())
                return
        await self.rest(scope, receive, send)  # type: ignore[arg-type]  # Starlette spells the same types otherwise

    async def _join_admin(self) -> bool:
        """In a thread, beside the requests that are served meanwhile. Whether it is there."""
        async with self._joining:
            if not self._has_admin:
                try:
                    self.rest = await asyncio.to_thread(self._with_admin)
                    self._has_admin = True
                except Exception:  # the border to the client
                    logger.exception("the admin API cannot be had")
        return self._has_admin

    def _with_admin(self) -> FastAPI:
        from router.api.admin import admin_router

        return _rest([*self._routers, admin_router(self._services.admin, self._authenticate)])


def create_app(services: Services) -> Application:
    return Application(services)


def _rest(routers: Sequence[APIRouter]) -> FastAPI:
    app = FastAPI(title="Parsimony", version=parsimony_version(), docs_url="/docs", redoc_url=None)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(ParsimonyError, _render)
    app.add_exception_handler(HTTPException, _render_http)
    app.add_exception_handler(RequestValidationError, _render_validation)
    app.add_exception_handler(Exception, _render_fault)  # the server's log has it all the same
    return app


def _authentication(services: Services) -> Authenticate:
    async def authenticated(request: Request) -> Principal:
        header = request.headers.get("authorization")
        return await services.authenticator.authenticate(header.encode() if header else None)

    return authenticated


def _health(services: Services, authenticate: Authenticate) -> APIRouter:
    async def require_admin(request: Request) -> Principal:
        principal = await authenticate(request)
        if principal.role != "admin":
            raise AdminRequired("This needs an admin key.")
        return principal

    def ping_sql() -> None:
        with reading(services.admin.engine) as connection:
            connection.execute(text("SELECT 1"))

    return health_router(services.admission, services.dispatcher, ping_sql, services.telemetry, require_admin)


async def _render(_: Request, error: Any) -> Response:
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(error), status_code=error.status, headers=headers)


async def _render_fault(request: Request, _: Exception) -> Response:
    return await _render(request, fault())


async def _render_http(request: Request, error: Any) -> Response:
    if isinstance(error.__cause__, ParsimonyError):  # raised while FastAPI was reading the body
        return await _render(request, error.__cause__)
    problem = InvalidRequest(f"{error.detail}: {request.method} {request.url.path}")
    problem.status = error.status_code
    return await _render(request, problem)


async def _render_validation(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return await _render(request, InvalidRequest(f"{where or 'the request'}: {first['msg']}", param=where or None))
