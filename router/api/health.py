"""GET /health/live, /health/ready and /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from router.errors import StoreUnavailable
from router.pipeline.dispatch import Dispatcher
from router.stores.redis_admission import RedisAdmissionStore
from router.telemetry import Telemetry

SQL_TIMEOUT_SECONDS = 2


def health_router(
    admission: RedisAdmissionStore, dispatcher: Dispatcher, ping_sql: Callable[[], None], telemetry: Telemetry
) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Whether requests can be served; says which store or upstream is missing."""
        sql = await _sql_state(ping_sql)
        circuits = dispatcher.circuit_states()
        open_circuits = [name for name, state in circuits.items() if state == "open"]
        redis = await _redis_state(admission)
        checks: dict[str, Any] = {
            "redis": redis,
            "sql": sql,
            "upstreams": {name: "ok" if state == "closed" else f"circuit {state}" for name, state in circuits.items()},
        }
        is_ready = redis == "ok" and sql == "ok" and len(open_circuits) < len(circuits)
        status = "ready" if is_ready else "not ready"
        return JSONResponse({"status": status, "checks": checks}, status_code=200 if is_ready else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _redis_state(admission: RedisAdmissionStore) -> str:
    try:
        whole = await admission.counters_whole()
    except StoreUnavailable as error:
        return error.message
    return "ok" if whole else "budget counters are being taken from the ledger"


async def _sql_state(ping_sql: Callable[[], None]) -> str:
    try:
        async with asyncio.timeout(SQL_TIMEOUT_SECONDS):
            await asyncio.to_thread(ping_sql)
    except TimeoutError:
        return "does not answer in time"
    except Exception as error:  # noqa: BLE001 - the border of the check: whatever is wrong, it says so
        return f"cannot be used: {error}"
    return "ok"
