"""Contenders that know all, the opposite and nothing get the figures that can be reckoned by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from classifiers.training.bootstrap import Estimate
from classifiers.training.contenders import Contender, length
from classifiers.training.datasets import DatasetError, Pair
from classifiers.training.evaluation import GRID, Evaluation, Settings, Standing, evaluate, text_count
from classifiers.training.published import MIXTRAL_TO_GPT4
from tests.support.routing_examples import CONSTANT, INVERTED, PERFECT, dev, example, examples, needs_dev_files

ALL = (PERFECT, INVERTED, CONSTANT)
QUICK = Settings(resamples=40)


def row(evaluation: Evaluation, name: str) -> Standing:
    (found,) = (each for each in evaluation.rows if each.name == name)
    return found


def apgr(evaluation: Evaluation, name: str) -> Estimate:
    return row(evaluation, name).figures.apgr


# Four prompts: the small model is right on two, the large one on all. Sending the hard half first, quality is a
# straight line from .5 at no calls to 1 at half of them; sending it last, .5 up to half and then a line to 1.
@pytest.mark.parametrize(
    ("name", "area", "cpt50", "cpt80", "calls", "brier", "calibration_error"),
    [
        ("perfect", 0.875, 0.25, 0.4, 0.45, 0.0, 0.0),
        ("inverted", 0.625, 0.75, 0.9, 0.95, 1.0, 1.0),
        ("constant", 0.75, 0.5, 0.8, 0.9, 0.25, 0.0),
    ],
)
def test_figures_are_those_reckoned_by_hand(
    name: str, area: float, cpt50: float, cpt80: float, calls: float, brier: float, calibration_error: float
) -> None:
    (found,) = evaluate("four", examples(4), ALL, replace(QUICK, price_ratio=10.0))
    figures = row(found, name).figures
    assert figures.apgr.value == pytest.approx((area - 0.5) / 0.5)
    assert (figures.cpt50.value, figures.cpt80.value) == pytest.approx((cpt50, cpt80))
    assert (figures.calls.value, figures.saving.value) == pytest.approx((calls, (1 - calls) * 0.9))
    assert (figures.brier.value, figures.calibration_error.value) == pytest.approx((brier, calibration_error))


def test_the_facts_of_the_data_and_the_curve_are_told() -> None:
    (found,) = evaluate("four", [example(n, stem="one" if n < 2 else "") for n in range(4)], ALL, QUICK)
    assert (found.source, found.dataset, found.pair, found.langs) == ("four", "d", ("small", "large"), ("en",))
    assert (found.prompt_count, found.stem_count, found.dropped_count) == (4, 3, 0)
    assert (found.weak_mean, found.strong_mean, found.shortfall_share) == (0.5, 1.0, 0.5)
    assert [(each.name, each.kind) for each in found.rows] == [
        ("perfect", "measured"),
        ("inverted", "measured"),
        ("constant", "measured"),
        ("random", "expected"),
    ]
    quality, band = found.rows[0].quality, found.rows[0].band
    assert quality is not None and band is not None
    np.testing.assert_allclose(quality, np.minimum(1.0, 0.5 + GRID))
    assert band.shape == (2, len(GRID)) and (band[0] <= band[1]).all()


def test_a_score_that_is_no_probability_is_not_judged_as_one() -> None:
    (found,) = evaluate("four", examples(4), (Contender("points", lambda text: 7.0),), QUICK)
    points = row(found, "points")
    assert math.isnan(points.figures.brier.value) and math.isnan(points.figures.calibration_error.value)
    assert points.reliability == ()


def test_the_random_row_is_what_all_orders_come_to() -> None:
    orders = [Contender(str(n), _ranks(order)) for n, order in enumerate(permutations(range(4)))]
    (found,) = evaluate("four", examples(4), orders, Settings(resamples=20))
    reached = [each.figures.apgr.value for each in found.rows if each.kind == "measured"]
    random = row(found, "random").figures
    assert random.apgr.value == pytest.approx(np.mean(reached)) == 0.5
    assert found.noise_sd == pytest.approx(np.std(reached))
    assert (random.apgr.low, random.apgr.high) == pytest.approx(
        (0.5 - 1.96 * found.noise_sd, 0.5 + 1.96 * found.noise_sd), abs=1e-5
    )
    assert random.brier.value == 0.25


def _ranks(order: tuple[int, ...]) -> Callable[[str], float]:
    return lambda text: float(order[int(text.rsplit(" ", 1)[-1])])


def test_each_pair_is_an_evaluation_and_its_prompts_are_scored_once() -> None:
    other: Pair = ("small-b", "large")
    both = [*examples(6), *examples(4, pair=other)]
    judged: list[None] = []
    found = evaluate("two", both, ALL, QUICK, lambda: judged.append(None))
    assert [(each.pair, each.prompt_count) for each in found] == [(("small", "large"), 6), (other, 4)]
    assert len(judged) == text_count(both, ALL, QUICK) == 6 * len(ALL)


def test_contaminated_examples_are_dropped_or_kept() -> None:
    made = [*examples(4), *(example(n, contaminated=True) for n in (4, 6))]
    (dropped,) = evaluate("six", made, ALL, QUICK)
    assert (dropped.prompt_count, dropped.dropped_count, dropped.weak_mean) == (4, 2, 0.5)
    keep = replace(QUICK, drop_contaminated=False)
    (kept,) = evaluate("six", made, ALL, keep)
    assert (kept.prompt_count, kept.dropped_count, kept.weak_mean) == (6, 0, pytest.approx(1 / 3))
    two = evaluate("two", [*made, *examples(2, pair=("small-b", "large"))], ALL, QUICK)
    assert [each.dropped_count for each in two] == [2, 0]
    assert (text_count(made, ALL, QUICK), text_count(made, ALL, keep)) == (12, 18)


def test_nothing_but_contaminated_examples_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DatasetError, match=r"^f\.jsonl: every example is marked contaminated; --keep-contaminated"):
        evaluate("f.jsonl", [example(0, contaminated=True)], ALL, QUICK)


def _noisy(text: str) -> float:
    """Right on about two prompts in three."""
    number = int(text.rsplit(" ", 1)[-1])
    return float(("hard" in text) != (number % 3 == 0))


def test_intervals_hold_the_value_and_come_from_stems() -> None:
    noisy = Contender("noisy", _noisy, is_probability=True)
    settings = Settings(resamples=300)
    once = examples(60)
    (single,) = evaluate("single", once, (noisy,), settings)
    # The same prompts five times: as copies of their stems they say nothing new, as stems of their own they seem to.
    (copied,) = evaluate("copied", once * 5, (noisy,), settings)
    (flattered,) = evaluate("f", [replace(e, stem=f"{e.stem}.{k}") for k in range(5) for e in once], (noisy,), settings)
    for name in ("apgr", "cpt50", "cpt80", "calls", "saving", "brier"):
        alone, again = (getattr(row(each, "noisy").figures, name) for each in (single, copied))
        assert alone.low <= alone.value <= alone.high and alone.low < alone.high, name
        assert (again.low, again.value, again.high) == pytest.approx((alone.low, alone.value, alone.high)), name
    width, narrow = (apgr(each, "noisy").high - apgr(each, "noisy").low for each in (single, flattered))
    assert narrow == pytest.approx(width / math.sqrt(5), rel=0.25)
    assert evaluate("single", once, (noisy,), settings)[0].rows[0].figures == single.rows[0].figures


def test_where_the_large_model_is_no_better_there_is_no_gap_to_recover() -> None:
    (found,) = evaluate("worse", [replace(each, strong_score=0.0) for each in examples(4)], (PERFECT,), QUICK)
    for each in found.rows:
        assert math.isnan(each.figures.apgr.value) and math.isnan(each.figures.apgr.low)
        assert (each.figures.calls.value, each.figures.saving.value) == pytest.approx((0.0, 29 / 30))


def test_published_rows_stand_only_beside_the_very_data_they_were_found_on() -> None:
    def known(count: int, pair: Pair = MIXTRAL_TO_GPT4, dataset: str = "mt_bench") -> list[str]:
        (found,) = evaluate("f", examples(count, pair=pair, dataset=dataset), (CONSTANT,), QUICK)
        return [each.name for each in found.rows if each.kind == "published"]

    assert known(72) == ["RouteLLM, published"]
    assert known(71) == known(72, ("small", "large")) == known(72, dataset="gsm8k") == []
    mixed = [*examples(36, pair=MIXTRAL_TO_GPT4, dataset="mt_bench"), *examples(36, pair=MIXTRAL_TO_GPT4, dataset="z")]
    (found,) = evaluate("f", mixed, (CONSTANT,), QUICK)
    assert (found.dataset, [each.kind for each in found.rows]) == ("mt_bench + z", ["measured", "expected"])


@needs_dev_files
@pytest.mark.parametrize(
    ("name", "prompts", "contaminated", "of_length", "rows"),
    [("mmlu", 14_037, 5, 0.586, 5), ("gsm8k", 1_307, 12, 0.598, 5), ("mtbench", 72, 8, None, 3)],
)
def test_known_figures_are_reproduced(
    name: str, prompts: int, contaminated: int, of_length: float | None, rows: int
) -> None:
    (found,) = evaluate(name, dev(name), (length(),), Settings(resamples=20))
    assert (found.prompt_count, found.dropped_count, len(found.rows)) == (prompts, contaminated, rows)
    if of_length is not None:
        assert apgr(found, "prompt length").value == pytest.approx(of_length, abs=0.002)
    assert found.noise_sd == pytest.approx({"mmlu": 0.009, "gsm8k": 0.019, "mtbench": 0.06}[name], rel=0.15)
