"""The names of Redis keys. All share one hash tag, so that every script stays in one cluster slot."""

from __future__ import annotations

import hashlib

PREFIX = "{parsimony}:"

COUNTERS_WHOLE = PREFIX + "counters-whole"
"""Present while the budget counters hold everything spent; absent in a Redis that lost its data.

Its value is the epoch: another one after each time that the counters were taken from the ledger."""

RECOUNT = PREFIX + "recount"
"""Whose turn it is to take the counters from the ledger; a settlement that the ledger may lack takes it away."""

SPEND_STREAM = PREFIX + "spend"
WORKERS = PREFIX + "workers"


def cache_entry(digest: str) -> str:
    return f"{PREFIX}cache:{digest}"


def pending(worker_id: str) -> str:
    """Hash of the requests that `worker_id` has admitted and not yet settled."""
    return f"{PREFIX}pending:{worker_id}"


def unreadable(worker_id: str) -> str:
    """Hash of what `worker_id` left pending and nobody can read: another version's, for people to look at."""
    return f"{PREFIX}unreadable:{worker_id}"


def lease(worker_id: str) -> str:
    """Expires unless `worker_id` renews it: its absence means that the worker died."""
    return f"{PREFIX}lease:{worker_id}"


def abandoned(request_id: str) -> str:
    """What was booked for a request whose worker died, in case that the truth arrives after all."""
    return f"{PREFIX}abandoned:{request_id}"


def booked(request_id: str) -> str:
    """Present once a request that no reservation is left of has been booked."""
    return f"{PREFIX}booked:{request_id}"


def budget_counter(budget_id: str, window_label: str, end_user: str | None = None) -> str:
    """`end_user` None: the counter is not of one user among many. Users name themselves: their names are hashed."""
    key = f"{PREFIX}budget:{budget_id}:{window_label}"
    return key if end_user is None else f"{key}:{hashlib.sha256(end_user.encode()).hexdigest()[:32]}"
