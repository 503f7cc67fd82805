"""What a judge found in one block: columns of whole numbers, and what could not be read. No text is among them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.replay.rows import BadKind
from router.replay.sources import Position

Integers = NDArray[np.int64]
Bits = NDArray[np.bool_]

GROUPS = 1_024
"""Rows are put into so many groups, which the bootstrap draws from: all that begins alike is in one."""


@dataclass(frozen=True, slots=True)
class BadLine:
    line: int
    kind: BadKind
    sentence: str


COUNTED, UNDATED, PRICED, UNROUTABLE = 1, 2, 4, 8
"""Flags of rows, in the words of `Counts`."""


@dataclass(slots=True)
class Counts:
    """Of rows: `unanswered` were no answered calls; `counted` had their tokens counted here; of `undated` ones the
    prices of today were taken; `priced` ones had their cost reckoned, since the log says none."""

    unanswered: int = 0
    counted: int = 0
    undated: int = 0
    priced: int = 0
    without_text: int = 0
    unroutable: int = 0


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Columns of the rows that were judged, then of those that stay as they were. Amounts are nano-USD.

    The last axis of `choices`, `cost`, `open_cost` and `loss_ppm` is for the tiers that a setting may find, simple to
    complex: which deployment would answer, at what price, how much of that hangs on the length of its answer, and how
    probable it is that the answer falls short, in millionths. `digest` is 0 where no cache would keep the answer.
    `marks` are the columns of `Marks`.
    """

    next: Position
    read_bytes: int
    group: Integers
    digest: NDArray[np.uint64]
    at_s: Integers
    score: NDArray[np.float64]
    choices: Integers
    cost: Integers
    open_cost: Integers
    loss_ppm: Integers
    paid: Integers
    baseline: Integers
    open_baseline: Integers
    marks: Integers
    kept_group: Integers
    kept_paid: Integers
    kept_marks: Integers
    unanswered: int
    bad: tuple[BadLine, ...]

    def counts(self) -> Counts:
        flags = np.concatenate([self.marks, self.kept_marks])[:, 2]
        counted, undated, priced, unroutable = (
            int(np.count_nonzero(flags & flag)) for flag in (COUNTED, UNDATED, PRICED, UNROUTABLE)
        )
        return Counts(self.unanswered, counted, undated, priced, len(self.kept_paid) - unroutable, unroutable)

    def without(self, judged: Bits, kept: Bits) -> Verdicts:
        """All but these rows."""
        of_judged = {name: getattr(self, name)[~judged] for name in _OF_JUDGED}
        of_kept = {name: getattr(self, name)[~kept] for name in _OF_KEPT}
        return replace(self, **of_judged, **of_kept)


_OF_JUDGED = ("group", "digest", "at_s", "score", "choices", "cost", "open_cost", "loss_ppm", "paid", "baseline",
              "open_baseline", "marks")  # fmt: skip
_OF_KEPT = ("kept_group", "kept_paid", "kept_marks")


class Marks(NamedTuple):
    """Of a row: a digest of what the log calls it, 0 where it has no name; its line; its flags."""

    identity: int
    line: int
    flags: int


class TierOutcome(NamedTuple):
    """Of one request in one tier: the index of the deployment, then as the columns of `Verdicts`."""

    choice: int
    cost: int
    open_cost: int
    loss_ppm: int


@dataclass(slots=True)
class Columns:
    """Verdicts in the making: one tuple a row."""

    judged: list[tuple[int, int, int, float, int, int, int]] = field(default_factory=list)
    tiers: list[tuple[TierOutcome, ...]] = field(default_factory=list)
    marks: list[Marks] = field(default_factory=list)
    kept: list[tuple[int, int]] = field(default_factory=list)
    kept_marks: list[Marks] = field(default_factory=list)
    unanswered: int = 0
    bad: list[BadLine] = field(default_factory=list)

    def verdicts(self, following: Position, read_bytes: int) -> Verdicts:
        group, digest, at_s, score, paid, baseline, open_baseline = (
            zip(*self.judged, strict=True) if self.judged else ((),) * 7
        )
        tiers = np.array(self.tiers, np.int64).reshape(len(self.tiers), 3, 4)
        kept = np.array(self.kept, np.int64).reshape(len(self.kept), 2)
        return Verdicts(
            next=following,
            read_bytes=read_bytes,
            group=np.array(group, np.int64),
            digest=np.array(digest, np.uint64),
            at_s=np.array(at_s, np.int64),
            score=np.array(score, np.float64),
            choices=tiers[:, :, 0],
            cost=tiers[:, :, 1],
            open_cost=tiers[:, :, 2],
            loss_ppm=tiers[:, :, 3],
            paid=np.array(paid, np.int64),
            baseline=np.array(baseline, np.int64),
            open_baseline=np.array(open_baseline, np.int64),
            marks=_marks(self.marks),
            kept_group=kept[:, 0],
            kept_paid=kept[:, 1],
            kept_marks=_marks(self.kept_marks),
            unanswered=self.unanswered,
            bad=tuple(self.bad),
        )


def _marks(rows: list[Marks]) -> Integers:
    return np.array(rows, np.int64).reshape(len(rows), 3)
