"""The simulation behind the claim for pacing: it is fair to both sides, and the claim holds in its base scenario."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.prices import load_prices
from tests.benchmarks.pacing.policies import POLICIES, first_come, hindsight, paced
from tests.benchmarks.pacing.prompts import SyntheticPrompts
from tests.benchmarks.pacing.report import difference, gap_closed, render
from tests.benchmarks.pacing.simulation import PRICES, Results, Setting, simulate
from tests.benchmarks.pacing.traffic import DAYS, END_MS, MONTH, SCENARIOS, START_MS, Requests, month_of_requests

BASE = SCENARIOS[0]
REQUESTS, SEEDS = 3_000, 3
SHARES = (0.4, 1.2)
TIGHT = Setting("synthetic", "base", 0.4, "paced")


def a_month(seed: int = 0) -> Requests:
    prompts = SyntheticPrompts()
    book = load_prices(PRICES)
    small, large = [book.model(name).prices.at(MONTH.start.date()) for name in (prompts.small, prompts.large)]
    return month_of_requests(BASE, prompts, small, large, REQUESTS, seed)


@pytest.fixture(scope="module")
def results() -> Results:
    return simulate([SyntheticPrompts()], [BASE], SHARES, POLICIES, REQUESTS, SEEDS)


def test_pacing_beats_first_come_at_equal_spend(results: Results) -> None:
    ours, theirs = results[TIGHT], results[replace(TIGHT, policy="first come")]
    assert ours.spent.mean() == pytest.approx(theirs.spent.mean(), abs=0.01)
    assert difference(ours, theirs).low > 0.02
    assert (gap_closed(results, TIGHT) or 0) > 0.6


def test_pacing_leaves_no_cliff(results: Results) -> None:
    ours, theirs = results[TIGHT], results[replace(TIGHT, policy="first come")]
    assert ours.by_week.mean(axis=0).min() > theirs.by_week.mean(axis=0).min() + 0.08


def test_a_budget_that_reaches_is_spent_as_if_unpaced(results: Results) -> None:
    enough = replace(TIGHT, budget_share=1.2)
    assert difference(results[enough], results[replace(enough, policy="first come")]).mean == 0
    assert gap_closed(results, enough) is None


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("share", [0.0005, 0.2, 0.6, 1.0])
def test_no_policy_spends_more_than_the_budget(policy: str, share: float) -> None:
    month = a_month()
    limit = int(month.unpaced_cost_nusd * share)
    assert month.large_cost_nusd[POLICIES[policy](month, limit)].sum() <= limit


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_pays_for_what_the_threshold_leaves_to_the_small_model(policy: str) -> None:
    month = a_month()
    assert not POLICIES[policy](month, month.unpaced_cost_nusd * 2)[~month.judged_hard].any()


def test_first_come_pays_for_all_until_the_money_is_out() -> None:
    month = a_month()
    served = first_come(month, month.unpaced_cost_nusd // 2)
    wanted = np.flatnonzero(month.judged_hard)
    assert served[wanted[: len(wanted) // 3]].all()
    assert not served[wanted[-len(wanted) // 3 :]].any()


def test_hindsight_pays_one_price_and_all_of_the_budget() -> None:
    month = a_month()
    limit = month.unpaced_cost_nusd // 2
    served = hindsight(month, limit)
    assert month.scores[served].min() > month.scores[~served].max()
    assert month.large_cost_nusd[served].sum() == pytest.approx(limit, rel=0.01)


def test_a_steeper_price_saves_more_at_the_start() -> None:
    month = a_month()
    limit = month.unpaced_cost_nusd // 5
    first_week = month.days < 7
    spent = [int(month.large_cost_nusd[paced(month, limit, power) & first_week].sum()) for power in (1, 2, 4)]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > spent[-1]


def test_a_seed_gives_its_month_again_and_another_gives_another() -> None:
    assert np.array_equal(a_month().large_cost_nusd, a_month().large_cost_nusd)
    assert not np.array_equal(a_month().scores[:100], a_month(seed=1).scores[:100])


def test_requests_come_in_order_within_the_month_and_rest_at_weekends() -> None:
    month = a_month()
    assert (np.diff(month.at_ms) >= 0).all()
    assert month.at_ms[0] >= START_MS and month.at_ms[-1] < END_MS
    by_day = np.bincount(month.days, minlength=DAYS)
    assert by_day[7] < by_day[8] / 2  # Sunday the 8th, Monday the 9th


def test_the_page_tells_every_setting_and_where_pacing_loses(results: Results) -> None:
    page = render(results, {}, [SyntheticPrompts()], REQUESTS, SEEDS, "command")
    assert "Written by `command`" in page
    assert sum(line.startswith("| base | 40% |") for line in page.splitlines()) == 2
    assert "Nowhere: 0 of 2 settings" in page
    swapped = dict(results)
    swapped[TIGHT], swapped[replace(TIGHT, policy="first come")] = (
        results[replace(TIGHT, policy="first come")],
        results[TIGHT],
    )
    worse = render(swapped, {}, [SyntheticPrompts()], REQUESTS, SEEDS, "command")
    assert "- synthetic, base, budget 40%: -" in worse and "1 of 2 settings" in worse


def test_one_seed_knows_no_interval() -> None:
    once = simulate([SyntheticPrompts()], [BASE], [0.4], {"first come": first_come}, 300, 1)
    (months,) = once.values()
    with pytest.raises(ValueError, match="two of them"):
        difference(months, months)
