"""Which requests a response cache would have answered, by the log's own times, and which rows stand there twice: in
constant memory."""

from __future__ import annotations

import array

import numpy as np
from numpy.typing import NDArray

from router.replay.verdicts import Integers

SLOTS = 1 << 20
"""Requests that are remembered: one a slot, chosen by its digest. A newer one displaces an older in the same slot, so
that repeats are missed, never invented. 16 bytes each: 16 MiB, from the beginning on."""


class Repeats:
    """A table of digests and the times when their answers were stored."""

    def __init__(self, ttl_seconds: int, slots: int = SLOTS) -> None:
        self._ttl_seconds = ttl_seconds
        self._digests = array.array("Q", bytes(8 * slots))
        self._stored_s = array.array("q", bytes(8 * slots))

    def hits(self, digests: NDArray[np.uint64], at_s: Integers) -> NDArray[np.bool_]:
        """Which of these rows, in their order, repeat one that was stored within the time to live.

        A log may run backwards: then the later request comes first, and it is the earlier that counts as the repeat.
        A hit does not renew what is stored, as in the server.
        """
        known, stored, ttl = self._digests, self._stored_s, self._ttl_seconds
        slots = len(known)
        found = np.zeros(len(digests), np.bool_)
        for row, (digest, now) in enumerate(zip(digests.tolist(), at_s.tolist(), strict=True)):
            if not digest:
                continue
            slot = digest % slots
            if known[slot] == digest and abs(now - stored[slot]) <= ttl:
                found[row] = True
            else:
                known[slot], stored[slot] = digest, now
        return found

    def state(self) -> dict[str, NDArray[np.int64]]:
        """Arrays for a checkpoint; only the slots in use."""
        digests = np.frombuffer(self._digests, np.uint64)
        used = np.flatnonzero(digests)
        return {
            "repeat_slots": used.astype(np.int64),
            "repeat_digests": digests[used].view(np.int64),
            "repeat_stored_s": np.frombuffer(self._stored_s, np.int64)[used],
        }

    def restore(self, state: dict[str, NDArray[np.int64]]) -> None:
        slots = state["repeat_slots"]
        np.frombuffer(self._digests, np.uint64)[slots] = state["repeat_digests"].view(np.uint64)
        np.frombuffer(self._stored_s, np.int64)[slots] = state["repeat_stored_s"]


IDENTITIES = 1 << 22
"""Rows whose names are remembered, likewise: 8 bytes each, 32 MiB as they fill."""


class Identities:
    """A table of the rows that were seen. A row that stands in a log twice would count as a repeat, which is free."""

    def __init__(self, slots: int = IDENTITIES) -> None:
        self._seen = np.zeros(slots, np.int64)

    def duplicates(self, identities: Integers) -> NDArray[np.bool_]:
        """Which of these rows, in their order, were seen before. 0 is no row's."""
        found = np.zeros(len(identities), np.bool_)
        for row, (identity, slot) in enumerate(
            zip(identities.tolist(), (identities % len(self._seen)).tolist(), strict=True)
        ):
            if identity:
                found[row] = self._seen[slot] == identity
                self._seen[slot] = identity
        return found

    def state(self) -> dict[str, Integers]:
        used = np.flatnonzero(self._seen)
        return {"identity_slots": used, "identities": self._seen[used]}

    def restore(self, state: dict[str, Integers]) -> None:
        self._seen[state["identity_slots"]] = state["identities"]
