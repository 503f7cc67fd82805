"""Budgets as rows: how they are stored, found and changed, each within the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import orjson
from sqlalchemy import Connection, Select, and_, delete, func, insert, or_, select, text, true, update
from sqlalchemy.sql.elements import ColumnElement

from policies.budget import SUBJECT_KINDS, Budget, Source, SubjectKind
from router.stores.base import DirectoryError, KeyInfo, UnknownEntryError
from router.stores.sql_schema import BUDGETS, KEYS, PROJECTS


def put(connection: Connection, asked: Budget, seed: Callable[[Budget], None] | None) -> tuple[Budget | None, Budget]:
    """The budget as it was, if there was one, and as it is now. Where nothing changes, nothing is done."""
    _take_turns(connection)
    found = _one(connection, and_(_of(asked.subject_kind, asked.subject_id), of_kind(asked)))
    if found is not None and found.source == "config" and asked.source != "config":
        raise _declared_in_configuration(found)
    # The id outlives rotations and changes of the limit: what was used is counted under it. A new one names itself.
    budget = replace(asked, id="" if found is None else found.id)
    if budget == found:
        return found, budget
    if seed is not None:
        seed(budget)
    if found is None:
        connection.execute(insert(BUDGETS).values(_row(budget)))
    else:
        connection.execute(update(BUDGETS).where(BUDGETS.c.id == budget.id).values(_row(budget)))
    return found, budget


def remove(connection: Connection, removed_id: str, source: Source) -> Budget:
    _take_turns(connection)
    found = _one(connection, BUDGETS.c.id == removed_id)
    if found is None:
        raise UnknownEntryError(f"there is no budget {removed_id!r}; `parsimony budgets list` shows them")
    if found.source == "config" and source != "config":
        raise _declared_in_configuration(found)
    connection.execute(delete(BUDGETS).where(BUDGETS.c.id == removed_id))
    return found


def listed(connection: Connection, team_id: str | None) -> tuple[Budget, ...]:
    if team_id is None:
        return _all(connection, select(BUDGETS))
    keys = select(KEYS.c.id).where(KEYS.c.team_id == team_id)
    projects = select(PROJECTS.c.id).where(PROJECTS.c.team_id == team_id)
    of_team = or_(
        _of("team", team_id),
        and_(BUDGETS.c.subject_kind == "project", BUDGETS.c.subject_id.in_(projects)),
        and_(BUDGETS.c.subject_kind == "key", BUDGETS.c.subject_id.in_(keys)),
        _of_users(team_id),
    )
    return _all(connection, select(BUDGETS).where(of_team))


def that_may_apply(connection: Connection, key: KeyInfo) -> tuple[Budget, ...]:
    """Every budget that a request with `key` may draw on; a replaced key's are those of the key that replaced it."""
    may_apply = [
        BUDGETS.c.subject_kind == "organization",
        _of("team", key.team_id),
        _of("key", key.replaced_by or key.id),
        _of_users(key.team_id),
    ]
    if key.project_id is not None:
        may_apply.append(_of("project", key.project_id))
    if key.trusted or key.tags:
        # A trusted key's requests bring tags of their own.
        its_tags = true() if key.trusted else BUDGETS.c.subject_id.in_(key.tags)
        may_apply.append(and_(BUDGETS.c.subject_kind == "tag", its_tags))
    return _all(connection, select(BUDGETS).where(or_(*may_apply)))


def hand_over(connection: Connection, old_key_id: str, new_key_id: str) -> None:
    connection.execute(update(BUDGETS).where(_of("key", old_key_id)).values(subject_id=new_key_id))


def as_json(budget: Budget) -> dict[str, Any]:
    """For the record of changes: the fields, fractions as text."""
    return asdict(budget) | {
        "downgrade_from": None if budget.downgrade_from is None else str(budget.downgrade_from),
        "alert_shares": [str(share) for share in budget.alert_shares],
    }


def _take_turns(connection: Connection) -> None:
    """No two changes of budgets at once. SQLite has one writer anyway; readers do not wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE budgets IN SHARE ROW EXCLUSIVE MODE"))


def _declared_in_configuration(budget: Budget) -> DirectoryError:
    return DirectoryError(f"budget {budget.id!r} is declared in the configuration: change it there")


def of_kind(budget: Budget) -> ColumnElement[bool]:
    """`Budget.kind`, as a condition on rows."""
    return and_(
        BUDGETS.c.unit == budget.unit,
        BUDGETS.c.window == budget.window,
        BUDGETS.c.model == (budget.model or ""),
        BUDGETS.c.tier == (budget.tier or ""),
    )


def _of(kind: SubjectKind, subject_id: str) -> ColumnElement[bool]:
    return and_(BUDGETS.c.subject_kind == kind, BUDGETS.c.subject_id == subject_id)


def _of_users(team_id: str) -> ColumnElement[bool]:
    prefix = f"{team_id}/"
    return and_(BUDGETS.c.subject_kind == "user", func.substr(BUDGETS.c.subject_id, 1, len(prefix)) == prefix)


def _one(connection: Connection, condition: ColumnElement[bool]) -> Budget | None:
    row = connection.execute(select(BUDGETS).where(condition)).mappings().one_or_none()
    return None if row is None else _budget(row)


def _all(connection: Connection, query: Select[Any]) -> tuple[Budget, ...]:
    """From the organisation's down to those of tags."""
    budgets = (_budget(row) for row in connection.execute(query).mappings())
    return tuple(sorted(budgets, key=lambda b: (SUBJECT_KINDS.index(b.subject_kind), b.subject_id, b.id)))


def _budget(row: Any) -> Budget:
    values = dict(row)
    share = values["downgrade_from"]
    return Budget(
        **values
        | {
            "model": values["model"] or None,
            "tier": values["tier"] or None,
            "downgrade_from": None if share is None else Fraction(share),
            "alert_shares": tuple(map(Fraction, orjson.loads(values["alert_shares"]))),
        }
    )


def _row(budget: Budget) -> dict[str, Any]:
    values = as_json(budget)
    return values | {
        "model": budget.model or "",  # no NULL, of which a unique constraint would take any number
        "tier": budget.tier or "",
        "alert_shares": orjson.dumps(values["alert_shares"]).decode(),
    }
