"""A threshold is as high as the data can prove, and never higher."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.quality import CalibratedThreshold, parse_quality_targets
from classifiers.training.risk_control import (
    GRID,
    TARGETS,
    Judged,
    calibrate,
    judged,
    least,
    log_capital,
    quality_targets,
    quality_targets_of_each,
    threshold_of,
)

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]


def prompts(n: int, seed: int = 0, *, noise: float = 0.15, stems: int | None = None) -> Arrays:
    """Scores that know, but for noise, how likely the small model is to fail where the baseline does not."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    scores = np.clip(hard + noise * rng.standard_normal(n), 0.0, 1.0)
    strong = (rng.random(n) < 0.9).astype(float)
    weak = strong * (rng.random(n) < 1.0 - 0.6 * hard)
    return scores, weak, strong, [str(number % (stems or n)) for number in range(n)]


def unit() -> st.SearchStrategy[float]:
    return st.floats(0.0, 1.0) | st.sampled_from([0.0, 0.5, 1.0])


rows = st.lists(st.tuples(unit(), unit(), unit(), st.sampled_from("abcdefghijklmnopqrstuvwxyz")), max_size=80)


def arranged(some: list[tuple[float, float, float, str]], copies: int = 1) -> Judged:
    columns = [np.array([row[at] for row in some] * copies) for at in range(3)]
    stems = [f"{row[3]}{copy}" for copy in range(copies) for row in some]
    return judged(*columns, stems)


def realised(data: Arrays, threshold: float) -> tuple[float, float]:
    """Large-model share and kept quality by the definition: stem by stem."""
    scores, weak, strong, stems = data
    groups = {stem: [at for at, other in enumerate(stems) if other == stem] for stem in sorted(set(stems))}
    small = scores < threshold
    routed = np.where(small, weak, strong)
    share = np.mean([np.mean(~small[at]) for at in groups.values()])
    return float(share), float(
        np.mean([routed[at].mean() for at in groups.values()]) / np.mean([strong[at].mean() for at in groups.values()])
    )


@pytest.mark.parametrize("stems", [None, 70])
def test_what_is_expected_is_what_routing_by_the_threshold_gives(stems: int | None) -> None:
    data = prompts(700, stems=stems)
    # In whole thousandths, some scores lie on the threshold: they belong to the baseline.
    data = (np.round(data[0], 2), *data[1:])
    for target in (0.7, 0.8, 0.9):
        found = calibrate(*data, target)
        assert (found.expected_strong_share, found.expected_quality) == pytest.approx(
            realised(data, found.threshold), abs=1e-6
        )


def test_the_capital_is_the_product_of_the_bets() -> None:
    scores, weak, strong, stems = prompts(60, stems=20)
    at = 400
    routed = np.where(scores < GRID[at], weak, strong)
    losses = np.array([np.mean([0.9 * strong[i] - routed[i] for i in range(60) if stems[i] == s]) for s in set(stems)])
    stakes = np.geomspace(3 / 20**0.5, 0.95, 6)
    expected = np.log(np.mean([np.prod(1 - stake * losses) for stake in stakes]))
    assert log_capital(judged(scores, weak, strong, stems), 0.9)[at] == pytest.approx(expected)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 30), st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4), st.floats(0.01, 0.5))
def test_a_stricter_target_never_has_a_higher_threshold(
    some: list[tuple[float, float, float, str]], copies: int, targets: list[float], delta: float
) -> None:
    data = arranged(some, copies)
    thresholds = [threshold_of(data, target, delta).threshold for target in sorted(targets)]
    assert thresholds == sorted(thresholds, reverse=True)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 30), st.lists(st.floats(0.001, 0.999), min_size=2, max_size=4), st.floats(0.05, 1.0))
def test_more_confidence_never_has_a_higher_threshold(
    some: list[tuple[float, float, float, str]], copies: int, deltas: list[float], target: float
) -> None:
    data = arranged(some, copies)
    thresholds = [threshold_of(data, target, delta).threshold for delta in sorted(deltas)]
    assert thresholds == sorted(thresholds)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 30), st.floats(0.05, 1.0), st.floats(0.001, 0.9))
def test_no_threshold_misses_on_the_data_that_chose_it(
    some: list[tuple[float, float, float, str]], copies: int, target: float, delta: float
) -> None:
    found = threshold_of(arranged(some, copies), target, delta)
    assert found.expected_quality >= target - 1e-6
    assert 0.0 <= found.expected_strong_share <= 1.0
    if found.threshold == 0.0:
        assert (found.expected_strong_share, found.expected_quality) == (1.0, 1.0)


def test_the_order_of_the_data_does_not_matter() -> None:
    scores, weak, strong, stems = prompts(500, stems=300)
    order = np.random.default_rng(1).permutation(500)
    shuffled = calibrate(scores[order], weak[order], strong[order], [stems[at] for at in order], 0.85)
    assert shuffled == calibrate(scores, weak, strong, stems, 0.85)


def test_a_perfect_classifier_hands_over_all_that_the_small_model_can_do() -> None:
    weak = np.array([1.0, 0.0] * 1_000)
    found = calibrate(1.0 - weak, weak, np.ones(2_000), list(map(str, range(2_000))), 0.95)
    # Its scores are 0 and 1, and 1 always belongs to the baseline.
    assert (found.threshold, found.expected_strong_share, found.expected_quality) == (0.001, 0.5, 1.0)
    assert found.warning is None


