"""The names of Redis keys. All share one hash tag, so that every script stays in one cluster slot."""

from __future__ import annotations

PREFIX = "{parsimony}:"

COUNTERS_WHOLE = PREFIX + "counters-whole"
"""Present while the budget counters hold everything spent; absent in a Redis that lost its data."""

SPEND_STREAM = PREFIX + "spend"
WORKERS = PREFIX + "workers"


def cache_entry(digest: str) -> str:
    return f"{PREFIX}cache:{digest}"


def pending(worker_id: str) -> str:
    """Hash of the requests that `worker_id` has admitted and not yet settled."""
    return f"{PREFIX}pending:{worker_id}"


def lease(worker_id: str) -> str:
    """Expires unless `worker_id` renews it: its absence means that the worker died."""
    return f"{PREFIX}lease:{worker_id}"


def budget_counter(budget_id: str, window_label: str) -> str:
    return f"{PREFIX}budget:{budget_id}:{window_label}"
