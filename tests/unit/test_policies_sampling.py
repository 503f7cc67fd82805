"""The estimate of the counterfactual: right on average, with intervals that hold, and never at a loss for an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.sampling import DEFAULT_PRIOR_SD, ENOUGH, Estimate, Stratum, estimate, plain_ratio

HUGE = 2**62

amounts = st.integers(0, HUGE)
samples = st.tuples(amounts, amounts, st.floats(1e-6, 1.0))


@st.composite
def strata(draw: st.DrawFn) -> list[Stratum]:
    names = draw(st.lists(st.text(max_size=5), unique=True, max_size=5))
    return [
        Stratum(
            name,
            draw(amounts),
            draw(st.integers(0, HUGE)),
            draw(st.lists(samples, max_size=15)),
            prior_sd=draw(st.floats(0, 2)),
            pair=draw(st.sampled_from(["", "a/b"])),
            rambles=draw(st.booleans()),
        )
        for name in names
    ]


def alike(count: int, size: int, name: str = "all", *, booked: int = 1_000, truth: int = 1_200) -> Stratum:
    """`count` requests booked at the same, of which `size` were sampled and have the same truth."""
    return Stratum(name, count * booked, count, [(booked, truth, size / count)] * size)


def varied(truths: Sequence[int], count: int = 1_000, name: str = "all", **others: object) -> Stratum:
    """Samples from `count` requests, each booked at 1000."""
    known = [(1_000, truth, len(truths) / count) for truth in truths]
    return replace(Stratum(name, 1_000 * count, count, known), **others)  # type: ignore[arg-type]


# ---- whatever it is given --------------------------------------------------------------------------


@given(strata())
@settings(max_examples=80, deadline=None)
def test_any_strata_get_an_estimate_within_its_interval_that_adds_up(given: list[Stratum]) -> None:
    found = estimate(given)
    assert found.low_nusd <= found.total_nusd <= found.high_nusd
    assert found.total_nusd == sum(one.corrected_nusd for one in found.by_stratum.values())
    assert set(found.by_stratum) == {one.name for one in given}
    for stratum in given:
        one = found.by_stratum[stratum.name]
        assert 0 <= one.low_nusd <= one.corrected_nusd <= one.high_nusd
        assert one.sample_count == len(stratum.samples)


@given(strata(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_strata_is_of_no_account(given: list[Stratum], random: object) -> None:
    shuffled = list(given)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert estimate(shuffled) == estimate(given)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**9)), min_size=1, max_size=40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_where_all_were_sampled_the_truth_is_known(known: list[tuple[int, int]], rambles: bool) -> None:
    drawn = [(booked, truth, 1.0) for booked, truth in known]
    stratum = Stratum("all", sum(booked for booked, _ in known), len(known), drawn, rambles=rambles)
    found, truth = estimate([stratum]), sum(truth for _, truth in known)
    assert [found.low_nusd, found.total_nusd, found.high_nusd] == pytest.approx([truth] * 3, rel=1e-12, abs=1)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused_by_its_stratum(share: float) -> None:
    bad = Stratum("second", 1_000, 10, [(100, 100, share)])
    with pytest.raises(ValueError, match=r"stratum 'second': a sample's share must lie in \(0, 1\]; found"):
        estimate([alike(10, 2, "first"), bad])


def test_of_nothing_nothing_is_estimated() -> None:
    assert estimate([]) == Estimate(0, 0, 0, {})
    none = estimate([Stratum("none", 0, 0, [])])
    assert (none.low_nusd, none.total_nusd, none.high_nusd) == (0, 0, 0)


# ---- what is believed ------------------------------------------------------------------------------


def test_without_samples_what_was_booked_stands_with_the_prior_around_it() -> None:
    one = estimate([Stratum("unmeasured", 1_000_000, 1_000, [], prior_sd=0.3)]).by_stratum["unmeasured"]
    assert (one.corrected_nusd, one.basis) == (1_000_000, "prior")
    assert one.low_nusd == pytest.approx(1_000_000 * np.exp(-1.96 * 0.3), rel=0.05)
    assert one.high_nusd == pytest.approx(1_000_000 * np.exp(1.96 * 0.3), rel=0.05)


def test_few_samples_lean_on_the_prior_the_less_the_more_they_are() -> None:
    found = [estimate([alike(10_000, size, truth=2_000)]).by_stratum["all"] for size in (1, 3, 6, ENOUGH)]
    assert [one.basis for one in found] == ["mixed"] * 3 + ["samples"]
    corrected = [one.corrected_nusd for one in found]
    assert corrected == sorted(corrected)
    assert 10_000_000 < corrected[0] < 15_000_000
    assert corrected[-1] == 20_000_000


def test_a_single_sample_leaves_most_of_the_doubt() -> None:
    one = estimate([alike(10_000, 1)]).by_stratum["all"]
    assert one.high_nusd - one.low_nusd > one.corrected_nusd / 2


def test_more_samples_make_it_narrower() -> None:
    truths = [600, 900, 1_200, 1_500, 1_800]
    widths = [
        (found.high_nusd - found.low_nusd) / found.total_nusd
        for times in (2, 8, 32)
        for found in [estimate([varied(truths * times, 10_000)])]
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.2


def test_a_line_never_falls_below_what_was_seen() -> None:
    """By chance those drawn were ten times dearer than most, and steep: the line would end below nothing."""
    drawn = [(booked, booked * booked // 100, 0.01) for booked in range(5_000, 5_000 + 12 * 400, 400)]
    found = estimate([Stratum("all", 1_200 * 500, 1_200, drawn)])
    seen = sum(truth for _, truth, _ in drawn)
    assert found.total_nusd >= found.low_nusd >= seen > 0


def test_one_answer_that_rambles_on_widens_upwards_more_where_more_of_them_are_to_be_expected() -> None:
    usual = [800, 900, 1_000, 1_100, 1_200] * 6
    steady = estimate([varied(usual, rambles=False)])
    rambling = estimate([varied(usual, rambles=True)])
    assert rambling.total_nusd == steady.total_nusd == 1_000_000
    assert rambling.high_nusd > 1.05 * steady.high_nusd
    assert rambling.low_nusd == pytest.approx(steady.low_nusd, rel=0.02)
    assert estimate([varied([*usual, 9_000])]).high_nusd > rambling.high_nusd


# ---- strata ----------------------------------------------------------------------------------------


def test_strata_with_few_samples_are_put_together_with_their_pair() -> None:
    chat, code, other = (
        replace(alike(1_000, size, name, truth=truth), pair=pair)
        for name, size, truth, pair in (("chat", 6, 2_000, "a/b"), ("code", 6, 1_000, "a/b"), ("other", 6, 500, "c/b"))
    )
    found = estimate([chat, code, other]).by_stratum
    assert found["chat"].corrected_nusd == found["code"].corrected_nusd == pytest.approx(1_500_000, rel=0.001)
    assert (found["chat"].basis, found["other"].basis) == ("samples", "mixed")
    assert found["chat"].sample_count == 6
    assert 500_000 < found["other"].corrected_nusd < 1_000_000


def test_the_largest_takes_in_those_who_are_too_few_together() -> None:
    large, small, few = alike(2_000, 40, "large"), alike(1_000, 20, "small", truth=900), alike(100, 2, "few", truth=300)
    found = estimate([large, small, few]).by_stratum
    assert found["small"].corrected_nusd == 900_000
    factors = [found[one.name].corrected_nusd / one.booked_nusd for one in (large, few)]
    assert factors[0] == pytest.approx(factors[1], rel=1e-4)
    assert 1.1 < factors[0] < 1.2
    assert {one.basis for one in found.values()} == {"samples"}


def test_a_total_is_surer_than_its_strata_together() -> None:
    truths = [200, 600, 1_000, 1_400, 1_800] * 4
    found = estimate([varied(truths, name=f"task {number}", rambles=False) for number in range(9)])
    widths = [one.high_nusd - one.low_nusd for one in found.by_stratum.values()]
    assert sum(widths) / 4 < found.high_nusd - found.low_nusd < sum(widths) / 2


# ---- on average ------------------------------------------------------------------------------------

Amounts = NDArray[np.int64]


def lengths(count: int, *, rambling: float = 0.0, seed: int = 5) -> tuple[Amounts, Amounts]:
    """Booked and true, of requests whose lengths go together; some of the answers go on until they are cut off."""
    rng = np.random.default_rng(seed)
    small = rng.standard_normal(count)
    booked = 400 * np.exp(0.5 * small)
    truth = 600 * np.exp(0.6 * (0.7 * small + 0.71 * rng.standard_normal(count)))
    truth[rng.random(count) < rambling] = 5_000
    return (10_000 * booked).astype(np.int64), (10_000 * truth).astype(np.int64)


def resampled(
    population: tuple[Amounts, Amounts],
    draw: Callable[[np.random.Generator], tuple[Amounts, NDArray[np.float64]]],
    times: int,
    *,
    rambles: bool,
) -> tuple[float, float, float]:
    """The mean error, its standard deviation, and how often the interval held the truth."""
    booked, truth = population
    rng, errors, held = np.random.default_rng(11), [], 0
    for _ in range(times):
        drawn, shares = draw(rng)
        known = [(int(booked[at]), int(truth[at]), float(shares[at])) for at in drawn]
        found = estimate([Stratum("all", int(booked.sum()), len(booked), known, rambles=rambles)])
        errors.append(found.total_nusd / truth.sum() - 1)
        held += found.low_nusd <= truth.sum() <= found.high_nusd
    return float(np.mean(errors)), float(np.std(errors)), held / times


def evenly(size: int, count: int) -> Callable[[np.random.Generator], tuple[Amounts, NDArray[np.float64]]]:
    return lambda rng: (rng.choice(count, size, replace=False), np.full(count, size / count))


@pytest.mark.parametrize("size", [30, 300])
@pytest.mark.parametrize("rambling", [0.0, 0.01])
def test_intervals_hold_the_truth_as_often_as_they_say(size: int, rambling: float) -> None:
    """Of 300 intervals at 95 %, 276 hold with a chance of 98 %: the seed is one of those."""
    count, times = 6_000, 300
    population = lengths(count, rambling=rambling)
    bias, sd, coverage = resampled(population, evenly(size, count), times, rambles=rambling > 0)
    assert coverage >= 0.92
    assert abs(bias) <= 3 * sd / times**0.5


def test_of_lengths_with_two_humps_intervals_hold_too() -> None:
    """Half of the answers are one word, half are essays: taken for a tail, 61 % of the intervals would hold."""
    rng = np.random.default_rng(2)
    essay = rng.random(800) < 0.5
    length = 600 * np.exp(0.4 * rng.standard_normal((2, 800)))
    booked, truth = np.where(essay, length, 3).astype(np.int64) * 10_000
    for rambles in (False, True):
        assert resampled((booked, truth), evenly(40, 800), 300, rambles=rambles)[2] >= 0.9


@pytest.mark.parametrize("larger", [1, 10])
@pytest.mark.parametrize("told", [True, False], ids=["of another task", "of the same task"])
def test_requests_that_had_no_chance_to_be_sampled_make_the_interval_wider(larger: int, told: bool) -> None:
    """The second half was never drawn, and the truth of its ratio is as far off as the prior says. Of 200 intervals at
    95 %, 170 hold at least: without regard to what is missing it is one of two or, of larger requests, of ten."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        missing = np.arange(600) >= 300
        length = rng.lognormal(6, 0.6, 600) * np.where(missing, larger, 1)
        off = np.where(missing, np.exp(DEFAULT_PRIOR_SD * rng.standard_normal()) if told else 1, 1)
        truth = (1_000 * length * off * rng.lognormal(-0.125, 0.5, 600)).astype(int)
        booked = (1_000 * length).astype(int)
        drawn = (rng.random(600) < 0.1) & ~missing
        parts = [("a", ~missing), ("b", missing)] if told else [("a", missing | ~missing)]
        found = estimate(
            [
                Stratum(
                    name,
                    int(booked[part].sum()),
                    int(part.sum()),
                    [(int(booked[at]), int(truth[at]), 0.1) for at in np.flatnonzero(part & drawn)],
                    pair="models",
                    rambles=False,
                )
                for name, part in parts
            ]
        )
        assert sum(one.unsampled_nusd for one in found.by_stratum.values()) > 0
        held += found.low_nusd <= truth.sum() <= found.high_nusd
    assert held >= 170