@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
def test_a_constant_score_is_all_or_nothing(score: float) -> None:
    weak, strong = np.array([1.0, 1.0, 0.0] * 500), np.ones(1_500)
    scores, stems = np.full(1_500, score), list(map(str, range(1_500)))
    strict, loose = (calibrate(scores, weak, strong, stems, target) for target in (0.9, 0.5))
    assert (strict.threshold, strict.expected_strong_share) == (0.0, 1.0)
    assert strict.warning is not None
    assert "the score does not tell" in strict.warning
    # A threshold lies just above the scores that were judged; a score of 1 belongs to the baseline at each.
    assert (loose.threshold, loose.expected_strong_share) == ((score + 0.001, 0.0) if score < 1.0 else (0.0, 1.0))


def enough(warning: str | None) -> int:
    assert warning is not None
    assert "are too few" in warning
    return int(warning.partition("about ")[2].split()[0])


def test_too_few_prompts_leave_all_to_the_baseline_and_say_how_many_would_do() -> None:
    few = calibrate(*prompts(20), 0.95)
    assert (few.threshold, few.expected_strong_share, few.examples) == (0.0, 1.0, 20)
    assert enough(few.warning) > 20


def test_as_many_as_the_warning_says_are_enough() -> None:
    scores, weak, strong, stems = prompts(150, noise=0.02)
    needed = enough(calibrate(scores, weak, strong, stems, 0.95).warning)
    copies = -(-needed // 150)
    again = [f"{stem}-{copy}" for copy in range(copies) for stem in stems]
    more = calibrate(np.tile(scores, copies), np.tile(weak, copies), np.tile(strong, copies), again, 0.95)
    assert more.threshold > 0.0
    assert more.warning is None


def test_without_data_all_goes_to_the_baseline() -> None:
    nothing = np.array([])
    found = calibrate(nothing, nothing, nothing, [], 0.95)
    assert (found.threshold, found.expected_strong_share, found.examples) == (0.0, 1.0, 0)
    assert enough(found.warning) == pytest.approx(least(0.95, 0.1) or 0, rel=0.1)
    assert "would not help" in (calibrate(nothing, nothing, nothing, [], 1.0).warning or "")


def test_a_baseline_that_never_succeeds_certifies_nothing() -> None:
    scores, _, strong, stems = prompts(300)
    found = calibrate(scores, 0.0 * strong, 0.0 * strong, stems, 0.9)
    assert (found.threshold, found.expected_quality) == (0.0, 1.0)


def test_a_small_model_that_is_better_serves_everything_even_at_full_quality() -> None:
    scores, weak, strong, stems = prompts(2_000)
    found = calibrate(scores, strong, weak, stems, 1.0)
    assert found.expected_strong_share < 0.1  # where the score is 1
    assert found.expected_quality > 1.2


def test_rows_of_one_stem_count_as_one_prompt() -> None:
    scores, weak, strong, stems = prompts(40)
    alone = calibrate(scores, weak, strong, stems, 0.8)
    fifty = [np.repeat(column, 50) for column in (scores, weak, strong)]
    assert calibrate(*fifty, [stem for stem in stems for _ in range(50)], 0.8) == alone


def test_the_table_is_plain_data() -> None:
    table = quality_targets(judged(*prompts(3_000)), "made-up prompts", "small", "large")
    assert table.allowed() == TARGETS
    assert parse_quality_targets(json.loads(json.dumps(table.as_json()))) == table
    assert all(isinstance(entry, CalibratedThreshold) and entry.confidence == 0.9 for entry in table.thresholds)


def test_a_table_of_several_sources_keeps_its_targets_on_each() -> None:
    scores, weak, strong, stems = prompts(3_000)
    worse = judged(scores, weak * (scores < 0.4), strong, stems)
    sources = {"usual": judged(scores, weak, strong, stems), "worse": worse}
    table = quality_targets_of_each(sources, "small", "large", targets=(0.8, 0.9, 0.95))
    assert table.calibrated_on == "usual, worse"
    for entry in table.thresholds:
        alone = [threshold_of(data, entry.target, 0.05) for data in sources.values()]
        assert entry.threshold == min(one.threshold for one in alone) > 0.0
        at = int(np.searchsorted(GRID, entry.threshold))
        assert entry.expected_quality == pytest.approx(min(data.quality()[at] for data in sources.values()), abs=1e-6)
        assert entry.expected_quality >= entry.target
        assert (entry.examples, entry.confidence) == (6_000, 0.9)


def test_a_source_without_enough_prompts_decides_and_is_named() -> None:
    few = judged(*prompts(10))
    table = quality_targets_of_each({"many": judged(*prompts(3_000)), "few": few}, "small", "large", targets=(0.95,))
    (entry,) = table.thresholds
    assert (entry.threshold, entry.expected_strong_share, entry.expected_quality) == (0.0, 1.0, 1.0)
    assert (entry.warning or "").startswith("few: 10 judged prompts are too few")
    with pytest.raises(ValueError, match="at least one source"):
        quality_targets_of_each({}, "small", "large")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target": 0.0}, "0 < target <= 1"),
        ({"target": 1.1}, "0 < target <= 1"),
        ({"delta": 0.0}, "0 < delta < 1"),
        ({"scores": np.array([0.5, float("nan")])}, "scores must lie in"),
        ({"weak": np.array([0.5, 2.0])}, "weak must lie in"),
        ({"stems": ["one"]}, "as many of each"),
    ],
)
def test_what_cannot_be_calibrated_is_said(changes: dict[str, object], says: str) -> None:
    two = np.array([0.5, 0.5])
    values = {"scores": two, "weak": two, "strong": two, "stems": ["a", "b"], "target": 0.9, "delta": 0.1} | changes
    with pytest.raises(ValueError, match=says):
        calibrate(**values)  # type: ignore[arg-type]
