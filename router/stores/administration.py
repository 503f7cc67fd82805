"""What the command line, the admin API and the start of a server do alike to budgets, and how they look entries up."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Protocol, Self, TypedDict

import redis

from classifiers.base import Tier
from policies.budget import Action, Budget, BudgetState, Source, SubjectKind, Unit, WhenUnavailable
from policies.periods import Period
from router.errors import ConfigError, StoreUnavailable
from router.stores.base import (
    AdminStores,
    AuditEntry,
    Directory,
    DirectoryError,
    KeyInfo,
    Ledger,
    TeamInfo,
    UnknownEntryError,
)
from router.stores.counters import window_of

logger = logging.getLogger(__name__)

CONFIG_ACTOR = "config"
MAX_USERS_SHOWN = 1_000
_AUDIT_PAGE = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ActingStores(AdminStores, Protocol):
    """Stores whose changes can be recorded as somebody's."""

    def acting_as(self, actor: str) -> Self: ...


class Terms(TypedDict, total=False):
    """What can be changed about a budget besides its limit; what is not given stays as it is."""

    timezone: str
    action: Action
    downgrade_from: Fraction | None
    downgrade_to: Tier
    alert_shares: tuple[Fraction, ...]
    paced: bool
    when_unavailable: WhenUnavailable | None


# ---- changes -------------------------------------------------------------------------------------


def set_budget(
    stores: AdminStores,
    subject_kind: SubjectKind,
    subject_id: str,
    limit: int,
    *,
    unit: Unit = "usd",
    window: str = "month",
    model: str | None = None,
    tier: Tier | None = None,
    terms: Terms,
) -> Budget:
    """Sets the limit and `terms` of the budget of that subject, unit, window, model and tier; makes it where it is new.

    What was used in its current window already counts. Raises DirectoryError.
    """
    try:
        budget = Budget(
            subject_kind=subject_kind,
            subject_id=subject_id,
            limit=limit,
            unit=unit,
            window=window,
            model=model,
            tier=tier,
        )
        there = [other for other in stores.directory.list_budgets() if other.identity == budget.identity]
        return put_budget(stores, replace(there[0] if there else budget, limit=limit, source="admin", **terms))
    except ValueError as error:
        if isinstance(error, DirectoryError):
            raise
        raise DirectoryError(str(error)) from error


def put_budget(stores: AdminStores, budget: Budget) -> Budget:
    """As Directory.put_budget, counting what was used in the current window already."""
    return stores.directory.put_budget(budget, partial(_seed, stores))


def remove_budget(stores: AdminStores, budget_id: str, source: Source = "admin") -> Budget:
    """As Directory.remove_budget. An end user then falls under the budget of every user with all they have used."""
    removed = stores.directory.remove_budget(budget_id, source)
    if removed.subject_kind == "user":
        for other in stores.directory.list_budgets(removed.subject_id.partition("/")[0]):
            if other.is_of_every_user and other.kind == removed.kind:
                _seed(stores, other)
    return removed


def _seed(stores: AdminStores, budget: Budget) -> None:
    try:
        stores.seed(budget)
    except redis.RedisError as error:
        # Before the first start of an embedded Redis there are no counters yet, nor anything spent.
        logger.warning("the counters are out of reach, so this budget counts from its first request: %s", error)


def remove_monthly(stores: AdminStores, subject_kind: SubjectKind, subject_id: str) -> None:
    """Takes away the budget of dollars a month, where there is one. Raises UnknownEntryError without such a subject."""
    wanted = (subject_kind, subject_id, "usd", "month", None, None)
    for budget in stores.directory.list_budgets():
        if budget.identity == wanted:
            remove_budget(stores, budget.id)
            return
    if subject_kind == "team":
        team_of(stores, subject_id)
    else:
        key_of(stores, subject_id)


def sync_declared(stores: ActingStores, budgets: Sequence[Budget]) -> None:
    """Sets the budgets that the configuration declares, and removes those that it no longer does.

    Raises ConfigError that names the budget where one cannot be: its team, project or key must be there.
    """
    acting = stores.acting_as(CONFIG_ACTOR)
    # A key's budget goes over to the one that replaces it; the file may still name the old one.
    successors = {key.id: key.replaced_by for key in acting.directory.list_keys() if key.replaced_by is not None}
    kept = set()
    for at, declared in enumerate(budgets):
        subject_id = declared.subject_id
        if declared.subject_kind == "key":
            subject_id = successors.get(subject_id, subject_id)
        try:
            kept.add(put_budget(acting, replace(declared, subject_id=subject_id)).id)
        except DirectoryError as error:
            raise ConfigError(
                f"budgets.declared.{at} ({declared.id}): {error}; what it limits is made first, which takes no server"
            ) from error
    for budget in acting.directory.list_budgets():
        if budget.source == "config" and budget.id not in kept:
            remove_budget(acting, budget.id, "config")


# ---- looking up ----------------------------------------------------------------------------------


def budget_states(stores: AdminStores, team_id: str | None, now: datetime) -> tuple[BudgetState, ...]:
    """Where every budget stands, or those of one team, its projects, keys and users. Raises StoreUnavailable."""
    return states_of(stores, stores.directory.list_budgets(team_id), now)


