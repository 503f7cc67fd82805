"""`Alerter`: finds shares newly reached, and sees to it that people are told of each once a window."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from fractions import Fraction

import orjson

from policies.alerts import Alert, alert_window, shares_reached
from policies.budget import BudgetState
from router.alerts.courier import Courier
from router.alerts.events import Event, alert_id, event_of
from router.clock import SYSTEM_CLOCK, Clock
from router.errors import StoreUnavailable
from router.stores.base import AlertBook, AlertClaim

logger = logging.getLogger(__name__)

MAX_CLAIMS_PER_POLL = 100
"""Each is a transaction. After a start every share reached is claimed anew, in vain: that must not stop the house."""
MAX_KNOWN = 100_000
"""Counters remembered as told of. Forgetting them costs a claim in vain each."""
LEASE_SECONDS = 3_600
"""Longer than a courier tries. An older claim that was not confirmed is of a process that died."""
TAKE_OVER_EVERY_SECONDS = 60

Forecast = Callable[[BudgetState, datetime], datetime | None]


def no_forecast(state: BudgetState, now: datetime) -> None:
    return None


class Alerter:
    """Everything but the posting happens within `poll` and `close`, which one thread calls.

    Shares passed since the last look are told of together, as the highest. At its first look it takes over whatever
    was claimed and not confirmed: a process that has been restarted goes on at once. Should another be telling the
    same just then, receivers get it twice, under one id.
    """

    def __init__(
        self, book: AlertBook, courier: Courier, *, forecast: Forecast = no_forecast, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._book = book
        self._courier = courier
        self._forecast = forecast
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[str, frozenset[Fraction]]] = {}
        """Of each counter, by budget and end user: the window, and the shares that somebody has claimed in it."""
        self._telling: dict[str, tuple[AlertClaim, Future[None]]] = {}
        self._started_s = self._take_over_at_s = clock.wall()

    def poll(self, states: Iterable[BudgetState]) -> None:
        """Raises StoreUnavailable; what was not claimed for that is found again at the next poll."""
        self._confirm_told()
        self._take_over()
        now = self._clock.now()
        claimed = 0
        for state in states:
            claimed += self._look_at(state, now)
            if claimed >= MAX_CLAIMS_PER_POLL:
                break

    def close(self, timeout_seconds: float = 2.0) -> None:
        """What cannot be told by then is told by the next process."""
        self._courier.close(timeout_seconds)
        try:
            self._confirm_told()
        except StoreUnavailable as error:
            logger.warning("alerts told could not be confirmed, and will be told again: %s", error)

    def _look_at(self, state: BudgetState, now: datetime) -> int:
        """How many shares it tried to claim."""
        reached = shares_reached(state)
        if not reached:
            return 0
        window = alert_window(state, now)
        counter = (state.budget.id, state.end_user)
        known_window, known = self._known.get(counter, (window, frozenset[Fraction]()))
        if known_window != window:
            known = frozenset()
        new = [share for share in reached if share not in known]
        if new:
            self._claim(state, window, new, now, highest=reached[0])
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[counter] = (window, known.union(new))
        return len(new)

    def _claim(
        self, state: BudgetState, window: str, new: Sequence[Fraction], now: datetime, highest: Fraction
    ) -> None:
        """Lower shares first: a crash in between then leaves claims to take over, and the highest to be found."""
        runs_out_at = self._forecast(state, now)
        won: list[tuple[Fraction, AlertClaim]] = []
        for share in reversed(new):
            id = alert_id(state.budget.id, window, share, state.end_user)
            also_passed = tuple(lower for lower, _ in reversed(won))
            event = event_of(Alert(id, state, window, share, also_passed, now, runs_out_at))
            text = orjson.dumps(event).decode()
            claim = AlertClaim(state.budget.id, window, str(share), state.end_user, text)
            if self._book.claim_alert(claim.budget_id, window, claim.share, claim.end_user, text):
                won.append((share, claim))
        if won and won[-1][0] == highest:
            self._tell(won.pop()[1])
        for _, covered in won:
            # By the highest, which we tell of, or whoever claimed it does.
            self._book.confirm_alert(covered)

    def _take_over(self) -> None:
        """What was claimed before this process began, and what has outlived its lease."""
        now_s = self._clock.wall()
        if now_s < self._take_over_at_s:
            return
        before_s = max(self._started_s, now_s - LEASE_SECONDS)
        claims = self._book.take_over_alerts(int(before_s * 1000), MAX_CLAIMS_PER_POLL)
        for claim in claims:
            self._tell(claim)
        if len(claims) < MAX_CLAIMS_PER_POLL:
            self._take_over_at_s = now_s + TAKE_OVER_EVERY_SECONDS

    def _tell(self, claim: AlertClaim) -> None:
        event: Event = orjson.loads(claim.event)
        if event["id"] in self._telling:
            return
        fields = {"alert_id": event["id"], "budget_id": claim.budget_id, "share": claim.share}
        logger.warning("%s", event["text"], extra={"fields": fields})
        future = self._courier.send(event)
        if future is None:
            logger.error("too many alerts are under way: %s is posted in an hour or so", event["id"])
        else:
            self._telling[event["id"]] = (claim, future)

    def _confirm_told(self) -> None:
        for id, (claim, future) in list(self._telling.items()):
            if not future.done():
                continue
            if not future.cancelled():
                # What the courier cannot name is a mistake of ours. The claim stays, and is told of again.
                failure = future.exception()
                if failure is None:
                    self._book.confirm_alert(claim)
                else:
                    logger.error("alert %s could not be posted", id, exc_info=failure)
            del self._telling[id]