def test_what_chance_leaves_out_is_not_unsampled() -> None:
    samples = [(100, 110, 0.05)] * 30
    found = estimate([Stratum("many", 60_000, 600, samples, pair="p"), Stratum("few", 2_000, 20, [], pair="p")])
    assert [one.unsampled_nusd for one in found.by_stratum.values()] == [0, 0]


def test_where_long_answers_were_oversampled_the_estimate_is_still_right() -> None:
    booked, truth = lengths(6_000)
    shares = np.where(booked > np.median(booked), 0.018, 0.002)

    def draw(rng: np.random.Generator) -> tuple[Amounts, NDArray[np.float64]]:
        return np.flatnonzero(rng.random(len(shares)) < shares), shares

    bias, sd, coverage = resampled((booked, truth), draw, 300, rambles=False)
    assert abs(bias) < 0.02
    assert sd < 0.15
    assert coverage >= 0.92
    unweighted = float((shares @ truth) / (shares @ booked) * booked.sum() / truth.sum() - 1)
    assert unweighted < -0.02


def test_right_on_average_where_what_was_booked_is_wrong_by_half() -> None:
    booked, truth = lengths(6_000)
    assert booked.sum() / truth.sum() < 0.7
    assert abs(resampled((booked, truth), evenly(60, 6_000), 200, rambles=False)[0]) < 0.015


# ---- the rival -------------------------------------------------------------------------------------


def test_the_plain_ratio_is_that_of_the_textbooks() -> None:
    """Ratio 2, squares of what misses it 2 in all, s² = 1; t with 2 degrees of freedom is 4.303."""
    found = plain_ratio([(10, 21), (10, 19), (10, 20)], 1_000, 100)
    half = 4.303 * (1.0 * (1 - 3 / 100) / 3) ** 0.5 * 100
    assert found.corrected_nusd == 2_000
    assert [found.low_nusd, found.high_nusd] == pytest.approx([2_000 - half, 2_000 + half], rel=0.01)
