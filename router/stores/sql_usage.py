"""What counts against a budget, by the sums of the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, and_, func, literal, or_, select, true
from sqlalchemy.sql.elements import ColumnElement

from policies.budget import Budget
from router.stores.cells import HOUR_MS
from router.stores.sql_budgets import of_kind
from router.stores.sql_facts import Facts, facts
from router.stores.sql_schema import BUDGETS, KEYS


def usage(
    connection: Connection, budget: Budget, from_ms: int, to_ms: int, bucket_ms: int | None
) -> dict[tuple[str, int], int]:
    """As `router.stores.base.Ledger.usage` says."""
    if budget.unit == "parallel":
        return {}  # only what is under way counts, and that is in no ledger yet
    whole_hours = bucket_ms is None or bucket_ms % HOUR_MS == 0
    by_hours = whole_hours and budget.subject_kind not in ("user", "tag")
    used: dict[tuple[str, int], int] = defaultdict(int)
    for part in facts(from_ms, to_ms, by_hours=by_hours):
        who = part.column("end_user") if budget.is_of_every_user else literal("")
        bucket = literal(0) if bucket_ms is None else part.bucket(bucket_ms)
        query = (
            select(who.label("who"), bucket.label("bucket"), _amount(part, budget))
            .select_from(part.source)
            .where(*part.within, *_counted(part, budget), _of_subject(part, budget), *_of_deployments(part, budget))
            .group_by("who", "bucket")
        )
        for user, at, sum_ in connection.execute(query):
            used[user, int(at)] += int(sum_)
    return {key: sum_ for key, sum_ in used.items() if sum_}


def _amount(part: Facts, budget: Budget) -> ColumnElement[int]:
    if budget.unit == "tokens":
        return func.sum(part.column("input_tokens") + part.column("output_tokens"))
    return part.total("cost_nusd" if budget.unit == "usd" else "request_count")


def _counted(part: Facts, budget: Budget) -> Iterator[ColumnElement[bool]]:
    if budget.unit == "tokens":
        yield part.column("cache") != "hit"
    if budget.unit == "requests":
        yield part.column("reason").not_in(("refused", "cache"))


def _of_subject(part: Facts, budget: Budget) -> ColumnElement[bool]:
    """What measures requests (shadows, judges) is no use of theirs: it counts for the organisation, and by its tag."""
    kind, subject = budget.subject_kind, budget.subject_id
    if kind == "organization":
        return true()
    if kind == "tag":
        # LIKE would ignore case on SQLite, and take `_` for any character.
        return func.replace(part.column("tags"), f",{subject},", "") != part.column("tags")
    return and_(part.column("kind") == "request", _of_spender(part, budget))


def _of_spender(part: Facts, budget: Budget) -> ColumnElement[bool]:
    kind, subject = budget.subject_kind, budget.subject_id
    if kind == "team":
        return part.column("team_id") == subject
    if kind == "project":
        return part.column("project_id") == subject
    if kind == "key":
        replaced = select(KEYS.c.id).where(KEYS.c.replaced_by == subject)
        return or_(part.column("key_id") == subject, part.column("key_id").in_(replaced))
    team, _, user = subject.partition("/")
    end_user = part.column("end_user")
    named = _has_none_of_their_own(end_user, budget, team) if budget.is_of_every_user else end_user == user
    return and_(part.column("team_id") == team, end_user != "", named)


def _has_none_of_their_own(end_user: ColumnElement[Any], budget: Budget, team_id: str) -> ColumnElement[bool]:
    """Whether a record's end user is one whom this budget of every user limits.

    A user may be called `*`: everybody's is nobody's own.
    """
    their_own = select(BUDGETS.c.id).where(
        BUDGETS.c.subject_kind == "user",
        BUDGETS.c.subject_id != budget.subject_id,
        BUDGETS.c.subject_id == literal(f"{team_id}/") + end_user,
        of_kind(budget),
    )
    return ~their_own.exists()


def _of_deployments(part: Facts, budget: Budget) -> Iterator[ColumnElement[bool]]:
    if budget.model is not None:
        yield part.column("deployment") == budget.model
    if budget.tier is not None:
        yield part.column("deployment_tier") == budget.tier
