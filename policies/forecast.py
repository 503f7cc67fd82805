"""When a budget will be used up, if things go on as they do."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

from policies.budget import Budget, BudgetState
from policies.periods import Period, period_at

_RECENT = {
    "hour": timedelta(minutes=10),
    "day": timedelta(hours=1),
    "week": timedelta(days=1),
    # Whole weeks, so that a weekend is in it, and once only.
    "month": timedelta(days=7),
    "quarter": timedelta(days=7),
    "year": timedelta(days=28),
    "lifetime": timedelta(days=28),
}
_PARTS_OF_ROLLING = 4


def recent_span(budget: Budget) -> timedelta | None:
    """How far back the recent rate of a budget looks; None where a forecast says nothing, as of rate limits."""
    if budget.is_rate_limit:
        return None
    window = budget.parsed_window
    return timedelta(seconds=window.rolling_s) / _PARTS_OF_ROLLING if window.rolling_s else _RECENT[window.name]


def exhausted_at(state: BudgetState, recent: int, now: datetime) -> datetime | None:
    """When the limit will be reached; None where it will last. `recent` was used in the last `recent_span`.

    What remains, r = limit - spent - reserved, is used at a rate, so that it is gone at now + r / rate:

    - in a calendar window, rate = e * mean + (1 - e) * recent rate, where e is the elapsed share of the window and
      mean is its use so far over the time elapsed. Early on the mean rests on next to nothing, and the recent rate
      looks back beyond the window's beginning; late, the mean has seen nearly all there is to see. What would be
      reached after the window's end is not reached, since all begins anew there;
    - in a rolling window, rate = recent rate - use / length: what was used leaves it again, about evenly;
    - over a lifetime, rate = recent rate.

    A budget that is used up is exhausted now.
    """
    span = recent_span(state.budget)
    if span is None:
        return None
    remaining = state.budget.limit - state.spent - state.reserved
    if remaining <= 0:
        return now
    period = period_at(state.budget.parsed_window, now, state.budget.timezone)
    rate = _rate_per_ms(state, Fraction(recent, _ms(span)), period, now)
    # Compared before it becomes a date: at a trickle the last dollar may go after the calendar's end.
    if rate * _left_ms(state, period, now) <= remaining:
        return None
    return now + timedelta(milliseconds=int(remaining / rate))


def _rate_per_ms(state: BudgetState, recent: Fraction, period: Period, now: datetime) -> Fraction:
    used, window = state.spent + state.reserved, state.budget.parsed_window
    if window.rolling_s:
        return recent - Fraction(used, window.rolling_s * 1000)
    elapsed_ms = _ms(now - period.start)
    if not window.is_calendar or elapsed_ms == 0:
        return recent
    elapsed = Fraction(elapsed_ms, _ms(period.end - period.start))
    return elapsed * Fraction(used, elapsed_ms) + (1 - elapsed) * recent


def _left_ms(state: BudgetState, period: Period, now: datetime) -> int:
    """How long the rate can go on: to the window's end; in a rolling one, until what is in it now has left."""
    rolling_s = state.budget.parsed_window.rolling_s
    return rolling_s * 1000 if rolling_s else _ms(period.end - now)


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
