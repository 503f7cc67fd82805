"""What the command line and the admin API do alike: budgets with their counters, and how entries are shown."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from policies.budget import Budget, BudgetState, SubjectKind
from policies.money import format_usd
from router.errors import StoreUnavailable
from router.stores.base import AdminStores, KeyInfo, TeamInfo, UnknownEntryError

logger = logging.getLogger(__name__)


def put_budget(
    stores: AdminStores, subject_kind: SubjectKind, subject_id: str, limit_nusd: int | None, timezone: str
) -> Budget | None:
    """Sets or removes a budget. What its subject has spent in this month already counts."""

    def seed(budget: Budget) -> None:
        try:
            stores.seed(budget)
        except redis.RedisError as error:
            # Before the first start of an embedded Redis there are no counters yet, nor anything spent.
            logger.warning("the counters are out of reach, so this budget counts from its first request: %s", error)

    return stores.directory.set_budget(subject_kind, subject_id, limit_nusd, timezone, seed)


def budget_states(stores: AdminStores, team_id: str | None, now: datetime) -> tuple[BudgetState, ...]:
    """Where every budget stands, or those of one team and its keys. Raises StoreUnavailable."""
    try:
        return tuple(stores.budgets.states(stores.directory.list_budgets(team_id), now))
    except redis.RedisError as error:
        raise StoreUnavailable(f"the budget counters are out of reach: {error}") from error


def team_of(stores: AdminStores, team_id: str) -> TeamInfo:
    """Raises UnknownEntryError."""
    for team in stores.directory.list_teams():
        if team.id == team_id:
            return team
    raise UnknownEntryError(f"there is no team {team_id!r}; `parsimony teams list` shows them")


def key_state(key: KeyInfo, now_ms: int) -> str:
    """In one word: active, ending (within the grace of a rotation), replaced, revoked or expired."""
    if key.active_at(now_ms):
        return "active" if key.replaced_by is None else "ending"
    if key.replaced_by is not None:
        return "replaced"
    return "revoked" if key.revoked_at_ms is not None else "expired"


# ---- as JSON values ------------------------------------------------------------------------------


def team_as_json(team: TeamInfo, budgets: Sequence[Budget]) -> dict[str, Any]:
    """A team with its own budget, if it has one."""
    own = [budget for budget in budgets if (budget.subject_kind, budget.subject_id) == ("team", team.id)]
    return {
        "id": team.id,
        "name": team.name,
        "created_at": as_iso(team.created_at_ms),
        "budget": budget_as_json(own[0]) if own else None,
    }


def budget_as_json(budget: Budget) -> dict[str, Any]:
    return {
        "id": budget.id,
        "subject_kind": budget.subject_kind,
        "subject_id": budget.subject_id,
        "window": budget.window,
        "timezone": budget.timezone,
        "limit_usd": format_usd(budget.limit_nusd),
        "limit_nusd": budget.limit_nusd,
    }


def budget_state_as_json(state: BudgetState) -> dict[str, Any]:
    """A budget and where it stands in its current window."""
    return budget_as_json(state.budget) | {
        "window_label": state.window_label,
        "spent_usd": format_usd(state.spent_nusd),
        "reserved_usd": format_usd(state.reserved_nusd),
        "available_usd": format_usd(state.available_nusd),
        "spent_nusd": state.spent_nusd,
        "reserved_nusd": state.reserved_nusd,
        "available_nusd": state.available_nusd,
    }


def key_as_json(key: KeyInfo, now_ms: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "team_id": key.team_id,
        "name": key.name,
        "role": key.role,
        "prefix": key.prefix,
        "state": key_state(key, now_ms),
        "allowed_models": None if key.allowed_models is None else sorted(key.allowed_models),
        "created_at": as_iso(key.created_at_ms),
        "revoked_at": as_iso(key.revoked_at_ms),
        "expires_at": as_iso(key.expires_at_ms),
        "replaced_by": key.replaced_by,
    }


def as_iso(instant_ms: int | None) -> str | None:
    if instant_ms is None:
        return None
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="milliseconds")
