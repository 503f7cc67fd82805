"""What `serve` does to the stores before requests come in."""

from __future__ import annotations

from collections.abc import Callable

import redis

from router.bootstrap import admin_services, rebuild_counters
from router.clock import SYSTEM_CLOCK
from router.config import Config
from router.errors import StoreUnavailable
from router.services import AdminServices
from router.stores.administration import sync_declared
from router.stores.sql_engine import migrate

FIRST_TEAM = "default"


def prepare(settings: Config, announce: Callable[[str], None]) -> None:
    """Brings the stores up to date; on the first start makes an admin key, and announces its secret.

    The counters come last: until they are whole, no worker calls itself ready. Raises StoreUnavailable.
    """
    admin = admin_services(settings)
    try:
        migrate(admin.engine)
        secret = _first_key(admin)
        if secret is not None:
            announce(secret)
        _count(admin)
        sync_declared(admin, settings.declared_budgets())
    except redis.RedisError as error:
        raise StoreUnavailable(f"Redis cannot be used: {error}") from error
    finally:
        admin.engine.dispose()


def _count(admin: AdminServices) -> None:
    """Budgets may have been set, and an embedded Redis may have lost its data, while nothing was running.

    A Redis that others use as well is left to the writer, which gives them time to hold again what they held.
    """
    if admin.budgets.whole():
        for budget in admin.directory.list_budgets():
            admin.seed(budget)
    elif admin.config.redis.url is None:
        rebuild_counters(admin, SYSTEM_CLOCK.now())


def _first_key(admin: AdminServices) -> str | None:
    """The secret of the first admin key; None where keys exist already."""
    if admin.directory.list_keys():
        return None
    if not admin.directory.list_teams():
        admin.directory.create_team(FIRST_TEAM)
    team = admin.directory.list_teams()[0]
    _, secret = admin.directory.create_key(team.id, "first admin key", "admin")
    return secret
