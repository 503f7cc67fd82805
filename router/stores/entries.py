"""How teams, projects, keys, budgets and changes are shown as JSON, by the command line and the admin API alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from policies.budget import Budget, BudgetState
from policies.budget_terms import format_share
from policies.money import format_usd
from router.stores.base import AuditEntry, KeyInfo, ProjectInfo, TeamInfo


def team_as_json(team: TeamInfo, budgets: Sequence[Budget]) -> dict[str, Any]:
    """A team with its own monthly budget of money, if it has one."""
    return {
        "id": team.id,
        "name": team.name,
        "created_at": as_iso(team.created_at_ms),
        "budget": next((budget_as_json(budget) for budget in budgets if _is_plain_budget_of(team, budget)), None),
    }


def _is_plain_budget_of(team: TeamInfo, budget: Budget) -> bool:
    """The one that `parsimony teams set-budget` sets."""
    identity = (budget.subject_kind, budget.subject_id, budget.unit, budget.window, budget.model, budget.tier)
    return identity == ("team", team.id, "usd", "month", None, None)


def project_as_json(project: ProjectInfo) -> dict[str, Any]:
    return {
        "id": project.id,
        "team_id": project.team_id,
        "name": project.name,
        "created_at": as_iso(project.created_at_ms),
    }


def budget_as_json(budget: Budget) -> dict[str, Any]:
    """Its limit is in `limit_usd` and `limit_nusd` where it limits money, else in `limit`."""
    return {
        "id": budget.id,
        "subject_kind": budget.subject_kind,
        "subject_id": budget.subject_id,
        "unit": budget.unit,
        "window": budget.window,
        "timezone": budget.timezone,
        "model": budget.model,
        "tier": budget.tier,
        **amount_as_json(budget, "limit", budget.limit),
        "action": budget.action,
        "downgrade_from": None if budget.downgrade_from is None else format_share(budget.downgrade_from),
        "downgrade_to": budget.downgrade_to,
        "alert_at": [format_share(share) for share in budget.alert_shares],
        "paced": budget.paced,
        "when_unavailable": budget.when_unavailable,
        "source": budget.source,
    }


def amount_as_json(budget: Budget, name: str, amount: int) -> dict[str, Any]:
    """Money twice, as exact decimal dollars and as nano-USD; anything else as the count it is."""
    if budget.unit != "usd":
        return {name: amount}
    return {f"{name}_usd": format_usd(amount), f"{name}_nusd": amount}


def budget_state_as_json(state: BudgetState) -> dict[str, Any]:
    """A budget and where it stands in its current window. `share` is what is spent or held, of the limit."""
    budget = state.budget
    used = state.spent + state.reserved
    return budget_as_json(budget) | {
        "window_label": state.window_label,
        **({"end_user": state.end_user} if budget.is_of_every_user else {}),
        **amount_as_json(budget, "spent", state.spent),
        **amount_as_json(budget, "reserved", state.reserved),
        **amount_as_json(budget, "available", state.available),
        "share": round(used / budget.limit, 4) if budget.limit else 1.0,
    }


def key_as_json(key: KeyInfo, now_ms: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "team_id": key.team_id,
        "project_id": key.project_id,
        "name": key.name,
        "role": key.role,
        "trusted": key.trusted,
        "tags": sorted(key.tags),
        "prefix": key.prefix,
        "state": key_state(key, now_ms),
        "allowed_models": None if key.allowed_models is None else sorted(key.allowed_models),
        "created_at": as_iso(key.created_at_ms),
        "revoked_at": as_iso(key.revoked_at_ms),
        "expires_at": as_iso(key.expires_at_ms),
        "replaced_by": key.replaced_by,
    }


def key_state(key: KeyInfo, now_ms: int) -> str:
    """In one word: active, ending (within the grace of a rotation), replaced, revoked or expired."""
    if key.active_at(now_ms):
        return "active" if key.replaced_by is None else "ending"
    if key.replaced_by is not None:
        return "replaced"
    return "revoked" if key.revoked_at_ms is not None else "expired"


def audit_entry_as_json(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": as_iso(entry.at_ms),
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
    }


def as_iso(instant_ms: int | None) -> str | None:
    if instant_ms is None:
        return None
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat(timespec="milliseconds")
