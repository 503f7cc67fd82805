"""Whose a change is, and how those of one team are found among everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from router.stores.administration import audit_of_team, unix_ms
from router.stores.base import AuditEntry, Directory, KeyInfo, ProjectInfo

NOW_MS = 1_900_000_000_000
"""Of all changes: many may be made at once."""


class Log:
    """The record of changes, newest first, of a directory in which `support` has a project and a key."""

    def __init__(self, entries: Sequence[AuditEntry]) -> None:
        self.entries = entries
        self.pages = 0

    def audit(
        self, *, target: str | None = None, before_id: int | None = None, limit: int = 100
    ) -> tuple[AuditEntry, ...]:
        self.pages += 1
        found = [
            entry
            for entry in self.entries
            if entry.target.startswith(target or "") and (before_id is None or entry.id < before_id)
        ]
        return tuple(found[:limit])

    def list_projects(self, team_id: str | None = None) -> tuple[ProjectInfo, ...]:
        return (ProjectInfo("chat", "support", "Chat", 0),) if team_id == "support" else ()

    def list_keys(self, team_id: str | None = None) -> tuple[KeyInfo, ...]:
        return (KeyInfo("key_1", "support", "k", "application", "sk", 0),) if team_id == "support" else ()


def entry(target: str, number: int = 5, **values: Any) -> AuditEntry:
    return AuditEntry(NOW_MS, "cli:wei", "budget.change", target, None, values, id=number)


def of_support(log: Log, target: str | None = None, before: int | None = None, limit: int = 100) -> list[str]:
    found = audit_of_team(cast(Directory, log), "support", target, before, limit)
    return [one.target for one in found]


@pytest.mark.parametrize(
    ("change", "is_ours"),
    [
        (entry("team:support", name="Support"), True),
        (entry("team:support-2", name="Other"), False),
        (entry("key:key_9", team_id="support"), True),
        (entry("key:key_9", team_id="sales"), False),
        (entry("project:batch", team_id="support"), True),
        (entry("team:support:month", subject_kind="team", subject_id="support"), True),
        (entry("team:sales:month", subject_kind="team", subject_id="sales"), False),
        (entry("project:chat:month", subject_kind="project", subject_id="chat"), True),
        (entry("project:x:month", subject_kind="project", subject_id="x"), False),
        (entry("key:key_1:month", subject_kind="key", subject_id="key_1"), True),
        (entry("key:key_2:month", subject_kind="key", subject_id="key_2"), False),
        (entry("user:support/*:day", subject_kind="user", subject_id="support/*"), True),
        (entry("user:support-2/ann:day", subject_kind="user", subject_id="support-2/ann"), False),
        (entry("tag:support:month", subject_kind="tag", subject_id="support"), False),
        (entry("organization:default:month", subject_kind="organization", subject_id="default"), False),
    ],
)
def test_a_change_is_a_teams_or_it_is_not(change: AuditEntry, is_ours: bool) -> None:
    assert bool(of_support(Log([change]))) is is_ours


def test_what_was_removed_is_known_by_what_it_was() -> None:
    values = {"subject_kind": "user", "subject_id": "support/ann"}
    removed = AuditEntry(NOW_MS, "config", "budget.remove", "user:support/ann:day", values, None)
    assert of_support(Log([removed])) == ["user:support/ann:day"]


def test_a_teams_changes_are_found_behind_thousands_of_others() -> None:
    others = [entry("key:key_9", number, team_id="sales") for number in range(5_000, 2_000, -1)]
    log = Log([*others, *[entry(f"key:k{number}", number, team_id="support") for number in (3, 2, 1)]])
    assert of_support(log) == ["key:k3", "key:k2", "key:k1"]
    assert of_support(log, limit=2) == ["key:k3", "key:k2"]
    assert of_support(log, before=2) == ["key:k1"]
    assert of_support(log, target="key:k2") == ["key:k2"]


def test_no_more_pages_are_read_than_are_needed() -> None:
    log = Log([entry("key:k", number, team_id="support") for number in range(5_000, 0, -1)])
    assert len(of_support(log, limit=10)) == 10
    assert log.pages == 1


def test_instants_are_whole_milliseconds_exactly() -> None:
    assert unix_ms(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1_999)) == 1
    assert unix_ms(datetime(9998, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == 253_370_764_799_999
