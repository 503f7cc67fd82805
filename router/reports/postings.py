"""What the ledger holds of a report's period: cells, each with the names that it goes by in the report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from policies.drivers import Driver, drivers, model_driver
from router.reports.currency import Currency
from router.reports.dimensions import CAUSE, FACETS, Where, is_let_in, narrowing, needs_of
from router.reports.periods import HOUR, WINDOWS, ReportPeriod
from router.stores.cells import Books, Cell, Dimension

_ARITHMETIC: tuple[Dimension, ...] = (
    "kind", "status", "cache", "reason", "deployment", "request_model", "baseline_model", "task", "estimator",
    "observed_deployment", "simulated",
)  # fmt: skip
"""What drivers, estimates and machines are told from, whatever a report is by."""
_ANSWERED = frozenset({"ok", "cancelled", "error"})


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a report's period in which one exchange rate is in force."""

    from_ms: int
    to_ms: int
    labels: Mapping[str, str]
    rate: Fraction


@dataclass(frozen=True, slots=True)
class _Amounts:
    """A cell as `policies.drivers` asks for it."""

    kind: str
    status: str
    cache: str
    reason: str
    cost_nusd: int
    baseline_cost_nusd: int
    retries_nusd: int
    prompt_cache_nusd: int

    @classmethod
    def of(cls, cell: Cell) -> _Amounts:
        return cls(
            str(cell.key["kind"]),
            str(cell.key["status"]),
            str(cell.key["cache"]),
            str(cell.key["reason"]),
            cell.cost_nusd,
            cell.baseline_cost_nusd,
            cell.retries_nusd,
            cell.prompt_cache_nusd,
        )


@dataclass(frozen=True, slots=True)
class Posting:
    """A cell of a span, and its `labels` by dimension of the report.

    `stratum` is among what its counterfactual is estimated; None where that is known, or nothing.
    """

    span: Span
    cell: Cell
    labels: Mapping[str, str]
    stratum: str | None

    @property
    def drivers(self) -> dict[Driver, int]:
        """Of what was booked; nano-USD."""
        return drivers(_Amounts.of(self.cell))

    @property
    def main_driver(self) -> Driver:
        key = self.cell.key
        return model_driver(str(key["kind"]), str(key["status"]), str(key["cache"]), str(key["reason"]))

    @property
    def pair(self) -> str:
        """The two models of its stratum."""
        return f"{self.cell.key['deployment']} for {self.cell.key['baseline_model']}"


def _stratum(cell: Cell, by_baseline: bool) -> str | None:
    key = cell.key
    if key["kind"] != "request" or key["status"] not in _ANSWERED or by_baseline:
        return None
    if not cell.baseline_cost_nusd or key["deployment"] is None:
        return None
    task = key["task"]
    return stratum_name(str(key["baseline_model"]), str(key["deployment"]), None if task is None else str(task))


def stratum_name(baseline_model: str, deployment: str, task: str | None) -> str:
    return f"{deployment} for {baseline_model}: {task or '(none)'}"


def spans(period: ReportPeriod, by: Collection[str], currency: Currency) -> tuple[Span, ...]:
    """Raises ValueError where the period has too many of a report's parts."""
    return tuple(
        Span(start, end, part.labels, rate)
        for part in period.cut([name for name in by if name in WINDOWS])
        for start, end, rate in currency.parts(part.from_ms, part.to_ms)
    )


def postings(
    books: Books,
    period: ReportPeriod,
    over: Sequence[Span],
    by: Sequence[str],
    where: Where,
    baseline_deployments: Collection[str],
) -> Iterator[Posting]:
    """What `where` lets in of the ledger, span by span."""
    dimensions = tuple(dict.fromkeys((*_ARITHMETIC, *needs_of([*by, *where]))))
    for span in over:
        for cell in books.cells(span.from_ms, span.to_ms, dimensions, narrowing(where)):
            if is_let_in(cell, where):
                by_baseline = is_by_baseline(cell, baseline_deployments)
                yield Posting(span, cell, _labels(period, span, cell, by, by_baseline), _stratum(cell, by_baseline))


def _labels(period: ReportPeriod, span: Span, cell: Cell, by: Sequence[str], by_baseline: bool) -> dict[str, str]:
    labels = {name: FACETS[name].label_of(cell) for name in by if name in FACETS}
    if HOUR in by:
        labels[HOUR] = period.hour_label(int(cell.key["hour_ms"] or 0))
    if CAUSE in by:
        labels[CAUSE] = _cause(cell, by_baseline)
    return {**labels, **span.labels}


def is_by_baseline(cell: Cell, baseline_deployments: Collection[str]) -> bool:
    """Whether the baseline's own model answered: by its deployment, or by bearing the baseline's name."""
    deployment = cell.key["deployment"]
    if deployment is None:
        return False
    return deployment in baseline_deployments or cell.key["baseline_model"] in (deployment, cell.key["request_model"])


def _cause(cell: Cell, by_baseline: bool) -> str:
    if cell.key["kind"] != "request":
        return "measuring"
    if cell.key["cache"] == "hit":
        return "response_cache"
    if cell.key["status"] == "abandoned":
        return "abandoned"
    if cell.key["deployment"] is None:
        return "other"
    if by_baseline:
        return "baseline"
    # The saving is real, but routing cannot take credit for what the application chose.
    return "pinned" if cell.key["reason"] == "pinned" else "smaller_model"
