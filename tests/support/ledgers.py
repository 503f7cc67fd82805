"""Ledgers of any kind for property tests: records, shadows of some of them, and hours of machines."""

from __future__ import annotations

from typing import get_args

from hypothesis import settings
from hypothesis import strategies as st

from policies.routing import REASONS
from policies.spend import CacheStatus, SpendRecord, Status
from router.stores.cells import HOUR_MS, ROUTER, HourCost
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

FROM_MS = 1_793_484_000_000
"""2026-10-31T22:00 in UTC: the ledgers of `books` begin in one month and end in the next."""
HOURS = 4
MACHINES = ("mistral-7b", "phi")
SOME_LEDGERS = settings(max_examples=40)
"""Drawing a ledger of a dozen records costs more than what is tried on it, and each is many cases at once."""
_AMOUNTS = st.integers(0, 2**40)


@st.composite
def requests(draw: st.DrawFn, request_id: str) -> SpendRecord:
    cost = draw(_AMOUNTS)
    return spend_record(
        request_id,
        started_at_ms=FROM_MS + draw(st.integers(0, HOURS * HOUR_MS - 1)),
        team_id=draw(st.sampled_from(["support", "sales", "研究"])),
        project_id=draw(st.sampled_from([None, "chat"])),
        end_user=draw(st.sampled_from(["", "ann"])),
        tags=draw(st.sampled_from(["", ",batch,", ",batch,nightly,"])),
        deployment=draw(st.sampled_from([*MACHINES, "gpt-4", None])),
        alias=draw(st.sampled_from(["auto", "gpt-4"])),
        reason=draw(st.sampled_from(sorted(REASONS))),
        task=draw(st.sampled_from([None, "chat", "code"])),
        cache=draw(st.sampled_from(get_args(CacheStatus))),
        status=draw(st.sampled_from(get_args(Status))),
        simulated=draw(st.booleans()),
        input_tokens=draw(st.integers(0, 10**6)),
        cost_nusd=cost,
        retries_nusd=draw(st.integers(0, cost)),
        prompt_cache_nusd=draw(st.integers(-(2**30), 2**30)),
        baseline_cost_nusd=draw(_AMOUNTS),
    )


@st.composite
def shadows(draw: st.DrawFn, request: SpendRecord) -> SpendRecord:
    return spend_record(
        f"{request.request_id}-shadow",
        kind="shadow",
        parent_id=request.request_id,
        sample_share=draw(st.sampled_from([0.05, 0.5, 1.0])),
        started_at_ms=request.started_at_ms,
        team_id=request.team_id,
        deployment="gpt-4",
        task=request.task,
        cost_nusd=draw(_AMOUNTS),
        baseline_cost_nusd=0,
    )


@st.composite
def books(draw: st.DrawFn) -> RecordBooks:
    asked = [draw(requests(f"req_{number}")) for number in range(draw(st.integers(0, 8)))]
    measured = [draw(shadows(one)) for one in asked if one.deployment is not None and draw(st.booleans())]
    hours = [
        HourCost(FROM_MS + hour * HOUR_MS, source, "a100-40gb", 1, draw(st.integers(0, 2**42)))
        for source in (*MACHINES, ROUTER)
        for hour in range(HOURS)
        if draw(st.booleans())
    ]
    return RecordBooks([*asked, *measured], hours)
