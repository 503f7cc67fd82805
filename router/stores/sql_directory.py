"""`SqlDirectory`: teams, their keys and their budgets."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from sqlalchemy import Connection, Engine, and_, delete, exc, insert, or_, select, update

from policies.budget import Budget, SubjectKind
from policies.money import MAX_NUSD, format_usd
from router.clock import SYSTEM_CLOCK, Clock
from router.stores.base import (
    ROLES,
    DirectoryError,
    KeyInfo,
    Principal,
    Role,
    TeamInfo,
    UnknownEntryError,
    secret_sha256,
)
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import BUDGETS, KEYS, TEAMS

SECRET_PREFIX = "sk-parsimony-"
SECRET_BYTES = 32
_SHOWN_CHARACTERS = len(SECRET_PREFIX) + 4
_TEAM_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_NAME = 200
_MAX_GRACE_SECONDS = 90 * 86_400

RandomBytes = Callable[[int], bytes]


class SqlDirectory:
    """`router.stores.base.Directory` in the tables of `sql_schema`."""

    def __init__(
        self, engine: Engine, clock: Clock = SYSTEM_CLOCK, random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._random_bytes = random_bytes

    # teams

    def create_team(self, team_id: str, name: str | None = None) -> TeamInfo:
        if not _TEAM_ID.fullmatch(team_id):
            raise DirectoryError(
                f"{team_id!r} cannot be a team's id: write 1 to 63 lower-case letters, digits, '-' or '_', "
                "a letter or digit first"
            )
        team = TeamInfo(id=team_id, name=_checked_name(name or team_id), created_at_ms=self._now_ms())
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(TEAMS).values(id=team.id, name=team.name, created_at_ms=team.created_at_ms))
        except exc.IntegrityError:
            raise DirectoryError(f"there is a team {team_id!r} already") from None
        return team

    def list_teams(self) -> tuple[TeamInfo, ...]:
        with reading(self._engine) as connection:
            return tuple(TeamInfo(**row) for row in connection.execute(select(TEAMS).order_by(TEAMS.c.id)).mappings())

    # budgets

    def set_budget(
        self,
        subject_kind: SubjectKind,
        subject_id: str,
        limit_nusd: int | None,
        timezone: str = "UTC",
        seed: Callable[[Budget], None] | None = None,
    ) -> Budget | None:
        _check_budget(subject_kind, limit_nusd, timezone)
        with writing(self._engine) as connection:
            _check_subject(connection, subject_kind, subject_id)
            found = connection.execute(select(BUDGETS).where(_of_subject(subject_kind, subject_id))).mappings().first()
            if limit_nusd is None:
                connection.execute(delete(BUDGETS).where(_of_subject(subject_kind, subject_id)))
                return None
            # The id outlives a rotation and a change of the limit: what was spent is counted under it.
            budget_id = found["id"] if found else f"{subject_kind}:{subject_id}:month"
            budget = Budget(budget_id, subject_kind, subject_id, limit_nusd, "month", timezone)
            if seed is not None:
                seed(budget)
            _put_budget(connection, budget, new=found is None)
            return budget

    def list_budgets(self, team_id: str | None = None) -> tuple[Budget, ...]:
        query = select(BUDGETS).order_by(BUDGETS.c.subject_kind.desc(), BUDGETS.c.subject_id)
        if team_id is not None:
            keys = select(KEYS.c.id).where(KEYS.c.team_id == team_id)
            query = query.where(
                or_(
                    and_(BUDGETS.c.subject_kind == "team", BUDGETS.c.subject_id == team_id),
                    and_(BUDGETS.c.subject_kind == "key", BUDGETS.c.subject_id.in_(keys)),
                )
            )
        with reading(self._engine) as connection:
            return tuple(Budget(**row) for row in connection.execute(query).mappings())

    # keys

    def create_key(
        self,
        team_id: str,
        name: str,
        role: Role = "application",
        allowed_models: Collection[str] | None = None,
    ) -> tuple[KeyInfo, str]:
        if role not in ROLES:
            raise DirectoryError(f"a key's role is {' or '.join(ROLES)}, not {role!r}")
        models = _checked_models(allowed_models)
        with writing(self._engine) as connection:
            _check_subject(connection, "team", team_id)
            return self._insert_key(connection, team_id, _checked_name(name), role, models)

    def list_keys(self, team_id: str | None = None) -> tuple[KeyInfo, ...]:
        query = select(KEYS).order_by(KEYS.c.created_at_ms, KEYS.c.id)
        if team_id is not None:
            query = query.where(KEYS.c.team_id == team_id)
        with reading(self._engine) as connection:
            return tuple(_key_info(row) for row in connection.execute(query).mappings())

    def revoke_key(self, key_id: str) -> KeyInfo:
        """Ends a key for good. Revoking it again changes nothing."""
        with writing(self._engine) as connection:
            key = _existing_key(connection, key_id)
            if key.revoked_at_ms is None:
                connection.execute(update(KEYS).where(KEYS.c.id == key_id).values(revoked_at_ms=self._now_ms()))
            return _existing_key(connection, key_id)

    def rotate_key(self, key_id: str, grace_seconds: int = 0) -> tuple[KeyInfo, str]:
        if not 0 <= grace_seconds <= _MAX_GRACE_SECONDS:
            raise DirectoryError(f"the grace is {grace_seconds} s; allowed are 0 to {_MAX_GRACE_SECONDS} (90 days)")
        with writing(self._engine) as connection:
            old = _existing_key(connection, key_id)
            if old.replaced_by is not None:
                raise DirectoryError(f"key {key_id!r} was replaced by {old.replaced_by!r} already: rotate that one")
            if not old.active_at(self._now_ms()):
                raise DirectoryError(f"key {key_id!r} is revoked or expired: create a new one instead")
            new, secret = self._insert_key(connection, old.team_id, old.name, old.role, old.allowed_models)
            _hand_over(connection, old, new, self._now_ms(), grace_seconds)
            return new, secret

    def principal_by_hash(self, secret_sha256_hex: str) -> Principal | None:
        with reading(self._engine) as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.secret_sha256 == secret_sha256_hex)).mappings().first()
            if row is None:
                return None
            key = _key_info(row)
            if not key.active_at(self._now_ms()):
                return None
            return Principal(
                key_id=key.id,
                team_id=key.team_id,
                role=key.role,
                allowed_models=key.allowed_models,
                budgets=_budgets_of(connection, key),
                expires_at_ms=key.expires_at_ms,
            )

    def _insert_key(
        self, connection: Connection, team_id: str, name: str, role: Role, models: frozenset[str] | None
    ) -> tuple[KeyInfo, str]:
        secret = SECRET_PREFIX + urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).decode().rstrip("=")
        key = KeyInfo(
            id=f"key_{self._random_bytes(8).hex()}",
            team_id=team_id,
            name=name,
            role=role,
            prefix=secret[:_SHOWN_CHARACTERS],
            created_at_ms=self._now_ms(),
            allowed_models=models,
        )
        connection.execute(
            insert(KEYS).values(
                id=key.id,
                team_id=key.team_id,
                name=key.name,
                role=key.role,
                secret_sha256=secret_sha256(secret),
                prefix=key.prefix,
                created_at_ms=key.created_at_ms,
                allowed_models=None if models is None else orjson.dumps(sorted(models)).decode(),
            )
        )
        return key, secret

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)


def _key_info(row: Any) -> KeyInfo:
    values = {name: value for name, value in row.items() if name != "secret_sha256"}
    models = values["allowed_models"]
    return KeyInfo(**{**values, "allowed_models": None if models is None else frozenset(orjson.loads(models))})


def _existing_key(connection: Connection, key_id: str) -> KeyInfo:
    row = connection.execute(select(KEYS).where(KEYS.c.id == key_id).with_for_update()).mappings().first()
    if row is None:
        raise UnknownEntryError(f"there is no key {key_id!r}; `parsimony keys list` shows them")
    return _key_info(row)


def _hand_over(connection: Connection, old: KeyInfo, new: KeyInfo, now_ms: int, grace_seconds: int) -> None:
    """Ends `old` and lets `new` stand in for it, and for all that `old` stood in for, budget included."""
    ending: dict[str, int] = {"revoked_at_ms": now_ms}
    if grace_seconds:
        ending = {"expires_at_ms": min(now_ms + grace_seconds * 1000, old.expires_at_ms or 2**63 - 1)}
    connection.execute(update(KEYS).where(KEYS.c.id == old.id).values(**ending))
    connection.execute(
        update(KEYS).where(or_(KEYS.c.id == old.id, KEYS.c.replaced_by == old.id)).values(replaced_by=new.id)
    )
    connection.execute(update(BUDGETS).where(_of_subject("key", old.id)).values(subject_id=new.id))


def _of_subject(kind: SubjectKind, subject_id: str) -> Any:
    return and_(BUDGETS.c.subject_kind == kind, BUDGETS.c.subject_id == subject_id)


def _budgets_of(connection: Connection, key: KeyInfo) -> tuple[Budget, ...]:
    """The team's first, then the key's; a replaced key draws on the budget of the one that replaced it."""
    query = (
        select(BUDGETS)
        .where(or_(_of_subject("team", key.team_id), _of_subject("key", key.replaced_by or key.id)))
        .order_by(BUDGETS.c.subject_kind.desc())
    )
    return tuple(Budget(**row) for row in connection.execute(query).mappings())


def _put_budget(connection: Connection, budget: Budget, new: bool) -> None:
    if not new:
        changes = {"limit_nusd": budget.limit_nusd, "timezone": budget.timezone}
        connection.execute(update(BUDGETS).where(BUDGETS.c.id == budget.id).values(changes))
        return
    connection.execute(
        insert(BUDGETS).values(
            id=budget.id,
            subject_kind=budget.subject_kind,
            subject_id=budget.subject_id,
            window=budget.window,
            limit_nusd=budget.limit_nusd,
            timezone=budget.timezone,
        )
    )


def _check_subject(connection: Connection, kind: SubjectKind, subject_id: str) -> None:
    if kind == "team":
        # Locked, so that on PostgreSQL two changes of one team's budget take their turns.
        found = connection.execute(select(TEAMS.c.id).where(TEAMS.c.id == subject_id).with_for_update()).first()
        if found is None:
            raise UnknownEntryError(f"there is no team {subject_id!r}; `parsimony teams list` shows them")
        return
    key = _existing_key(connection, subject_id)
    if key.replaced_by is not None:
        raise DirectoryError(f"key {subject_id!r} was replaced by {key.replaced_by!r}, which has its budget now")


def _check_budget(kind: SubjectKind, limit_nusd: int | None, timezone: str) -> None:
    if kind not in ("team", "key"):
        raise DirectoryError(f"a budget is a team's or a key's, not a {kind!r}'s")
    if limit_nusd is not None and type(limit_nusd) is not int:
        raise DirectoryError(f"a budget is a whole number of nano-USD, not {limit_nusd!r}")
    if limit_nusd is not None and not 0 <= limit_nusd <= MAX_NUSD:
        raise DirectoryError(f"a budget lies between 0 and {format_usd(MAX_NUSD)} USD, not {format_usd(limit_nusd)}")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DirectoryError(f"{timezone!r} is no time zone, such as UTC or Asia/Shanghai") from None


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
