"""What each figure must be where it can be known by other means."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.training import metrics
from classifiers.training.metrics import Curve, FloatArray

OUTCOME = st.sampled_from([0.0, 0.25, 0.5, 1.0])
PROMPT = st.tuples(st.integers(0, 5).map(float), OUTCOME, OUTCOME)
FEW_PROMPTS = st.lists(PROMPT, min_size=1, max_size=6)
PROMPTS = st.lists(PROMPT, min_size=1, max_size=40)


def columns(prompts: list[tuple[float, float, float]]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scores, weak outcomes, strong outcomes."""
    scores, weak, strong = np.array(prompts, dtype=np.float64).T
    return scores, weak, strong


def has_gap(curve: Curve) -> bool:
    return bool(curve.strong > curve.weak + 1e-6)


def by_hand(order: tuple[int, ...], weak: FloatArray, strong: FloatArray) -> FloatArray:
    """Quality after sending 0, 1, 2 ... of the prompts in that order to the strong model."""
    answers = weak.copy()
    quality = [answers.mean()]
    for prompt in order:
        answers[prompt] = strong[prompt]
        quality.append(answers.mean())
    return np.array(quality)


@given(FEW_PROMPTS)
def test_ties_are_the_mean_over_all_orders(prompts: list[tuple[float, float, float]]) -> None:
    scores, weak, strong = columns(prompts)
    orders = [
        order for order in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    expected = np.mean([by_hand(order, weak, strong) for order in orders], axis=0)
    curve = metrics.quality_curve(scores, weak, strong)
    shares = np.arange(len(scores) + 1) / len(scores)
    np.testing.assert_allclose(np.interp(shares, curve.share, curve.quality), expected, atol=1e-12)
    if has_gap(curve):
        area = ((expected[1:] + expected[:-1]) / 2).mean()
        assert float(metrics.apgr(curve)) == pytest.approx((area - weak.mean()) / (strong.mean() - weak.mean()))


@given(PROMPTS, st.floats(0, 1))
def test_a_constant_score_is_random(prompts: list[tuple[float, float, float]], level: float) -> None:
    _, weak, strong = columns(prompts)
    curve = metrics.quality_curve(np.full(len(weak), 0.3), weak, strong)
    if has_gap(curve):
        assert float(metrics.apgr(curve)) == pytest.approx(0.5)
        assert float(metrics.call_share_for_gap(curve, level)) == pytest.approx(level, abs=1e-6)


@given(PROMPTS)
def test_the_perfect_order_is_the_best_and_its_reverse_the_worst(prompts: list[tuple[float, float, float]]) -> None:
    scores, weak, strong = columns(prompts)
    best, mine, worst = (metrics.quality_curve(s, weak, strong) for s in (strong - weak, scores, weak - strong))
    if has_gap(mine):
        assert float(metrics.apgr(best)) >= float(metrics.apgr(mine)) - 1e-9
        assert float(metrics.apgr(worst)) <= float(metrics.apgr(mine)) + 1e-9
        assert float(metrics.apgr(best)) + float(metrics.apgr(worst)) == pytest.approx(1.0)


@given(PROMPTS)
def test_only_the_order_of_scores_counts(prompts: list[tuple[float, float, float]]) -> None:
    scores, weak, strong = columns(prompts)
    mine, stretched = (metrics.quality_curve(s, weak, strong) for s in (scores, np.exp(3 * scores) - 7))
    np.testing.assert_array_equal(mine.share, stretched.share)
    np.testing.assert_array_equal(mine.quality, stretched.quality)


@given(PROMPTS, st.data())
def test_a_weight_is_a_repetition(prompts: list[tuple[float, float, float]], data: st.DataObject) -> None:
    scores, weak, strong = columns(prompts)
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))))
    if not counts.sum():
        return
    weighted = metrics.quality_curve(scores, weak, strong, counts[None, :])
    repeated = metrics.quality_curve(*(np.repeat(values, counts) for values in (scores, weak, strong)))
    if has_gap(repeated):
        assert float(metrics.apgr(weighted)[0]) == pytest.approx(float(metrics.apgr(repeated)))
        for level in (0.5, 0.8):
            mine, other = (float(np.ravel(metrics.call_share_for_gap(c, level))[0]) for c in (weighted, repeated))
            assert mine == pytest.approx(other, abs=1e-6)
    mine, other = (float(np.ravel(metrics.call_share_for_quality(c, 0.95))[0]) for c in (weighted, repeated))
    assert mine == pytest.approx(other, abs=1e-6)


