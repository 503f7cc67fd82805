"""`SqlDirectory`: teams, their projects and keys, the budgets of all of them, and who changed what."""

from __future__ import annotations

import copy
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection
from typing import Any, Self

from sqlalchemy import Connection, Engine, exc, insert, select

from policies.budget import Budget, Source
from policies.spend import SHADOW_TAG
from router.clock import SYSTEM_CLOCK, Clock
from router.stores import sql_alerts, sql_audit, sql_budgets, sql_keys
from router.stores.base import (
    ENTRY_ID,
    MAX_TAGS,
    ROLES,
    AlertClaim,
    AuditEntry,
    DirectoryError,
    KeyInfo,
    Principal,
    ProjectInfo,
    Role,
    TeamInfo,
    UnknownEntryError,
    secret_sha256,
)
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import PROJECTS, TEAMS

SECRET_PREFIX = "sk-parsimony-"
SECRET_BYTES = 32
SYSTEM_ACTOR = "system"
MAX_AUDIT_ENTRIES = 1_000
_SHOWN_CHARACTERS = len(SECRET_PREFIX) + 4
_MAX_NAME = 200
_MAX_GRACE_SECONDS = 90 * 86_400

RandomBytes = Callable[[int], bytes]


class SqlDirectory:
    """`router.stores.base.Directory` in the tables of `sql_schema`."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock = SYSTEM_CLOCK,
        random_bytes: RandomBytes = secrets.token_bytes,
        actor: str = SYSTEM_ACTOR,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._random_bytes = random_bytes
        self._actor = actor

    # the record of changes

    def acting_as(self, actor: str) -> Self:
        other = copy.copy(self)
        other._actor = actor
        return other

    def audit(
        self, *, target: str | None = None, before_id: int | None = None, limit: int = 100
    ) -> tuple[AuditEntry, ...]:
        if not 0 < limit <= MAX_AUDIT_ENTRIES:
            raise DirectoryError(f"the limit is {limit}; allowed are 1 to {MAX_AUDIT_ENTRIES} entries at once")
        with reading(self._engine) as connection:
            return sql_audit.entries(connection, target, before_id, limit)

    def _record(
        self,
        connection: Connection,
        action: str,
        target: str,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        sql_audit.record(connection, AuditEntry(self._now_ms(), self._actor, action, target, before, after))

    # teams and projects

    def create_team(self, team_id: str, name: str | None = None) -> TeamInfo:
        _check_id("a team's id", team_id)
        team = TeamInfo(id=team_id, name=_checked_name(name or team_id), created_at_ms=self._now_ms())
        values = {"name": team.name, "created_at_ms": team.created_at_ms}
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(TEAMS).values(id=team.id, **values))
                self._record(connection, "team.create", f"team:{team.id}", after=values)
        except exc.IntegrityError:
            raise DirectoryError(f"there is a team {team_id!r} already") from None
        return team

    def list_teams(self) -> tuple[TeamInfo, ...]:
        with reading(self._engine) as connection:
            return tuple(TeamInfo(**row) for row in connection.execute(select(TEAMS).order_by(TEAMS.c.id)).mappings())

    def create_project(self, team_id: str, project_id: str, name: str | None = None) -> ProjectInfo:
        """Ids are unique across teams: a budget names its project by nothing else."""
        _check_id("a project's id", project_id)
        project = ProjectInfo(project_id, team_id, _checked_name(name or project_id), self._now_ms())
        values = {"team_id": team_id, "name": project.name, "created_at_ms": project.created_at_ms}
        try:
            with writing(self._engine) as connection:
                _check_team(connection, team_id)
                connection.execute(insert(PROJECTS).values(id=project_id, **values))
                self._record(connection, "project.create", f"project:{project_id}", after=values)
        except exc.IntegrityError:
            raise DirectoryError(f"there is a project {project_id!r} already") from None
        return project

    def list_projects(self, team_id: str | None = None) -> tuple[ProjectInfo, ...]:
        query = select(PROJECTS).order_by(PROJECTS.c.id)
        if team_id is not None:
            query = query.where(PROJECTS.c.team_id == team_id)
        with reading(self._engine) as connection:
            return tuple(ProjectInfo(**row) for row in connection.execute(query).mappings())

    # budgets

    def put_budget(self, budget: Budget, seed: Callable[[Budget], None] | None = None) -> Budget:
        with writing(self._engine) as connection:
            _check_subject(connection, budget)
            before, after = sql_budgets.put(connection, budget, seed)
            if before is None:
                self._record(connection, "budget.create", after.id, after=sql_budgets.as_json(after))
            elif before != after:
                as_json = sql_budgets.as_json
                self._record(connection, "budget.change", after.id, as_json(before), as_json(after))
            return after

    def remove_budget(self, budget_id: str, source: Source = "admin") -> Budget:
        with writing(self._engine) as connection:
            removed = sql_budgets.remove(connection, budget_id, source)
            self._record(connection, "budget.remove", budget_id, before=sql_budgets.as_json(removed))
            return removed

    def list_budgets(self, team_id: str | None = None) -> tuple[Budget, ...]:
        with reading(self._engine) as connection:
            return sql_budgets.listed(connection, team_id)

    def claim_alert(self, budget_id: str, window_label: str, share: str, end_user: str = "", event: str = "") -> bool:
        wanted = AlertClaim(budget_id, window_label, share, end_user, event)
        with writing(self._engine) as connection:
            return sql_alerts.claim(connection, wanted, self._now_ms())

    def confirm_alert(self, claim: AlertClaim) -> None:
        with writing(self._engine) as connection:
            sql_alerts.confirm(connection, claim)

    def take_over_alerts(self, claimed_before_ms: int, limit: int = 100) -> tuple[AlertClaim, ...]:
        with writing(self._engine) as connection:
            return sql_alerts.take_over(connection, claimed_before_ms, limit, self._now_ms())

    # keys

    def create_key(
        self,
        team_id: str,
        name: str,
        role: Role = "application",
        allowed_models: Collection[str] | None = None,
        *,
        project_id: str | None = None,
        trusted: bool = False,
        tags: Collection[str] = (),
    ) -> tuple[KeyInfo, str]:
        if role not in ROLES:
            raise DirectoryError(f"a key's role is {' or '.join(ROLES)}, not {role!r}")
        key, secret = self._new_key(
            team_id=team_id,
            name=_checked_name(name),
            role=role,
            allowed_models=_checked_models(allowed_models),
            project_id=project_id,
            trusted=trusted,
            tags=_checked_tags(tags),
        )
        with writing(self._engine) as connection:
            _check_team(connection, team_id)
            if project_id is not None and _team_of_project(connection, project_id) != team_id:
                raise DirectoryError(f"project {project_id!r} is not of team {team_id!r}")
            self._add_key(connection, key, secret)
        return key, secret

    def list_keys(self, team_id: str | None = None) -> tuple[KeyInfo, ...]:
        with reading(self._engine) as connection:
            return sql_keys.listed(connection, team_id)

    def revoke_key(self, key_id: str) -> KeyInfo:
        """Ends a key for good. Revoking it again changes nothing."""
        with writing(self._engine) as connection:
            before = sql_keys.existing(connection, key_id)
            if before.revoked_at_ms is not None:
                return before
            after = sql_keys.revoke(connection, before, self._now_ms())
            self._record(connection, "key.revoke", f"key:{key_id}", sql_keys.as_json(before), sql_keys.as_json(after))
            return after

    def rotate_key(self, key_id: str, grace_seconds: int = 0) -> tuple[KeyInfo, str]:
        if not 0 <= grace_seconds <= _MAX_GRACE_SECONDS:
            raise DirectoryError(f"the grace is {grace_seconds} s; allowed are 0 to {_MAX_GRACE_SECONDS} (90 days)")
        with writing(self._engine) as connection:
            old = sql_keys.existing(connection, key_id)
            if old.replaced_by is not None:
                raise DirectoryError(f"key {key_id!r} was replaced by {old.replaced_by!r} already: rotate that one")
            if not old.active_at(self._now_ms()):
                raise DirectoryError(f"key {key_id!r} is revoked or expired: create a new one instead")
            new, secret = self._new_key(
                team_id=old.team_id,
                name=old.name,
                role=old.role,
                allowed_models=old.allowed_models,
                project_id=old.project_id,
                trusted=old.trusted,
                tags=old.tags,
            )
            self._add_key(connection, new, secret)
            ended = sql_keys.replace_by(connection, old, new, self._now_ms(), grace_seconds)
            sql_budgets.hand_over(connection, old.id, new.id)
            self._record(connection, "key.rotate", f"key:{key_id}", sql_keys.as_json(old), sql_keys.as_json(ended))
            return new, secret

    def principal_by_hash(self, secret_sha256_hex: str) -> Principal | None:
        with reading(self._engine) as connection:
            key = sql_keys.by_hash(connection, secret_sha256_hex)
            if key is None or not key.active_at(self._now_ms()):
                return None
            return Principal(
                key_id=key.id,
                team_id=key.team_id,
                role=key.role,
                allowed_models=key.allowed_models,
                budgets=sql_budgets.that_may_apply(connection, key),
                expires_at_ms=key.expires_at_ms,
                project_id=key.project_id,
                trusted=key.trusted,
                tags=key.tags,
            )

    def _new_key(self, **rights: Any) -> tuple[KeyInfo, str]:
        secret = SECRET_PREFIX + urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).decode().rstrip("=")
        key_id = f"key_{self._random_bytes(8).hex()}"
        return KeyInfo(id=key_id, prefix=secret[:_SHOWN_CHARACTERS], created_at_ms=self._now_ms(), **rights), secret

    def _add_key(self, connection: Connection, key: KeyInfo, secret: str) -> None:
        sql_keys.add(connection, key, secret_sha256(secret))
        self._record(connection, "key.create", f"key:{key.id}", after=sql_keys.as_json(key))

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)


def _check_team(connection: Connection, team_id: str) -> None:
    if connection.execute(select(TEAMS.c.id).where(TEAMS.c.id == team_id)).first() is None:
        raise UnknownEntryError(f"there is no team {team_id!r}; `parsimony teams list` shows them")


def _team_of_project(connection: Connection, project_id: str) -> str:
    found = connection.execute(select(PROJECTS.c.team_id).where(PROJECTS.c.id == project_id)).scalar()
    if found is None:
        raise UnknownEntryError(f"there is no project {project_id!r}")
    return str(found)


def _check_subject(connection: Connection, budget: Budget) -> None:
    """There must be one of that name, or a slip of the pen would limit nobody."""
    kind, subject_id = budget.subject_kind, budget.subject_id
    if kind == "team":
        _check_team(connection, subject_id)
    elif kind == "user":
        _check_team(connection, subject_id.partition("/")[0])
    elif kind == "project":
        _team_of_project(connection, subject_id)
    elif kind == "key":
        key = sql_keys.existing(connection, subject_id)
        if key.replaced_by is not None:
            raise DirectoryError(f"key {subject_id!r} was replaced by {key.replaced_by!r}, which has its budgets now")
    elif kind == "tag" and not (subject_id == SHADOW_TAG and budget.source == "config"):
        _check_id("a tag", subject_id)


def _check_id(what: str, found: str) -> None:
    if not ENTRY_ID.fullmatch(found):
        raise DirectoryError(
            f"{found!r} cannot be {what}: write 1 to 63 lower-case letters, digits, '-' or '_', a letter or digit first"
        )


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or len(stripped) > _MAX_NAME or not stripped.isprintable():
        raise DirectoryError(f"a name has 1 to {_MAX_NAME} printable characters, not {name[:_MAX_NAME]!r}")
    return stripped


def _checked_models(models: Collection[str] | None) -> frozenset[str] | None:
    if models is None:
        return None
    if not models or not all(isinstance(model, str) and model.strip() for model in models):
        raise DirectoryError("allowed models: name at least one model, or leave them out to allow all")
    return frozenset(models)


def _checked_tags(tags: Collection[str]) -> tuple[str, ...]:
    for tag in tags:
        _check_id("a tag", tag)
    if len(set(tags)) > MAX_TAGS:
        raise DirectoryError(f"a key has at most {MAX_TAGS} tags, not {len(set(tags))}")
    return tuple(sorted(set(tags)))
