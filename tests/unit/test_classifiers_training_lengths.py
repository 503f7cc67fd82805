"""What is learned of lengths leaves their scale alone; what is measured agrees with sums made by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from classifiers.lengths import MEAN_SHARE, P95_DEVIATIONS, LengthModel, hand_set
from classifiers.training.datasets import Example
from classifiers.training.lengths import (
    SHAPE_BOUNDS,
    Answered,
    LengthScore,
    evaluate,
    pinball,
    read_answers,
    table,
    train,
)
from tests.support.replay import recordings_path, text_tokens


def example(dataset: str, prompt: str, weak_chars: int | None, model: str = "m") -> Example:
    return Example(
        dataset=dataset,
        id="",
        subset="",
        lang="en",
        prompt=prompt,
        weak_model=model,
        strong_model="s",
        weak_score=0.0,
        strong_score=1.0,
        stem=prompt,
        contaminated=False,
        extra={} if weak_chars is None else {"weak_chars": weak_chars},
    )


def exam(dataset: str, scale: float, seed: int, low: float = -1.0) -> list[Example]:
    """Answers whose logarithms spread evenly from `low` to 1, at a scale of the source's own."""
    rng = np.random.default_rng(seed)
    return [example(dataset, f"moss {n}", int(scale * np.exp(rng.uniform(low, 1.0)))) for n in range(400)]


def test_the_scale_of_a_source_is_not_learned() -> None:
    low, high = train(exam("a", 1_000.0, 1), seed=0), train(exam("a", 100_000.0, 1), seed=0)
    assert low["length_base"] == pytest.approx(high["length_base"], abs=0.01)
    for key, value in hand_set().items():
        assert low[key][:2].tolist() == value[:2].tolist()


def test_the_shape_of_the_law_is_learned_within_bounds() -> None:
    mean_share, deviations = train([*exam("a", 500.0, 3), *exam("b", 9_000.0, 4)], seed=0)["length_base"][2:]
    assert deviations == pytest.approx(0.9 / np.sqrt(1 / 3), rel=0.1)
    assert mean_share == pytest.approx(np.log(np.sinh(1.0)) * 3, rel=0.15)
    runaway = [*exam("a", 500.0, 3), *[example("a", "stone", 10**7)] * 40]
    assert train(runaway, seed=0)["length_base"][2:].tolist() == [bound[1] for bound in np.transpose(SHAPE_BOUNDS)]
    constant = [example("a", f"moss {n}", 70) for n in range(10)]
    assert train(constant, seed=0)["length_base"][2:].tolist() == [MEAN_SHARE, P95_DEVIATIONS]


def test_without_recorded_lengths_the_hand_set_model_comes_out() -> None:
    arrays = train([example("a", "moss", None), example("a", "stone", 0)], seed=0)
    assert {key: value.tolist() for key, value in arrays.items()} == {k: v.tolist() for k, v in hand_set().items()}


def test_training_is_reproducible_and_its_arrays_serve() -> None:
    examples = exam("a", 500.0, 1) + exam("b", 900.0, 2)
    first, second = train(examples, seed=7), train(examples, seed=7)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert all(key.startswith("length_") for key in first)
    LengthModel(first)


def test_pinball_by_hand() -> None:
    tokens, estimates = np.array([10.0, 10.0]), np.array([4.0, 12.0])
    assert pinball(tokens, estimates, 0.5) == pytest.approx((3.0 + 1.0) / 2)
    assert pinball(tokens, estimates, 0.95) == pytest.approx((0.95 * 6 + 0.05 * 2) / 2)


def scores(rows: list[Answered]) -> dict[str, LengthScore]:
    return {score.method: score for score in evaluate(LengthModel(), rows, buckets=2)}


def test_an_answer_that_follows_the_cues_is_estimated_better_than_by_a_constant() -> None:
    rows = [
        Answered(f"Write {words} words about moss {n}", {"m": int(words * 1.4)})
        for n in range(9)
        for words in (20, 60, 200, 400)
    ]
    found = scores(rows)
    assert found["cues"].median < found["constant"].median / 3
    assert found["cues"].p95 < found["constant"].p95
    assert found["cues, rescaled"].median <= found["cues"].median


def test_constants_and_buckets_are_the_best_of_their_kind() -> None:
    rows = [Answered("moss", {"m": 10}), Answered("stone " * 50, {"m": 90}), Answered("fern", {"m": 10})]
    found = scores(rows)
    assert found["constant"].median == pytest.approx(80 / 2 / 3)
    assert found["length bucket"].median == 0
    assert found["length bucket"].covered == 1.0
    assert found["length bucket"].mean_error == 0
    assert found["bucket, held out"].median == pytest.approx((80 / 2) / 3)


def test_each_model_is_scored_on_its_own_answers() -> None:
    rows = [Answered("moss", {"a": 10, "b": 500}), Answered("fern", {"a": 10})]
    assert [score.model for score in evaluate(LengthModel(), rows)] == ["a"] * 6 + ["b"] * 6
    lines = table(evaluate(LengthModel(), rows)).splitlines()
    assert len(lines) == 13
    assert len({len(line) for line in lines}) == 1


def test_recorded_answers_are_read_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"prompt": "moss?", "answers": {"m": "green moss"}}) + "\n")
    assert read_answers(path, lambda text: len(text.split())) == [Answered("moss?", {"m": 2})]


@pytest.mark.replay
@pytest.mark.skipif(
    not recordings_path().exists(),
    reason="the recorded answers are not here; PARSIMONY_SHARED may name the folder that holds data/replay",
)
@pytest.mark.parametrize("answers_of", ["mistral-7b-instruct", "gpt-4-1106-preview"])
def test_on_recorded_answers_the_cues_beat_constants_and_buckets_fitted_to_them(answers_of: str) -> None:
    rows = [
        Answered(row.prompt, {answers_of: row.output_tokens[answers_of]})
        for row in read_answers(recordings_path(), text_tokens)
    ]
    found = {score.method: score for score in evaluate(LengthModel(), rows)}
    assert found["cues"].median < found["length bucket"].median < found["constant"].median
    # The 95th percentile is no better than a constant that has seen other answers of the same kind, and no worse.
    assert found["cues"].p95 < 1.03 * found["constant, held out"].p95
    assert 0.93 < found["cues"].covered < 0.97