def states_of(stores: AdminStores, budgets: Sequence[Budget], now: datetime) -> tuple[BudgetState, ...]:
    """One state a budget: of one of every user, that of the user who has used most. Raises StoreUnavailable."""
    heaviest = {budget.id: _users_of(stores, budget, now)[:1] for budget in budgets if budget.is_of_every_user}
    found = {state.budget.id: state for state in _states(stores, budgets, now, heaviest)}
    return tuple(found.get(b.id) or BudgetState(b, window_of(b, now).label, 0, 0) for b in budgets)


def user_states(stores: AdminStores, budget: Budget, now: datetime) -> tuple[BudgetState, ...]:
    """Where a budget of every user stands for each who used any of it in this window, the heaviest first.

    At most MAX_USERS_SHOWN. Whoever has just begun may be missing: the ledger says who there is. Raises
    StoreUnavailable, and DirectoryError for any other budget.
    """
    if not budget.is_of_every_user:
        raise DirectoryError(f"budget {budget.id!r} is not one of every user of a team, so it has no users to list")
    users = _users_of(stores, budget, now)[:MAX_USERS_SHOWN]
    return tuple(_states(stores, [budget], now, {budget.id: users}))


def used_in(ledger: Ledger, budget: Budget, period: Period) -> dict[str, int]:
    """What was used of `budget` in `period`, by the ledger: by end user for a budget of every user, else under ""."""
    used = ledger.usage(budget, unix_ms(period.start), unix_ms(period.end))
    return {user: amount for (user, _), amount in used.items()}


def unix_ms(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _users_of(stores: AdminStores, budget: Budget, now: datetime) -> list[str]:
    used = used_in(stores.ledger, budget, window_of(budget, now))
    return sorted(used, key=lambda user: (-used[user], user))


def _states(
    stores: AdminStores, budgets: Sequence[Budget], now: datetime, users: Mapping[str, Sequence[str]]
) -> Sequence[BudgetState]:
    try:
        return stores.budgets.states(budgets, now, users)
    except redis.RedisError as error:
        raise StoreUnavailable(f"the budget counters are out of reach: {error}") from error


def budget_of(stores: AdminStores, budget_id: str, team_id: str | None = None) -> Budget:
    """The budget of that id, if it is `team_id`'s where that is given. Raises UnknownEntryError."""
    for budget in stores.directory.list_budgets(team_id):
        if budget.id == budget_id:
            return budget
    raise UnknownEntryError(f"there is no budget {budget_id!r}; `parsimony budgets list` shows them")


def key_of(stores: AdminStores, key_id: str, team_id: str | None = None) -> KeyInfo:
    """The key of that id, if it is `team_id`'s where that is given. Raises UnknownEntryError."""
    for key in stores.directory.list_keys(team_id):
        if key.id == key_id:
            return key
    raise UnknownEntryError(f"there is no key {key_id!r}; `parsimony keys list` shows them")


def team_of(stores: AdminStores, team_id: str) -> TeamInfo:
    """Raises UnknownEntryError."""
    for team in stores.directory.list_teams():
        if team.id == team_id:
            return team
    raise unknown_team(team_id)


def unknown_team(team_id: str) -> UnknownEntryError:
    return UnknownEntryError(f"there is no team {team_id!r}; `parsimony teams list` shows them")


# ---- the log of changes --------------------------------------------------------------------------


def audit_of_budget(directory: Directory, budget: Budget) -> tuple[AuditEntry, ...]:
    """The last changes of one budget, the newest first."""
    found = directory.audit(target=budget.id, limit=_AUDIT_PAGE)
    return tuple(entry for entry in found if entry.target == budget.id)


def audit_of_team(
    directory: Directory, team_id: str, target: str | None, before_id: int | None, limit: int
) -> tuple[AuditEntry, ...]:
    """As Directory.audit, of one team: its own changes and those of its projects, keys, users and their budgets."""
    subjects = {project.id for project in directory.list_projects(team_id)}
    subjects |= {key.id for key in directory.list_keys(team_id)}
    found: list[AuditEntry] = []
    while len(found) < limit:
        page = directory.audit(target=target, before_id=before_id, limit=_AUDIT_PAGE)
        found += [entry for entry in page if _concerns(entry, team_id, subjects)]
        if len(page) < _AUDIT_PAGE:
            break
        before_id = page[-1].id
    return tuple(found[:limit])


def _concerns(entry: AuditEntry, team_id: str, subjects: Collection[str]) -> bool:
    """Whether a change is of a team, or of its projects, keys or users; `subjects` are its projects' and keys' ids."""
    values = entry.after or entry.before or {}
    subject_id = str(values.get("subject_id"))
    match values.get("subject_kind"):
        case None:  # a team, a project or a key
            return entry.target == f"team:{team_id}" or values.get("team_id") == team_id
        case "team":
            return subject_id == team_id
        case "user":
            return subject_id.partition("/")[0] == team_id
        case "project" | "key":
            return subject_id in subjects
    return False
