"""What a worker serves with, and what the command line and the admin API work with."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from policies.budget import Budget
from policies.periods import Period
from router.clock import SYSTEM_CLOCK
from router.config import Config
from router.pipeline.authenticate import Authenticator
from router.pipeline.chat import ChatPipeline
from router.pipeline.dispatch import Dispatcher
from router.pipeline.models import Models
from router.stores.counters import window_of
from router.stores.redis_admission import RedisAdmissionStore
from router.stores.redis_budgets import RedisBudgets
from router.stores.sql_directory import SqlDirectory
from router.stores.sql_ledger import SqlLedger
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

    def seed(self, budget: Budget) -> None:
        """Starts a budget's counter at what its subject has spent in this window already."""
        now = SYSTEM_CLOCK.now()
        self.budgets.seed(budget, self.spent_in(budget, window_of(budget, now)), now)

    def spent_in(self, budget: Budget, period: Period) -> int:
        """Nano-USD that the budget's subject spent in `period`, by the ledger."""
        from_ms, to_ms = int(period.start.timestamp() * 1000), int(period.end.timestamp() * 1000)
        return self.ledger.spent_by_subject(from_ms, to_ms).get((budget.subject_kind, budget.subject_id), 0)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a worker serves with."""

    config: Config
    pipeline: ChatPipeline
    authenticator: Authenticator
    models: Models
    dispatcher: Dispatcher
    admission: RedisAdmissionStore
    telemetry: Telemetry
    admin: AdminServices
    simulated: bool