@given(PROMPTS, st.floats(0.01, 1))
def test_the_level_is_met_where_it_is_said_to_be_first_met(
    prompts: list[tuple[float, float, float]], level: float
) -> None:
    curve = metrics.quality_curve(*columns(prompts))
    share = float(metrics.call_share_for_quality(curve, level))
    target = level * float(curve.strong)
    assert 0.0 <= share <= 1.0
    assert np.interp(share, curve.share, curve.quality) >= target - 1e-6
    assert (curve.quality[curve.share < share - 1e-6] < target + 1e-6).all()


def test_a_small_case_by_hand() -> None:
    # Sent first: a prompt that gains 1, then one that gains 0, then two of one score that gain 1 and 0.
    curve = metrics.quality_curve([0.9, 0.7, 0.2, 0.2], [0, 1, 0, 1], [1, 1, 1, 1])
    np.testing.assert_allclose(curve.share, [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(curve.quality, [0.5, 0.75, 0.75, 1])
    np.testing.assert_allclose(metrics.recovered_gap(curve), [0, 0.5, 0.5, 1])
    assert float(metrics.apgr(curve)) == pytest.approx(0.25 * 0.25 + 0.25 * 0.5 + 0.5 * 0.75)
    assert float(metrics.call_share_for_gap(curve, 0.5)) == pytest.approx(0.25)
    assert float(metrics.call_share_for_gap(curve, 0.8)) == pytest.approx(0.5 + 0.5 * 0.6)
    assert float(metrics.call_share_for_quality(curve, 0.5)) == 0.0


@pytest.mark.parametrize("strong", [[0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
def test_without_a_gap_there_is_nothing_to_recover(strong: list[float]) -> None:
    curve = metrics.quality_curve([0.1, 0.9], [0.5, 0.5], strong)
    assert np.isnan(metrics.apgr(curve))
    assert np.isnan(metrics.call_share_for_gap(curve, 0.5))
    assert np.isnan(metrics.random_apgr_sd([0.5, 0.5], strong))
    assert float(metrics.call_share_for_quality(curve, 0.95)) == 0.0


def test_the_noise_of_random_orders_is_what_simulation_finds() -> None:
    rng = np.random.default_rng(7)
    weak, strong = rng.random(60), rng.random(60) * 0.5 + 0.5
    found = [float(metrics.apgr(metrics.quality_curve(rng.random(60), weak, strong))) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)
    assert metrics.random_apgr_sd(weak, strong) == pytest.approx(np.std(found), rel=0.06)


def test_the_saving_is_a_share_of_what_the_strong_model_alone_costs() -> None:
    assert float(metrics.saving(0.0, 30)) == pytest.approx(29 / 30)
    assert float(metrics.saving(0.25, 30)) == pytest.approx(1 - (0.25 * 30 + 0.75) / 30)
    assert float(metrics.saving(1.0, 30)) == 0.0
    with pytest.raises(ValueError, match=r"at least 1, not 0\.5"):
        metrics.saving(0.5, 0.5)


def test_brier_is_the_mean_squared_difference() -> None:
    assert float(metrics.brier([0.0, 1.0, 0.5], [0, 0, 1])) == pytest.approx((0 + 1 + 0.25) / 3)
    np.testing.assert_allclose(metrics.brier([0.0, 1.0], [0, 0], [[1, 0], [1, 1]]), [0.0, 0.5])


def test_bins_hold_equal_numbers_and_do_not_split_equal_scores() -> None:
    bins = metrics.reliability([0.1] * 5 + [0.2, 0.3, 0.4, 0.5, 0.6], [0] * 5 + [1, 0, 1, 1, 1], bin_count=5)
    assert [each.count for each in bins] == [6, 2, 2]
    assert [each.mean_score for each in bins] == pytest.approx([0.7 / 6, 0.35, 0.55])
    assert [each.shortfall_share for each in bins] == pytest.approx([1 / 6, 0.5, 1.0])
    expected = (abs(1 - 0.7) + 2 * 0.15 + 2 * 0.45) / 10
    assert metrics.expected_calibration_error(bins) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60), st.integers(1, 12))
def test_bins_keep_every_prompt_and_rise(prompts: list[tuple[int, bool]], bin_count: int) -> None:
    scores, shortfalls = [score / 8 for score, _ in prompts], [float(fell) for _, fell in prompts]
    bins = metrics.reliability(scores, shortfalls, bin_count)
    assert sum(each.count for each in bins) == len(prompts)
    assert len(bins) <= bin_count
    assert sum(each.count * each.shortfall_share for each in bins) == pytest.approx(sum(shortfalls))
    means = [each.mean_score for each in bins]
    assert all(low < high for low, high in pairwise(means))


@pytest.mark.parametrize(
    ("scores", "complaint"), [([0.1], "as many"), ([], "as many"), ([0.1, float("nan")], "not finite")]
)
def test_scores_that_cannot_rank_are_refused(scores: list[float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        metrics.quality_curve(scores, [0.0, 0.0], [1.0, 1.0])
