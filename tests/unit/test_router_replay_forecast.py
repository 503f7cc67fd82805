"""Sums and forecasts against a reckoning row by row, in plain integers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.replay import sums as sums_module
from router.replay.forecast import Interval, forecast
from router.replay.judge import Judge
from router.replay.plan import Setting
from router.replay.repeats import Identities, Repeats
from router.replay.sources import Block, LogError, Position
from router.replay.sums import Sums
from router.replay.verdicts import Columns, Marks, TierOutcome, Verdicts
from tests.support.logs import as_lines, pair, pairs, plan_for

PLAN = plan_for()
TTL = PLAN.cache.ttl_seconds
the_judge = cache(lambda: Judge(PLAN))


def verdicts(records: Sequence[dict[str, Any]], start: int = 1) -> Verdicts:
    data = as_lines(records)
    return the_judge().judge(Block(Position(0, 0, start), Position(0, len(data), start), "lines", data))


def added(*parts: Verdicts) -> Sums:
    sums = Sums(PLAN)
    for part in parts:
        sums.add(part)
    return sums


def named(number: int, **more: Any) -> dict[str, Any]:
    record = pair(f"Say {number}.", number, **more)
    record["response"]["id"] = f"chatcmpl-{number}"
    return record


amounts = st.integers(0, 10**12)
rows = st.lists(
    st.tuples(
        st.integers(0, 1_023),  # group
        st.integers(0, 6),  # digest: few, so that there are repeats
        st.integers(0, 3 * TTL),
        st.integers(0, 1_000).map(lambda thousandths: thousandths / 1_000),
        amounts,
        amounts,
        st.tuples(*[st.tuples(st.integers(0, len(PLAN.candidates) - 1), amounts, st.integers(0, 10**6))] * 3),
    ),
    max_size=40,
)
kept_rows = st.lists(st.tuples(st.integers(0, 1_023), amounts), max_size=5)


NAMELESS = Marks(0, 1, 0)


def made(judged: Any, kept: Any) -> Verdicts:
    columns = Columns()
    for group, digest, at_s, score, paid, baseline, tiers in judged:
        columns.judged.append((group, digest, at_s, score, paid, baseline, baseline // 2))
        columns.tiers.append(tuple([TierOutcome(choice, cost, cost // 2, loss) for choice, cost, loss in tiers]))
    columns.marks.extend([NAMELESS] * len(judged))
    columns.kept.extend(kept)
    columns.kept_marks.extend([NAMELESS] * len(kept))
    return columns.verdicts(Position(0, 1, 1), 1)


def expected_hits(judged: Any) -> list[bool]:
    stored: dict[int, int] = {}
    hits = []
    for _, digest, at_s, *_ in judged:
        hit = digest != 0 and digest in stored and abs(at_s - stored[digest]) <= TTL
        if digest and not hit:
            stored[digest] = at_s
        hits.append(hit)
    return hits


@settings(max_examples=25, deadline=None)
@given(rows, kept_rows, st.integers(0, 40))
def test_totals_are_those_of_the_rows(judged: Any, kept: Any, cut: int) -> None:
    found = forecast(added(made(judged[:cut], kept), made(judged[cut:], [])), PLAN, ("log",))
    hits = expected_hits(judged)
    kept_paid = sum(paid for _, paid in kept)
    assert found.paid_nusd == sum(row[4] for row in judged) + kept_paid
    assert found.all_baseline_nusd.value == sum(row[5] for row in judged) + kept_paid
    assert (found.judged, found.kept, found.repeats) == (len(judged), len(kept), sum(hits))
    for outcome in found.outcomes:
        cost, lost, requests = kept_paid, 0, [0] * len(PLAN.candidates)
        for row, hit in zip(judged, hits, strict=True):
            setting = outcome.setting
            choice, amount, loss = row[6][(row[3] >= setting.moderate_from) + (row[3] >= setting.complex_from)]
            lost += loss
            if not hit:
                cost, requests[choice] = cost + amount, requests[choice] + 1
        assert outcome.cost_nusd.value == cost
        assert outcome.saved_nusd.value == found.paid_nusd - cost
        assert [share.requests for share in outcome.shares] == requests
        assert outcome.repeats + sum(requests) == len(judged)
        assert outcome.as_good_ppm.value == 1_000_000 - lost // max(len(judged), 1)


@settings(max_examples=25, deadline=None)
@given(rows, kept_rows)
def test_the_curve_passes_through_each_quality_target(judged: Any, kept: Any) -> None:
    """At one threshold for everything, the middle tier has nothing."""
    sums = added(made(judged, kept))
    whole = forecast(sums, PLAN, ("log",))
    low, high = (np.concatenate([[0], np.cumsum(sums.curve["cost", tier])]) for tier in (0, 2))
    for outcome in whole.outcomes[1:]:
        at = round(outcome.setting.complex_from * 1_000)
        cost = int(low[at]) + int(high[-1] - high[at]) + sum(paid for _, paid in kept)
        assert cost == outcome.cost_nusd.value
    assert list(whole.curve) == sorted(whole.curve, key=lambda point: point.threshold)


def test_intervals_hold_the_estimate_and_narrow_with_the_log() -> None:
    few, many = (forecast(added(verdicts(pairs(count))), PLAN, ("log",)) for count in (60, 960))
    for found in (few, many):
        for outcome in found.outcomes:
            for interval in (outcome.cost_nusd, outcome.saved_nusd, outcome.saved_ppm, outcome.as_good_ppm):
                assert interval.low <= interval.value <= interval.high
    width = [(f.outcomes[0].as_good_ppm.high - f.outcomes[0].as_good_ppm.low) for f in (few, many)]
    assert width[1] < width[0]


def test_what_hangs_on_unknown_lengths_widens_the_interval() -> None:
    """The same model in the log and after it: only which requests came is open."""
    known, other = (
        forecast(added(verdicts([pair("Say hello.", n, model, 500) for n in range(50)])), PLAN, ("log",))
        for model in ("gpt-4", "gpt-3.5-turbo")
    )
    relative = [
        (f.all_baseline_nusd.high - f.all_baseline_nusd.low) / f.all_baseline_nusd.value for f in (known, other)
    ]
    assert relative[1] > relative[0]


def test_a_deployment_of_the_baselines_model_is_as_wrong_as_the_baseline() -> None:
    """Where it answers everything there is nothing to save, whatever the lengths of its answers."""
    plan = replace(PLAN, settings=(Setting("all", 0.0, 0.0),))
    sums = Sums(plan)
    data = as_lines([pair(f"Say {n}.", n, "gpt-3.5-turbo", 100 + n) for n in range(50)])
    sums.add(Judge(plan).judge(Block(Position(), Position(0, len(data), 51), "lines", data)))
    (outcome,) = forecast(sums, plan, ("log",)).outcomes
    assert {share.deployment: share.requests for share in outcome.shares}["openai/gpt-4"] == 50
    assert outcome.cost_nusd.low < outcome.cost_nusd.high
    assert outcome.saved_of_baseline_nusd == Interval(0, 0, 0)


def test_the_same_sums_give_the_same_forecast() -> None:
    parts = [verdicts(pairs(40)), verdicts(pairs(30, seed=8))]
    assert asdict(forecast(added(*parts), PLAN, ("log",))) == asdict(forecast(added(*parts), PLAN, ("log",)))


def test_a_state_restored_is_the_state() -> None:
    sums = added(verdicts([*pairs(40), named(1), {"broken": 1}]))
    arrays, plain = sums.state()
    other = Sums(PLAN)
    other.restore({name: values.copy() for name, values in arrays.items()}, json.loads(json.dumps(plain)))
    for each in (sums, other):
        each.add(verdicts([*pairs(40), named(1)], start=50))
    assert sums.bad["duplicate row"] == 1
    assert asdict(forecast(sums, PLAN, ("log",))) == asdict(forecast(other, PLAN, ("log",)))


def test_a_log_of_impossible_amounts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_module, "MOST_NUSD", 10**6)
    with pytest.raises(LogError, match="more than"):
        added(verdicts(pairs(3)))


def test_nothing_judged_is_a_forecast_too() -> None:
    found = forecast(added(verdicts([{"broken": 1}])), PLAN, ("log",))
    assert (found.judged, found.rows, found.bad[0].count) == (0, 1, 1)
    assert found.outcomes[0].saved_ppm.value == 0


def test_a_row_that_stands_there_twice_is_a_bad_one_and_saves_nothing() -> None:
    """As a repeat it would be free: two exports that overlap would promise savings that nobody will see."""
    silent = [named(7, cost=0.5), named(7, cost=0.5)]
    for record in silent:
        del record["request"]["messages"]
    sums = Sums(PLAN)
    first = sums.add(verdicts([*silent, named(1), named(2), named(1)]))
    again = sums.add(verdicts([{"hello": 1}, named(2), named(3)], start=6))
    assert [(bad.line, bad.kind) for bad in first] == [(2, "duplicate row"), (5, "duplicate row")]
    assert [(bad.line, bad.kind) for bad in again] == [(6, "unknown format"), (7, "duplicate row")]
    whole, once = (
        forecast(sums, PLAN, ("log",)),
        forecast(added(verdicts([silent[0], named(1), named(2), named(3)])), PLAN, ("log",)),
    )
    assert (whole.rows, whole.judged, whole.kept, whole.repeats) == (8, 3, 1, 0)
    assert (whole.outcomes, whole.counts, whole.paid_nusd) == (once.outcomes, once.counts, once.paid_nusd)


def test_the_same_request_again_is_no_duplicate() -> None:
    """It has another id, another time, or the log gives its rows no names."""
    later = named(1)
    later["created_at"] += 1
    rows = [named(1), later, pair("Say 1.", 1), pair("Say 1.", 1)]
    found = forecast(added(verdicts(rows)), PLAN, ("log",))
    assert (found.judged, found.bad) == (4, ())


def test_names_that_are_displaced_are_forgotten_not_confused() -> None:
    table = Identities(64)
    assert table.duplicates(np.array([5, 69, 5, 0, 0, 5])).tolist() == [False, False, False, False, False, True]


def hits(ttl: int, *seen: tuple[int, int], slots: int = 64) -> list[bool]:
    digests, times = zip(*seen, strict=True)
    return Repeats(ttl, slots).hits(np.array(digests, np.uint64), np.array(times, np.int64)).tolist()


def test_a_repeat_counts_within_the_time_to_live() -> None:
    assert hits(10, (5, 0), (5, 10), (5, 11), (5, 20)) == [False, True, False, True]


def test_a_log_that_runs_backwards_has_as_many_repeats() -> None:
    assert hits(10, (5, 20), (5, 15), (5, 5), (5, 0)) == [False, True, False, True]


def test_what_is_displaced_is_forgotten_not_invented() -> None:
    assert hits(10, (5, 0), (69, 0), (5, 1), slots=64) == [False, False, False]
    assert hits(10, (0, 0), (0, 1)) == [False, False]
