"""`SqlReportRuns`: who makes a scheduled report, so that of several writers one does, and none is forgotten."""

from __future__ import annotations

from sqlalchemy import Engine, and_, or_, select, text, update

from policies.schedules import DAY_MS
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import REPORT_RUNS

_SKEW_MS = 5 * 60_000
"""The clocks of writers differ by less, and a report is made longer than that after the end of its period."""
"""No lease and no wait is so long."""
# Both databases write it alike; the second of two who ask at once waits for the first, and finds it taken.
_CLAIM = text(
    "INSERT INTO report_runs (schedule_id, period_end_ms, attempts, not_before_ms, detail) "
    "VALUES (:schedule_id, :period_end_ms, 1, :until_ms, '') "
    "ON CONFLICT (schedule_id, period_end_ms) DO UPDATE "
    "SET attempts = report_runs.attempts + 1, not_before_ms = :until_ms "
    "WHERE report_runs.finished_at_ms IS NULL AND report_runs.not_before_ms <= :now_ms "
    "RETURNING attempts"
)


class SqlReportRuns:
    """Every method raises StoreUnavailable. `attempt` is the number that `claim` gave: who has been overtaken by
    another changes nothing any more."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, schedule_id: str, now_ms: int) -> dict[int, bool]:
        """Of the periods that were ever begun, by their ends, whether they are finished.

        What is said to have been done later than now was done by a clock that ran ahead, of a period that was not
        over: it counts as begun, no more. Or the clock has been set back now, which is why only periods are looked at
        that end by tomorrow: one or two reports are then made again, and not all that there ever were.
        """
        runs = REPORT_RUNS.c
        own = runs.schedule_id == schedule_id
        later = or_(runs.finished_at_ms > now_ms + _SKEW_MS, runs.not_before_ms > now_ms + DAY_MS)
        ahead = and_(runs.period_end_ms < now_ms + DAY_MS, later)
        query = select(runs.period_end_ms, runs.finished_at_ms, ahead.label("ahead")).where(own)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        if any(row.ahead for row in rows):
            with writing(self._engine) as connection:
                forget = {"finished_at_ms": None, "not_before_ms": now_ms}
                connection.execute(update(REPORT_RUNS).where(own, ahead).values(**forget))
        return {row.period_end_ms: row.finished_at_ms is not None and not row.ahead for row in rows}

    def claim(self, schedule_id: str, period_end_ms: int, now_ms: int, until_ms: int) -> int | None:
        """The number of the attempt, from 1, or None where it is finished or another's until later."""
        values = {"schedule_id": schedule_id, "period_end_ms": period_end_ms, "now_ms": now_ms, "until_ms": until_ms}
        with writing(self._engine) as connection:
            return connection.execute(_CLAIM, values).scalar()

    def postpone(self, schedule_id: str, period_end_ms: int, attempt: int, until_ms: int, detail: str) -> None:
        """It failed, for what `detail` says."""
        self._update(schedule_id, period_end_ms, attempt, not_before_ms=until_ms, detail=detail)

    def finish(self, schedule_id: str, period_end_ms: int, attempt: int, at_ms: int, detail: str) -> None:
        """It is where it belongs, as `detail` says, or given up."""
        self._update(schedule_id, period_end_ms, attempt, finished_at_ms=at_ms, detail=detail)

    def _update(self, schedule_id: str, period_end_ms: int, attempt: int, **values: int | str) -> None:
        runs = REPORT_RUNS.c
        mine = (runs.schedule_id == schedule_id, runs.period_end_ms == period_end_ms, runs.attempts == attempt)
        with writing(self._engine) as connection:
            connection.execute(update(REPORT_RUNS).where(*mine, runs.finished_at_ms.is_(None)).values(**values))
