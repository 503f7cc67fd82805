"""When a scheduled report is due, and how long to wait after a failure. Pure: the time is passed in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

import orjson

from policies.periods import Period, parse_window, period_at
from router.config_reports import WEBHOOK, ScheduledReport

SETTLING = timedelta(minutes=20)
"""After a period's end: answers that began in it come to theirs, and the hours of machines are closed."""
MAX_CATCH_UP = 31
"""How many periods a report that was missed is caught up by."""
MAX_ATTEMPTS = 14
_FIRST_WAIT_S = 60
LONGEST_WAIT_S = 6 * 3_600
"""Also after a refusal, which will be the same in a minute: somebody has to mend something."""


def schedule_id(report: ScheduledReport) -> str:
    """The same for all who read the same lines. Whoever changes them has asked for another report."""
    told = orjson.dumps(report.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return f"report_{hashlib.sha256(told).hexdigest()[:32]}"


def due_periods(report: ScheduledReport, known: Mapping[int, bool], now: datetime) -> list[Period]:
    """The finished periods that are still to be made, oldest first.

    `known` are the periods that were ever begun, by their ends, and whether they are finished. What went by before the
    first of them is nobody's, even where a clock was set back to it; a report that was never made begins with the
    newest period.
    """
    since_ms = min(known, default=None)
    found: list[Period] = []
    window, moment = parse_window(report.period), now - SETTLING
    for _ in range(MAX_CATCH_UP):
        period = period_at(window, period_at(window, moment, report.timezone).start - _INSTANT, report.timezone)
        beyond = bool(found) if since_ms is None else end_ms(period) < since_ms
        if beyond:
            break
        found.append(period)
        moment = period.start
    return [period for period in reversed(found) if not known.get(end_ms(period), False)]


def end_ms(period: Period) -> int:
    return int(period.end.timestamp()) * 1000


def wait_s(attempt: int) -> int:
    """Doubles from a minute to six hours: all attempts take over a day, and somebody comes to work meanwhile."""
    return min(_FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)


def place(report: ScheduledReport) -> str:
    """The destination, as `deliver` takes it: everything but the webhook is a folder."""
    return report.to if report.to == WEBHOOK else f"{report.to.rstrip('/')}/"


_INSTANT = timedelta(microseconds=1)
