"""What the stores promise: who a key stands for, and what was spent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, Self

from policies.budget import Budget, BudgetState, Source
from policies.spend import SpendRecord
from router.stores.cells import Books

Role = Literal["application", "viewer", "manager", "admin"]
ROLES: tuple[Role, ...] = ("application", "viewer", "manager", "admin")
"""What a key may do: ask models; also read its own team's accounts; also run its own team; run everything."""


ENTRY_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What a team's and a project's id and a tag match."""
MAX_TAGS = 16
"""Of a key; a request of a trusted one may add as many."""


class DirectoryError(ValueError):
    """A team, project, key or budget cannot be as asked; `str(error)` is one sentence for whoever asked."""


class UnknownEntryError(DirectoryError):
    """There is no team, project, key or budget of that name."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who presents a key: all that serving a request needs to know about it.

    `budgets` are all that may apply: the organisation's, the team's, the project's, the key's, those of the team's
    end users and those of tags. A `trusted` key may name the end user and add tags to its own `tags`.
    `allowed_models` None means every model. From `expires_at_ms` (Unix milliseconds) on the key is no longer valid:
    whoever caches a principal must look.
    """

    key_id: str
    team_id: str
    role: Role
    allowed_models: frozenset[str] | None
    budgets: tuple[Budget, ...]
    expires_at_ms: int | None = None
    project_id: str | None = None
    trusted: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeamInfo:
    """A team: whoever shares a budget and a bill."""

    id: str
    name: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A part of a team's work with budgets of its own; keys belong to at most one."""

    id: str
    team_id: str
    name: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: who (`key:<id>`, `cli:<login>`, `config`), when, what (`budget.change`), to which entry, and
    its JSON values before and after; None where there was, or is, nothing. Ids grow; 0 until it is recorded."""

    at_ms: int
    actor: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    id: int = 0


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as it may be shown: `prefix` is the beginning of the secret, `replaced_by` a key's id."""

    id: str
    team_id: str
    name: str
    role: Role
    prefix: str
    created_at_ms: int
    revoked_at_ms: int | None = None
    replaced_by: str | None = None
    allowed_models: frozenset[str] | None = None
    expires_at_ms: int | None = None
    project_id: str | None = None
    trusted: bool = False
    tags: tuple[str, ...] = ()

    def active_at(self, now_ms: int) -> bool:
        return self.revoked_at_ms is None and (self.expires_at_ms is None or now_ms < self.expires_at_ms)


class Ledger(Protocol):
    """The append-only account of every request. All methods raise StoreUnavailable."""

    def append(self, records: Sequence[SpendRecord]) -> int:
        """Books `records`; returns how many were new or corrected.

        A known record changes nothing, unless what was booked is `abandoned` and this is the truth: then it takes the
        place of what was booked, whose cost it keeps as `abandoned_nusd`. A record is known by its `request_id` and
        the time it started at, which it has whenever it comes again.

        Raises LedgerRefused where the store will never take one of them; then it took none.
        """
        ...

    def get(self, request_id: str) -> SpendRecord | None: ...

    def records(self, from_ms: int, to_ms: int, at_once: int = 5_000) -> Iterator[list[SpendRecord]]:
        """The records that started in [from_ms, to_ms), oldest first, so many at a time.

        Each part is as the ledger was when it was read. What was let go (retention) does not come back.
        """
        ...

    def usage(
        self, budget: Budget, from_ms: int, to_ms: int, bucket_ms: int | None = None
    ) -> dict[tuple[str, int], int]:
        """What counts against `budget` of the requests that started in [from_ms, to_ms), in its unit.

        A budget of every user leaves out those who have one of their own of its kind.

        Keyed by (end user, bucket): the user where it is a budget of every user, else ""; the number of the
        part of `bucket_ms` since 1970 where that is given, else 0. Tokens and requests that the cache answered
        do not count, nor do refused requests. What a replaced key used counts for the key that stands in for it.
        Of requests at once nothing counts: they are held and given back, and are in no ledger while they last.
        """
        ...


class LedgerRefused(ValueError):
    """The store will never take this batch, however often it is offered."""


class UnreadableRecord(ValueError):
    """A record was changed by hand, and is none any more."""


