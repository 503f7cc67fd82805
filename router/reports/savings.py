"""What was spent beside what the same traffic would have cost on the baseline, and why the two differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from policies.budget import BudgetState
from router.stores.base import Ledger, SpendGroup

Cause = Literal["smaller_model", "response_cache", "baseline", "pinned", "other"]
CAUSES: dict[Cause, str] = {
    "smaller_model": "smaller model",
    "response_cache": "response cache",
    "baseline": "baseline itself",
    "pinned": "pinned by application",
    "other": "refused or failed",
}

BASIS = (
    "The counterfactual is an estimate: each answer's tokens, recounted with the baseline's tokenizer "
    "(estimated where it has none), at the baseline's list price of that day. The baseline might have answered at "
    "another length. A repeat from the cache counts what its first answer would have cost."
)

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SavingsLine:
    """One row: amounts in nano-USD. `name` is what the rows of its table differ in."""

    name: str
    request_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    realised_nusd: int = 0
    counterfactual_nusd: int = 0

    @property
    def saved_nusd(self) -> int:
        """Negative where routing cost more."""
        return self.counterfactual_nusd - self.realised_nusd

    @property
    def saved_percent(self) -> Decimal | None:
        """Of the counterfactual, to a tenth; None where that is nothing."""
        if self.counterfactual_nusd == 0:
            return None
        share = Decimal(100 * self.saved_nusd) / self.counterfactual_nusd
        return share.quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """The requests that started in [from_ms, to_ms), of one team or of all.

    Each breakdown adds up to `total` exactly. `measured_nusd` is the part of the counterfactual that
    is no estimate, since the baseline itself answered.
    """

    from_ms: int
    to_ms: int
    team_id: str | None
    total: SavingsLine
    by_team: tuple[SavingsLine, ...]
    by_model: tuple[SavingsLine, ...]
    by_alias: tuple[SavingsLine, ...]
    by_cause: tuple[SavingsLine, ...]
    by_status: tuple[SavingsLine, ...]
    baseline_models: tuple[str, ...]
    measured_nusd: int
    simulated_request_count: int
    budgets: tuple[BudgetState, ...]
    basis: str = BASIS

    @property
    def simulated(self) -> bool:
        """Whether any of it was never paid to anyone."""
        return self.simulated_request_count > 0


def savings_report(
    ledger: Ledger,
    from_ms: int,
    to_ms: int,
    *,
    team_id: str | None = None,
    budgets: Sequence[BudgetState] = (),
    baseline_deployments: Collection[str] = (),
) -> SavingsReport:
    """Reads the ledger once. `budgets` are those to show; where they stand is for the caller to say.

    `baseline_deployments` names the deployments of the baseline's model; one that bears the
    baseline's own name need not be named.
    """
    groups = ledger.spend_groups(from_ms, to_ms, team_id)

    def cause(group: SpendGroup) -> str:
        return cause_of(group, baseline_deployments)

    return SavingsReport(
        from_ms=from_ms,
        to_ms=to_ms,
        team_id=team_id,
        total=_sum("total", groups),
        by_team=_breakdown(groups, lambda group: group.team_id),
        by_model=_breakdown(groups, _model_name),
        by_alias=_breakdown(groups, lambda group: group.alias),
        by_cause=_in_order(_breakdown(groups, cause), tuple(CAUSES)),
        by_status=_breakdown(groups, lambda group: group.status),
        baseline_models=tuple(sorted({group.baseline_model for group in groups})),
        measured_nusd=sum(group.baseline_cost_nusd for group in groups if cause(group) == "baseline"),
        simulated_request_count=sum(group.request_count for group in groups if group.simulated),
        budgets=tuple(budgets),
    )


def cause_of(group: SpendGroup, baseline_deployments: Collection[str] = ()) -> Cause:
    """Why what these requests cost differs from what they would have cost, if it does."""
    if group.cache == "hit":
        return "response_cache"
    if group.deployment is None:
        return "other"
    if group.deployment in baseline_deployments or group.baseline_model in (group.deployment, group.request_model):
        return "baseline"
    # The saving is real, but routing cannot take credit for what the application chose.
    return "pinned" if group.reason == "pinned" else "smaller_model"


def _model_name(group: SpendGroup) -> str:
    if group.cache == "hit":
        return "(response cache)"
    return group.deployment or "(none)"


def _breakdown(groups: Iterable[SpendGroup], name_of: Callable[[SpendGroup], str]) -> tuple[SavingsLine, ...]:
    """Dearest counterfactual first."""
    parts: dict[str, list[SpendGroup]] = {}
    for group in groups:
        parts.setdefault(name_of(group), []).append(group)
    lines = [_sum(name, part) for name, part in parts.items()]
    return tuple(sorted(lines, key=lambda line: (-line.counterfactual_nusd, -line.realised_nusd, line.name)))


def _sum(name: str, groups: Sequence[SpendGroup]) -> SavingsLine:
    return SavingsLine(
        name=name,
        request_count=sum(group.request_count for group in groups),
        input_tokens=sum(group.input_tokens for group in groups),
        output_tokens=sum(group.output_tokens for group in groups),
        realised_nusd=sum(group.cost_nusd for group in groups),
        counterfactual_nusd=sum(group.baseline_cost_nusd for group in groups),
    )


def _in_order(lines: tuple[SavingsLine, ...], order: tuple[str, ...]) -> tuple[SavingsLine, ...]:
    return tuple(sorted(lines, key=lambda line: order.index(line.name)))


def report_span(from_text: str | None, to_text: str | None, now: datetime) -> tuple[int, int]:
    """The Unix milliseconds [from, to) that a report covers; by default this month until now, in UTC.

    Takes ISO dates (midnight UTC) and date-times (UTC unless they name an offset) that lie between
    1970-01-01 and the end of 9998 in UTC. Raises ValueError with a sentence for whoever typed them.
    """
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    from_ms = _instant_ms("from", from_text) if from_text else _ms(month)
    to_ms = _instant_ms("to", to_text) if to_text else _ms(now) + 1
    if from_ms >= to_ms:
        raise ValueError("the report ends before it begins: 'from' must be earlier than 'to', which is not included")
    return from_ms, to_ms


def _instant_ms(which: str, text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{which!r} is {text!r}; write a date such as 2026-11-01, or 2026-11-01T08:00+08:00") from None
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    # Past these, an instant may have no date in UTC, or one that a report cannot print.
    if not EARLIEST <= instant < LATEST:
        raise ValueError(f"{which!r} is {text!r}; allowed is 1970-01-01 to 9998-12-31, in UTC")
    return _ms(instant)


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
