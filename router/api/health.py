"""GET /health/live, /health/ready and /metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from router.errors import StoreUnavailable
from router.pipeline.dispatch import Dispatcher
from router.stores.local_admission import LocalAdmissionStore
from router.telemetry import Telemetry

logger = logging.getLogger(__name__)

SQL_TIMEOUT_SECONDS = 2.0
SQL_FRESH_SECONDS = 1.0
NEAR = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Loopback, private and link-local addresses: whoever comes from there may read the metrics without a key."""


def health_router(
    admission: LocalAdmissionStore,
    dispatcher: Dispatcher,
    ping_sql: Callable[[], None],
    telemetry: Telemetry,
    require_admin: Callable[[Request], Awaitable[object]],
) -> APIRouter:
    """The routes. `ping_sql` blocks, and raises where the database cannot be used."""
    router = APIRouter(tags=["health"])
    sql_check = SqlCheck(ping_sql)

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Whether requests can be served; says which store or upstream is missing."""
        sql = await sql_check.state()
        circuits = dispatcher.circuit_states()
        open_circuits = [name for name, state in circuits.items() if state == "open"]
        redis, is_admitting = await _redis_state(admission)
        checks: dict[str, Any] = {
            "redis": redis,
            "spool": spool_state(admission.spool.waiting, admission.spool.writable),
            "sql": sql,
            "upstreams": {name: "ok" if state == "closed" else f"circuit {state}" for name, state in circuits.items()},
        }
        is_ready = is_admitting and sql == "ok" and len(open_circuits) < len(circuits)
        status = "ready" if is_ready else "not ready"
        return JSONResponse({"status": status, "checks": checks}, status_code=200 if is_ready else 503)

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Names teams and what they spend: from afar, it takes an admin key."""
        if request.client is None or not is_near(request.client.host):
            await require_admin(request)
        return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _redis_state(admission: LocalAdmissionStore) -> tuple[str, bool]:
    """What is the matter with Redis, and whether requests are admitted all the same."""
    try:
        if await admission.counters_whole():
            return "ok", True
        problem = "budget counters are being taken from the ledger"
    except StoreUnavailable as error:
        problem = error.message
    if not admission.serves_alone:
        return problem, False
    if admission.exhausted:
        return f"{problem}; what may be spent without it is used up", False
    return f"{problem}; serving within local allowances", True


def spool_state(waiting: int, writable: bool) -> str:
    """What is on disk of this process until Redis has booked it."""
    state = f"{waiting} requests wait for Redis" if waiting else "empty"
    return state if writable else f"{state}, and the disk takes no more"


class SqlCheck:
    """Whether the database answers: one question at a time, in a thread of its own, its answer shared for a while.

    Anyone may ask for readiness. However many do, and however long the database is silent, the threads
    that look up keys stay free.
    """

    def __init__(self, ping: Callable[[], None]) -> None:
        self._ping = ping
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parsimony-health")
        self._check: asyncio.Future[str] | None = None
        self._began_s = 0.0

    async def state(self) -> str:
        now_s = time.monotonic()
        if self._check is None or (self._check.done() and now_s - self._began_s > SQL_FRESH_SECONDS):
            self._began_s = now_s
            self._check = asyncio.get_running_loop().run_in_executor(self._executor, self._ask)
        left_s = self._began_s + SQL_TIMEOUT_SECONDS - now_s
        done, _ = await asyncio.wait([self._check], timeout=max(left_s, 0.0))
        if not done:
            return "does not answer in time"
        return self._check.result()

    def _ask(self) -> str:
        try:
            self._ping()
        except StoreUnavailable:  # logged where it was raised
            return "cannot be used"
        except Exception:  # the border of the check: whatever is wrong, the log has it and callers learn no more
            logger.exception("the database could not be asked")
            return "cannot be used"
        return "ok"


def is_near(host: str) -> bool:
    """Whether a peer's address is loopback, private or link-local."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in NEAR)
