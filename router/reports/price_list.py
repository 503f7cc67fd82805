"""What the records of the ledger are priced at, by the configuration and the price file as they are now."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from functools import lru_cache

from policies.catalog import Price, PriceSchedule
from policies.repricing import billed_attempts
from policies.schedules import DAY_MS
from policies.spend import SpendRecord
from router.config import Config
from router.prices import PriceBook, UnknownModel


class PriceList:
    """The schedules of prices behind deployments and models; None where nothing is known of them any more."""

    def __init__(self, config: Config, book: PriceBook) -> None:
        self._deployments = {deployment.name: deployment for deployment in config.deployments}
        self._book = book
        self._schedules: dict[str, PriceSchedule | None] = {}

    @property
    def deployments(self) -> Collection[str]:
        return self._deployments.keys()

    def model_of(self, deployment: str) -> str | None:
        """The name of its model in the price file."""
        found = self._deployments.get(deployment)
        return None if found is None else found.price

    def served_model(self, record: SpendRecord) -> str | None:
        """None where the record's deployment is gone, or stands for another model by now."""
        found = self._deployments.get(record.deployment or "")
        # A simulated deployment sends the name of the price as that of the model.
        if found is None or record.request_model not in (found.model, found.price):
            return None
        return found.price

    def schedule(self, model: str | None) -> PriceSchedule | None:
        if model is None:
            return None
        if model not in self._schedules:
            try:
                self._schedules[model] = self._book.model(model).prices
            except UnknownModel:
                self._schedules[model] = None
        return self._schedules[model]

    def known_schedule(self, model: str) -> PriceSchedule:
        """Raises UnknownModel, with near names."""
        return self._book.model(model).prices

    def gaps(self, record: SpendRecord) -> list[str]:
        """Why some of its amounts cannot be reckoned, in words that are alike for all records."""
        found = []
        if record.usage_source == "reserved":
            found.append("booked at its reservation: nobody counted its tokens")
        elif record.usage_source in ("provider", "counted"):
            names = [name for name, _ in billed_attempts(record)]
            known = [self.schedule(self.served_model(record)), *(self.schedule(self.model_of(name)) for name in names)]
            if None in known:
                found.append("the configuration no longer says what its deployment is priced at")
        has_baseline = record.baseline_input_tokens or record.baseline_output_tokens
        if has_baseline and self.schedule(record.baseline_model) is None:
            found.append("no price is known for its baseline any more")
        return found

    def matters_to(self, record: SpendRecord, model: str) -> bool:
        """Whether any of the record's amounts depends on the model's price, as far as that is known."""
        if record.baseline_model == model and (record.baseline_input_tokens or record.baseline_output_tokens):
            return True
        if self.served_model(record) == model:
            return True
        return any(self.model_of(name) == model for name, _ in billed_attempts(record))


class PricesOfTheDay:
    """`policies.repricing.Prices`: those in force on the day of the request."""

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices

    def served(self, record: SpendRecord) -> Price | None:
        return self._at(self._prices.served_model(record), record)

    def attempted(self, record: SpendRecord, deployment: str) -> Price | None:
        return self._at(self._prices.model_of(deployment), record)

    def baseline(self, record: SpendRecord) -> Price | None:
        return self._at(record.baseline_model, record)

    def have_changed_since(self, record: SpendRecord) -> bool:
        """Whether the record names another price than the price file has for its day now. What repeats or measures
        another request has the prices of that one's day."""
        if record.kind != "request" or record.cache == "hit":
            return False
        served = self.served(record), record.price_effective_from
        baseline = self.baseline(record), record.baseline_price_effective_from
        return any(price and day not in (None, price.effective_from.isoformat()) for price, day in (served, baseline))

    def _at(self, model: str | None, record: SpendRecord) -> Price | None:
        schedule = self._prices.schedule(model)
        return None if schedule is None else schedule.at(_day(record.started_at_ms // DAY_MS))


class PricesNamed(PricesOfTheDay):
    """Those whose dates the record names; of attempts, which name none, those of the day."""

    def __init__(self, prices: PriceList) -> None:
        super().__init__(prices)
        self._by_date: dict[tuple[str, str], Price | None] = {}

    def served(self, record: SpendRecord) -> Price | None:
        return self._of(self._prices.served_model(record), record.price_effective_from)

    def baseline(self, record: SpendRecord) -> Price | None:
        if record.baseline_price_effective_from is None:  # booked before records named it
            return super().baseline(record)
        return self._of(record.baseline_model, record.baseline_price_effective_from)

    def _of(self, model: str | None, effective_from: str | None) -> Price | None:
        if model is None or effective_from is None:
            return None
        named = model, effective_from
        if named not in self._by_date:
            schedule = self._prices.schedule(model)
            prices = () if schedule is None else schedule.prices
            dated = (price for price in prices if price.effective_from.isoformat() == effective_from)
            self._by_date[named] = next(dated, None)
        return self._by_date[named]


@lru_cache
def _day(number: int) -> date:
    """So many days after the first of 1970, in UTC: prices change at its midnight."""
    return datetime.fromtimestamp(number * 86_400, UTC).date()
