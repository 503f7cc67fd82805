"""What a late correction of the price file changes in the ledger: which rows, and from what to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.repricing import Amounts, booked, measured_deployment, reckoned
from policies.spend import SpendRecord
from router.reports.price_list import PriceList, PricesOfTheDay


@dataclass(frozen=True, slots=True)
class Target:
    """Whose rows are priced anew: those served by a deployment, with the shadows that measured them, or all whose
    amounts depend on a model's price."""

    deployment: str | None
    model: str | None

    def concerns(self, record: SpendRecord, prices: PriceList) -> bool:
        if self.deployment is not None and self.deployment not in (record.deployment, measured_deployment(record)):
            return False
        return self.model is None or prices.matters_to(record, self.model)


@dataclass(frozen=True, slots=True)
class Correction:
    """What is booked, and what it comes to with the prices of the file."""

    record: SpendRecord
    amounts: Amounts


@dataclass(slots=True)
class Difference:
    """Of the rows that one deployment served, with one baseline: how many change, and their sums in nano-USD."""

    row_count: int = 0
    cost_nusd: int = 0
    new_cost_nusd: int = 0
    baseline_cost_nusd: int = 0
    new_baseline_cost_nusd: int = 0

    def add(self, correction: Correction) -> None:
        self.row_count += 1
        self.cost_nusd += correction.record.cost_nusd
        self.new_cost_nusd += correction.amounts.cost_nusd
        self.baseline_cost_nusd += correction.record.baseline_cost_nusd
        self.new_baseline_cost_nusd += correction.amounts.baseline_cost_nusd


@dataclass(slots=True)
class Tally:
    """What became of the rows that were looked at.

    `left_count` are those concerned that stay in part as booked: nobody counted their tokens, or the configuration no
    longer says what they are priced at.
    """

    row_count: int = 0
    concerned_count: int = 0
    left_count: int = 0
    by_deployment: dict[tuple[str, str], Difference] = field(default_factory=dict)

    @property
    def changed_count(self) -> int:
        return sum(difference.row_count for difference in self.by_deployment.values())


def target_of(prices: PriceList, model: str | None, deployment: str | None) -> Target:
    """Raises ValueError where neither is named, or what is named is not known."""
    if model is None and deployment is None:
        raise ValueError("name a model of the price file (--model), a deployment (--deployment), or both")
    if deployment is not None and deployment not in prices.deployments:
        raise ValueError(
            f"there is no deployment {deployment!r} in the configuration; known are {', '.join(prices.deployments)}"
        )
    if model is not None:
        prices.known_schedule(model)
    return Target(deployment, model)


class Repricer:
    """Finds what to correct, and keeps count in `tally`. What it has corrected it finds no more."""

    def __init__(self, target: Target, prices: PriceList) -> None:
        self.tally = Tally()
        self._target = target
        self._prices = prices
        self._of_the_day = PricesOfTheDay(prices)

    def corrections(self, records: Sequence[SpendRecord]) -> list[Correction]:
        self.tally.row_count += len(records)
        found = [self._correction(record) for record in records if self._target.concerns(record, self._prices)]
        self.tally.concerned_count += len(found)
        changes = [correction for correction in found if correction is not None]
        for correction in changes:
            self._add(correction)
        return changes

    def _correction(self, record: SpendRecord) -> Correction | None:
        try:
            amounts = reckoned(record, self._of_the_day)
        except ValueError:  # tokens that cannot be: `report verify` tells of them
            self.tally.left_count += 1
            return None
        if self._prices.gaps(record):
            self.tally.left_count += 1
        return None if amounts == booked(record) else Correction(record, amounts)

    def _add(self, correction: Correction) -> None:
        record = correction.record
        group = record.deployment or "(none)", record.baseline_model
        self.tally.by_deployment.setdefault(group, Difference()).add(correction)