@dataclass(frozen=True, slots=True)
class AlteredText:
    """What records share, and is no longer what it was when it was stored: the digest of its `values` is another."""

    place: str
    found: str
    expected: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AlertClaim:
    """The right, and the duty, to tell people that a share of a budget was reached in a window.

    `event` is the JSON text of what to tell, so that another process can tell it.
    """

    budget_id: str
    window_label: str
    share: str
    end_user: str
    event: str


class AlertBook(Protocol):
    """Who has told people what. Raises StoreUnavailable."""

    def claim_alert(self, budget_id: str, window_label: str, share: str, end_user: str = "", event: str = "") -> bool:
        """True for the first who asks in this window, whatever process that is: it tells people.

        Without an `event` there is nothing to confirm or to take over.
        """
        ...

    def confirm_alert(self, claim: AlertClaim) -> None:
        """People were told, or nobody could be reached however often it was tried: nobody takes the claim over."""
        ...

    def take_over_alerts(self, claimed_before_ms: int, limit: int = 100) -> tuple[AlertClaim, ...]:
        """Claims made before then and never confirmed, oldest first, now the caller's as if made just now.

        Of several who ask, each claim goes to one.
        """
        ...


class Directory(AlertBook, Protocol):
    """Teams, projects, keys and budgets. Methods raise DirectoryError and StoreUnavailable.

    Every change is recorded with its actor, in the same transaction.
    """

    def acting_as(self, actor: str) -> Self:
        """The same directory, whose changes are recorded as those of `actor`."""
        ...

    def create_team(self, team_id: str, name: str | None = None) -> TeamInfo: ...

    def list_teams(self) -> tuple[TeamInfo, ...]: ...

    def create_project(self, team_id: str, project_id: str, name: str | None = None) -> ProjectInfo: ...

    def list_projects(self, team_id: str | None = None) -> tuple[ProjectInfo, ...]: ...

    def put_budget(self, budget: Budget, seed: Callable[[Budget], None] | None = None) -> Budget:
        """Sets the budget of that subject, unit, window, model and tier; returns it with the id it has.

        `seed` is called with the budget before it takes effect, to start its counter at what was
        used already; where it raises, nothing changes. A budget declared in the configuration can be changed
        by the configuration only.
        """
        ...

    def remove_budget(self, budget_id: str, source: Source = "admin") -> Budget:
        """Returns what it was."""
        ...

    def list_budgets(self, team_id: str | None = None) -> tuple[Budget, ...]:
        """Every budget, or those of one team, its projects, keys and users."""
        ...

    def audit(
        self, *, target: str | None = None, before_id: int | None = None, limit: int = 100
    ) -> tuple[AuditEntry, ...]:
        """The changes, newest first; those of entries whose name begins with `target`, where that is given, and those
        that are older than the one with that id."""
        ...

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
        """A new key and its secret, which is not kept and cannot be shown again."""
        ...

    def list_keys(self, team_id: str | None = None) -> tuple[KeyInfo, ...]: ...

    def revoke_key(self, key_id: str) -> KeyInfo: ...

    def rotate_key(self, key_id: str, grace_seconds: int = 0) -> tuple[KeyInfo, str]:
        """A new key of the same team, rights and budget, and its secret.

        The old one stops at once, or `grace_seconds` from now.
        """
        ...

    def principal_by_hash(self, secret_sha256_hex: str) -> Principal | None:
        """Whoever holds the secret with this hash, or None where it is unknown, revoked or expired."""
        ...


class BudgetCounters(Protocol):
    """Where budgets stand; kept in Redis. Raises StoreUnavailable or redis.RedisError."""

    def states(
        self, budgets: Sequence[Budget], now: datetime, users: Mapping[str, Collection[str]] | None = None
    ) -> Sequence[BudgetState]:
        """A budget of every user has a state for each of those that `users` names under its id."""
        ...


class AdminStores(Protocol):
    """What administration works on."""

    @property
    def directory(self) -> Directory: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def books(self) -> Books: ...

    @property
    def budgets(self) -> BudgetCounters: ...

    @property
    def baseline_deployments(self) -> Collection[str]:
        """The deployments of the baseline's model."""
        ...

    def seed(self, budget: Budget) -> bool:
        """Starts a budget's counters at what its subject has used in this window already. False: try again."""
        ...


def secret_sha256(secret: str | bytes) -> str:
    """What is stored of a secret. Presenting the hash does not help: it would be hashed again."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()
