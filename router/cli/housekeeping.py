"""`Housekeeper`: what must be done again and again in the stores, beside moving spend to SQL.

Booking what dead workers left behind, taking lost counters from the ledger, comparing the others with it, adding to
counters what only the ledger has, telling people of budgets that reach a share, closing the hours of machines, and
letting go of old records.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from math import inf

from policies.budget import Budget, BudgetState
from router.alerts.alerter import Alerter
from router.alerts.courier import Courier
from router.alerts.webhooks import webhooks_of
from router.bootstrap import rebuild_counters, redis_client
from router.cli.closing import hour_closer
from router.clock import Clock
from router.config import Config
from router.pipeline.authenticate import STALE_SECONDS
from router.reports.budgets import forecast
from router.services import AdminServices
from router.stores.administration import unix_ms, user_states
from router.stores.redis_admission import LEASE_SECONDS
from router.stores.redis_janitor import Janitor
from router.stores.spool import replay_dead
from router.stores.sql_partitions import drop_rows_before, make_partitions_ahead, months_before

logger = logging.getLogger(__name__)

_REHOLD_SECONDS = 4.0
"""After a loss, longer than a worker takes to notice it and to hold again what its requests under way held."""
_KNOWN_SECONDS = STALE_SECONDS + 2.0
"""Until each worker has read a new budget, and the ledger has what it let in before."""
_SWEPT_SECONDS = LEASE_SECONDS + 5.0
"""After another Redis answers, until what dead workers hold there has been booked: workers get the time of a lease."""
_SEEDING_SECONDS = 0.5
"""For how long to seed in one round. A sum over the ledger takes a millisecond, or a second of a large one."""
_RECONCILE_SECONDS = 600.0
_RECONCILED_AT_ONCE = 10
_USERS_SECONDS = 30.0
_MONTHS_SECONDS = 86_400.0
_LET_GO_AT_ONCE = 20_000
"""Records in a round, so that nothing else waits for a month of them."""


class Housekeeper:
    """A round is due each second. Raises RedisError and StoreUnavailable; what was not done then is done later.
    To be made, it needs prices for the machines of the configuration: raises ConfigError.

    `clock` tells windows as the workers do.
    """

    def __init__(self, config: Config, admin: AdminServices, clock: Clock) -> None:
        self._admin = admin
        self._clock = clock
        self._redis = redis_client(config)
        self._data_dir = config.data_dir
        self._janitor = Janitor(self._redis)
        self._closer = hour_closer(config, admin.books)
        courier = Courier(webhooks_of(config.alerts, os.environ))
        self._alerter = Alerter(admin.directory, courier, forecast=partial(forecast, admin.ledger), clock=clock)
        self._users_at_s = 0.0
        self._lost_at_s: float | None = None
        self._run_id: str | None = None
        self._seed_at_s: dict[str, float] = {}
        self._reconcile_at_s = clock.monotonic() + _RECONCILE_SECONDS
        self._to_reconcile: deque[Budget] = deque()
        self._retention_months = config.ledger.retention_months
        self._months_at_s = clock.monotonic()

    def round(self, *, sweep: bool) -> None:
        """`sweep`: workers have had the time to renew their leases."""
        if not self._admin.budgets.whole():
            self._take_from_ledger()
            return
        self._lost_at_s = None
        if sweep:
            self._janitor.sweep()
        replay_dead(self._data_dir, self._redis)
        budgets = self._admin.directory.list_budgets()
        self._seed_anew(budgets)
        self._alerter.poll(self._states(budgets))
        self._reconcile(budgets)
        now_ms = unix_ms(self._clock.now())
        self._closer.close(now_ms)
        self._keep_months(now_ms)

    def close(self) -> None:
        self._alerter.close()

    def _states(self, budgets: Sequence[Budget]) -> Iterator[BudgetState]:
        """Where they stand; those of every user seldom, since the ledger must be asked who there is."""
        now = self._clock.now()
        yield from self._admin.budgets.states([budget for budget in budgets if not budget.is_of_every_user], now)
        if self._clock.monotonic() >= self._users_at_s:
            self._users_at_s = self._clock.monotonic() + _USERS_SECONDS
            for budget in budgets:
                if budget.is_of_every_user:
                    yield from user_states(self._admin, budget, now)

    def _seed_anew(self, budgets: Sequence[Budget]) -> None:
        """Counts what is in the ledger alone: of new budgets, and all of them where another Redis answers.

        A worker that had not read a new budget yet booked its requests to the ledger. A replica that took over may
        lack the last that was booked; workers send the records again, but whose use it counts it cannot tell. A worker
        that has died sends nothing: what it settled last is pending there again, and the janitor books it at its
        reservation. So the counters are compared with the ledger once it has.
        Thousands are spread over rounds, and a new budget does not wait for them: the last that fell due comes first.
        """
        now_s, run_id = self._clock.monotonic(), self._admin.budgets.run_id()
        known = self._seed_at_s
        if run_id != self._run_id:
            self._run_id, known = run_id, {}
            self._reconcile_at_s = now_s + _SWEPT_SECONDS
        self._seed_at_s = {budget.id: known.get(budget.id, now_s + _KNOWN_SECONDS) for budget in budgets}
        due = [budget for budget in budgets if now_s >= self._seed_at_s[budget.id]]
        for budget in sorted(due, key=lambda budget: self._seed_at_s[budget.id], reverse=True):
            if self._admin.seed(budget):
                self._seed_at_s[budget.id] = inf
            if self._clock.monotonic() - now_s >= _SEEDING_SECONDS:
                return

    def _take_from_ledger(self) -> None:
        now_s = self._clock.monotonic()
        if self._lost_at_s is None:
            self._lost_at_s = now_s
            logger.warning("Redis has lost its budget counters; they are taken from the ledger")
        if now_s - self._lost_at_s >= _REHOLD_SECONDS:
            replay_dead(self._data_dir, self._redis)  # first, so that the ledger has it all
            rebuild_counters(self._admin, self._clock.now())

    def _reconcile(self, budgets: Sequence[Budget]) -> None:
        """A few a round: one that is off waits for the stream, and the janitor and the alerts wait with it."""
        now_s = self._clock.monotonic()
        if now_s >= self._reconcile_at_s:
            self._reconcile_at_s = now_s + _RECONCILE_SECONDS
            self._to_reconcile = deque(budgets)
            self._warn_of_eviction()
        for _ in range(min(_RECONCILED_AT_ONCE, len(self._to_reconcile))):
            self._admin.budgets.reconcile(self._to_reconcile.popleft(), self._admin.used_in, self._clock.now())

    def _keep_months(self, now_ms: int) -> None:
        """Once a day, and in each round for as long as there are records to let go."""
        if self._clock.monotonic() < self._months_at_s:
            return
        make_partitions_ahead(self._admin.engine, now_ms)
        if self._retention_months is not None:
            before_ms = months_before(now_ms, self._retention_months)
            if drop_rows_before(self._admin.engine, before_ms, _LET_GO_AT_ONCE):
                return
        self._months_at_s = self._clock.monotonic() + _MONTHS_SECONDS

    def _warn_of_eviction(self) -> None:
        policy = self._admin.budgets.evicts()
        if policy is not None:
            logger.warning(
                "this Redis throws keys away when it is full (maxmemory-policy %s), budget counters among them: "
                "set noeviction", policy,
            )  # fmt: skip
