"""What the stores promise: who a key stands for, and what was spent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from policies.budget import Budget, BudgetState, SubjectKind
from policies.spend import SpendRecord

Role = Literal["application", "admin"]
ROLES: tuple[Role, ...] = ("application", "admin")


class DirectoryError(ValueError):
    """A team, key or budget cannot be as asked; `str(error)` is one sentence for whoever asked."""


class UnknownEntryError(DirectoryError):
    """There is no team or key of that name."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who presents a key: all that serving a request needs to know about it.

    `budgets` are the team's and the key's. `allowed_models` None means every model. From
    `expires_at_ms` (Unix milliseconds) on the key is no longer valid: whoever caches a principal
    must look.
    """

    key_id: str
    team_id: str
    role: Role
    allowed_models: frozenset[str] | None
    budgets: tuple[Budget, ...]
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TeamInfo:
    """A team: whoever shares a budget and a bill."""

    id: str
    name: str
    created_at_ms: int


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

    def active_at(self, now_ms: int) -> bool:
        return self.revoked_at_ms is None and (self.expires_at_ms is None or now_ms < self.expires_at_ms)


@dataclass(frozen=True, slots=True)
class SpendGroup:
    """The sum of all records that agree in the named columns."""

    team_id: str
    alias: str
    deployment: str | None
    request_model: str | None
    reason: str
    cache: str
    status: str
    usage_source: str
    baseline_model: str
    simulated: bool
    request_count: int
    input_tokens: int
    output_tokens: int
    cost_nusd: int
    baseline_cost_nusd: int


class Ledger(Protocol):
    """The append-only account of every request. All methods raise StoreUnavailable."""

    def append(self, records: Sequence[SpendRecord]) -> int:
        """Books `records`; returns how many were new. A known `request_id` changes nothing.

        Raises LedgerRefused where the store will never take one of them; then it took none.
        """
        ...

    def get(self, request_id: str) -> SpendRecord | None: ...

    def spend_groups(self, from_ms: int, to_ms: int, team_id: str | None = None) -> tuple[SpendGroup, ...]:
        """Sums over the requests that started in [from_ms, to_ms)."""
        ...

    def spent_by_subject(self, from_ms: int, to_ms: int) -> dict[tuple[SubjectKind, str], int]:
        """Nano-USD spent in [from_ms, to_ms) by each team and each key that spent anything.

        What a replaced key spent counts for the key that stands in for it, as its budget does.
        """
        ...


class LedgerRefused(ValueError):
    """The store will never take this batch, however often it is offered."""


class Directory(Protocol):
    """Teams, their keys and their budgets. Methods raise DirectoryError and StoreUnavailable."""

    def create_team(self, team_id: str, name: str | None = None) -> TeamInfo: ...

    def list_teams(self) -> tuple[TeamInfo, ...]: ...

    def set_budget(
        self,
        subject_kind: SubjectKind,
        subject_id: str,
        limit_nusd: int | None,
        timezone: str = "UTC",
        seed: Callable[[Budget], None] | None = None,
    ) -> Budget | None:
        """Sets the monthly budget of a team or key, or with None removes it.

        `seed` is called with the budget before it takes effect, to start its counter at what was
        spent already; where it raises, nothing changes.
        """
        ...

    def list_budgets(self, team_id: str | None = None) -> tuple[Budget, ...]:
        """Every budget, or those of one team and of its keys."""
        ...

    def create_key(
        self,
        team_id: str,
        name: str,
        role: Role = "application",
        allowed_models: Collection[str] | None = None,
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

    def states(self, budgets: Sequence[Budget], now: datetime) -> Sequence[BudgetState]: ...


class AdminStores(Protocol):
    """What administration works on."""

    @property
    def directory(self) -> Directory: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def budgets(self) -> BudgetCounters: ...

    @property
    def baseline_deployments(self) -> Collection[str]:
        """The deployments of the baseline's model."""
        ...

    def seed(self, budget: Budget) -> None:
        """Starts a budget's counter at what its subject has spent in this window already."""
        ...


def secret_sha256(secret: str | bytes) -> str:
    """What is stored of a secret. Presenting the hash does not help: it would be hashed again."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()
