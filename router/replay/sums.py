"""Verdicts -> sums, in the order of the log: all that a forecast needs, whatever the number of rows.

Everything is a whole number: nano-USD, millionths, counts. They are added as 64-bit integers, which cannot
overflow: no row costs more than `MAX_COST_NUSD`, and a log whose amounts come to `MOST_NUSD` is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np
from numpy.typing import NDArray

from router.replay.plan import Plan, Setting
from router.replay.repeats import Identities, Repeats
from router.replay.rows import BAD_KINDS, BadKind
from router.replay.sources import LogError, Position
from router.replay.verdicts import GROUPS, BadLine, Counts, Integers, Verdicts

MOST_NUSD = 1 << 58
"""About 288 million dollars. A bootstrap draws no group more than 15 times, so that its sums stay below 2**62."""
BINS = 1_001
"""Of scores, each a thousandth wide, as thresholds are; the last holds the score 1 alone."""
SHOWN_OF_EACH_KIND = 3
_DUPLICATE = "stands in the logs before, with the same id, time, model, tokens and cost"

_EDGES = np.arange(1, BINS) / (BINS - 1)
_SIMPLE, _COMPLEX = 0, 2
_BASE = ("judged", "paid", "baseline", "open_baseline", "kept", "kept_paid", "repeats")
_CURVE = ("cost", "loss_ppm")


class Sums:
    """By group and setting; and by score, for the curve. `files` are names for bad rows."""

    def __init__(self, plan: Plan) -> None:
        self._settings: tuple[Setting, ...] = plan.settings
        self._deployments = len(plan.candidates)
        shape = (len(plan.settings), GROUPS, self._deployments)
        self.requests = np.zeros(shape, np.int64)
        self.cost = np.zeros(shape, np.int64)
        self.open_cost = np.zeros(shape, np.int64)
        self.loss_ppm = np.zeros(shape[:2], np.int64)
        self.base = {name: np.zeros(GROUPS, np.int64) for name in _BASE}
        self.curve = {(name, tier): np.zeros(BINS, np.int64) for name in _CURVE for tier in (_SIMPLE, _COMPLEX)}
        self.counts = Counts()
        self.bad: Counter[BadKind] = Counter()
        self.shown_bad: list[tuple[int, BadLine]] = []
        self.position = Position()
        self._most = 0
        self._repeats = Repeats(plan.cache.ttl_seconds)
        self._identities = Identities()

    def add(self, verdicts: Verdicts) -> tuple[BadLine, ...]:
        """The next block's; its bad rows, those among them that stand in the log twice.

        Raises LogError where the sums would grow too large.
        """
        verdicts, bad = self._once(verdicts)
        self._check_size(verdicts)
        hit = self._repeats.hits(verdicts.digest, verdicts.at_s)
        for index, setting in enumerate(self._settings):
            self._add_setting(index, setting, verdicts, hit)
        self._add_curve(verdicts, hit)
        amounts: dict[str, Integers | int] = {"judged": 1, "paid": verdicts.paid, "baseline": verdicts.baseline}
        amounts |= {"open_baseline": verdicts.open_baseline, "repeats": hit.astype(np.int64)}
        for name, values in amounts.items():
            np.add.at(self.base[name], verdicts.group, values)
        np.add.at(self.base["kept"], verdicts.kept_group, 1)
        np.add.at(self.base["kept_paid"], verdicts.kept_group, verdicts.kept_paid)
        self._count(verdicts.counts(), bad, verdicts.next.file)
        self.position = verdicts.next
        return bad

    def _once(self, verdicts: Verdicts) -> tuple[Verdicts, tuple[BadLine, ...]]:
        """Without the rows that were there before, which are bad ones."""
        judged, kept = (self._identities.duplicates(marks[:, 0]) for marks in (verdicts.marks, verdicts.kept_marks))
        lines = [*verdicts.marks[judged, 1].tolist(), *verdicts.kept_marks[kept, 1].tolist()]
        if not lines:
            return verdicts, verdicts.bad
        bad = (*verdicts.bad, *[BadLine(line, "duplicate row", _DUPLICATE) for line in lines])
        return verdicts.without(judged, kept), tuple(sorted(bad, key=lambda each: each.line))

    def _add_setting(self, index: int, setting: Setting, verdicts: Verdicts, hit: NDArray[np.bool_]) -> None:
        tier = (verdicts.score >= setting.moderate_from).astype(np.int64) + (verdicts.score >= setting.complex_from)
        row = np.arange(len(tier))
        np.add.at(self.loss_ppm[index], verdicts.group, verdicts.loss_ppm[row, tier])
        sent, tier, group = row[~hit], tier[~hit], verdicts.group[~hit]
        cell = group * self._deployments + verdicts.choices[sent, tier]
        for sums, values in (
            (self.requests, 1),
            (self.cost, verdicts.cost[sent, tier]),
            (self.open_cost, verdicts.open_cost[sent, tier]),
        ):
            np.add.at(sums[index].reshape(-1), cell, values)

    def _add_curve(self, verdicts: Verdicts, hit: NDArray[np.bool_]) -> None:
        """What one threshold would do, for all thresholds at once: repeats cost nothing, and are as good as others."""
        place = np.searchsorted(_EDGES, verdicts.score, side="right")
        for tier in (_SIMPLE, _COMPLEX):
            np.add.at(self.curve["cost", tier], place, np.where(hit, 0, verdicts.cost[:, tier]))
            np.add.at(self.curve["loss_ppm", tier], place, verdicts.loss_ppm[:, tier])

    def _check_size(self, verdicts: Verdicts) -> None:
        dearest = verdicts.cost.max(axis=1, initial=0)
        self._most += int(verdicts.paid.sum()) + int(verdicts.baseline.sum()) + int(verdicts.kept_paid.sum())
        self._most += int(dearest.sum())
        if self._most >= MOST_NUSD:
            raise LogError(f"the log's amounts come to more than {MOST_NUSD // 10**9} dollars; replay a part of it")

    def _count(self, counts: Counts, bad_lines: Sequence[BadLine], file: int) -> None:
        for each in fields(Counts):
            setattr(self.counts, each.name, getattr(self.counts, each.name) + getattr(counts, each.name))
        for bad in bad_lines:
            self.bad[bad.kind] += 1
            if self.bad[bad.kind] <= SHOWN_OF_EACH_KIND:
                self.shown_bad.append((file, bad))

    # ---- checkpoints -----------------------------------------------------------------------------

    def _arrays(self) -> dict[str, Integers]:
        curve = {f"curve_{name}_{tier}": values for (name, tier), values in self.curve.items()}
        base = {f"base_{name}": values for name, values in self.base.items()}
        settings = {"requests": self.requests, "cost": self.cost, "open_cost": self.open_cost, "loss": self.loss_ppm}
        return {**settings, **base, **curve}

    def state(self) -> tuple[dict[str, Integers], dict[str, object]]:
        """Arrays, and the rest as JSON values; `restore` takes them back."""
        plain = {
            "position": asdict(self.position),
            "counts": asdict(self.counts),
            "bad": dict(self.bad),
            "shown_bad": [[file, bad.line, bad.kind, bad.sentence] for file, bad in self.shown_bad],
            "most": self._most,
        }
        return {**self._arrays(), **self._repeats.state(), **self._identities.state()}, plain

    def restore(self, arrays: dict[str, Integers], plain: dict[str, object]) -> None:
        for name, values in self._arrays().items():
            values[...] = arrays[name]
        self._repeats.restore(arrays)
        self._identities.restore(arrays)
        said: dict[str, dict] = plain  # type: ignore[assignment]
        self.position, self.counts = Position(**said["position"]), Counts(**said["counts"])
        self.bad = Counter({kind: said["bad"][kind] for kind in BAD_KINDS if kind in said["bad"]})
        self.shown_bad = [(file, BadLine(*bad)) for file, *bad in said["shown_bad"]]
        self._most = said["most"]  # type: ignore[assignment]
