"""What a worker serves with, and what the command line and the admin API work with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from sqlalchemy import Engine

from policies.budget import Budget
from policies.periods import Period
from router.clock import SYSTEM_CLOCK, Clock
from router.config import Config
from router.pipeline.authenticate import Authenticator
from router.pipeline.chat import ChatPipeline
from router.pipeline.dispatch import Dispatcher
from router.pipeline.models import Models
from router.stores.administration import unix_ms
from router.stores.local_admission import LocalAdmissionStore
from router.stores.redis_budgets import RedisBudgets
from router.stores.sql_books import SqlBooks
from router.stores.sql_directory import SqlDirectory
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_rates import SqlRates
from router.stores.sql_repricing import SqlRepricings
from router.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class AdminServices:
    """What the command line and the admin API work with. `redis` may be out of reach; SQL is needed."""

    config: Config
    engine: Engine
    directory: SqlDirectory
    ledger: SqlLedger
    budgets: RedisBudgets
    baseline_deployments: tuple[str, ...]
    clock: Clock = SYSTEM_CLOCK

    @property
    def rates(self) -> SqlRates:
        return SqlRates(self.engine)

    @property
    def books(self) -> SqlBooks:
        return SqlBooks(self.engine)

    @property
    def repricings(self) -> SqlRepricings:
        return SqlRepricings(self.engine)

    def acting_as(self, actor: str) -> Self:
        """The same, whose changes are recorded as those of `actor`."""
        return replace(self, directory=self.directory.acting_as(actor))

    def seed(self, budget: Budget) -> bool:
        """As AdminStores.seed."""
        return self.budgets.seed(budget, self.used_in, self.clock.now())

    def used_in(self, budget: Budget, period: Period) -> dict[tuple[str, int], int]:
        """What counts against `budget` in `period`, by the ledger: by end user, and by part of a rolling window."""
        bucket_ms = budget.parsed_window.bucket_ms or None
        return self.ledger.usage(budget, unix_ms(period.start), unix_ms(period.end), bucket_ms)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a worker serves with."""

    config: Config
    pipeline: ChatPipeline
    authenticator: Authenticator
    models: Models
    dispatcher: Dispatcher
    admission: LocalAdmissionStore
    telemetry: Telemetry
    admin: AdminServices
    simulated: bool
