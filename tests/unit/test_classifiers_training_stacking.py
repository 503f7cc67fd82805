"""A forest is learned where judged prompts say something of others, and left out where they are few or say nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifiers.adapted import AdaptedClassifier, adapt
from classifiers.base import Classification, Message, Prompt
from classifiers.evidence import Evidence, parse
from classifiers.forest import Floats
from classifiers.heuristic import HeuristicClassifier
from classifiers.posterior import PosteriorError, read
from classifiers.registry import create
from classifiers.training.fit import fit
from classifiers.training.stacking import (
    LEAST_PROMPTS,
    Stacked,
    curve,
    gain_weights,
    ranking,
    ranks_better_by,
    stacked,
    stacked_by_model,
)

NOW_S = 1_800_000_000.0
WIDTH = 6


class Measured:
    """A classifier that measures what the test says, and scores at random."""

    moderate_from, complex_from, measured_width = 0.35, 0.65, WIDTH

    def classify(self, prompt: Prompt) -> Classification:
        return self.examine(prompt)[0]

    def examine(self, prompt: Prompt) -> tuple[Classification, Floats]:
        values = json.loads(prompt.messages[-1].text) if prompt.messages else [0.0] * WIDTH
        return Classification(values[-1], "moderate", (), "measured@1"), np.array(values, np.float32)


def judged(count: int, *, learnable: bool = True, seed: int = 0) -> list[Evidence]:
    """The second number alone tells what the small model cannot do; the score says nothing."""
    rng = np.random.default_rng(seed)
    items = []
    for row in rng.uniform(0.05, 0.95, (count, WIDTH)).astype(np.float32):
        chance = (0.8 if row[1] > 0.5 else 0.1) if learnable else 0.4
        outcome = float(rng.random() < chance)
        items.append(Evidence("a...", "small", float(row[-1]), outcome, time_s=NOW_S, measured=row))
    return items


def learned(items: list[Evidence]) -> Stacked:
    return stacked(items, NOW_S, 30.0)


def test_what_was_learned_ranks_other_prompts() -> None:
    items, others = judged(500), judged(400, seed=1)
    found = learned(items)
    assert found.stack is not None
    assert found.report.used
    assert found.report.brier_with is not None and found.report.brier_without is not None
    assert found.report.brier_with < found.report.brier_without - 0.03
    (posterior,) = fit(found.items, "measured@1", NOW_S, stacks={"small": found.stack}).posteriors
    scores = np.array([posterior.stacked(item.score, item.measured) for item in others if item.measured is not None])
    hard = np.array([item.measured is not None and item.measured[1] > 0.5 for item in others])
    assert scores[hard].mean() == pytest.approx(0.75, abs=0.15)
    assert scores[~hard].mean() == pytest.approx(0.15, abs=0.1)


def test_stacked_scores_are_of_trees_that_did_not_see_the_prompt() -> None:
    """A thousand copies of one prompt are one prompt: it is never judged by itself."""
    items = judged(400)
    same = replace(items[0], outcome=1.0)
    assert items[0].measured is not None
    assert items[0].measured[1] < 0.5
    found = learned([*items, *[same] * 40])
    assert found.stack is not None
    assert found.items[-1].score < 0.6
    assert found.items[-1].prior_score == same.score


def test_few_prompts_give_no_forest() -> None:
    items = judged(LEAST_PROMPTS - 1)
    found = learned(items + items)
    assert (found.stack, found.items) == (None, items + items)
    assert (found.report.prompts, found.report.needed) == (LEAST_PROMPTS - 1, LEAST_PROMPTS)
    assert found.report.brier_with is None


def test_prompts_that_say_nothing_do_no_harm() -> None:
    """The score is right, and nothing else matters: whatever becomes of the forest, others are ranked as well."""
    rng = np.random.default_rng(4)
    items = [replace(item, outcome=float(rng.random() < item.score)) for item in judged(900)]
    known, others = items[:300], items[300:]
    found = learned(known)
    (posterior,) = fit(found.items, "measured@1", NOW_S, stacks={"small": found.stack}).posteriors
    scores = np.array([posterior.stacked(item.score, item.measured) for item in others if item.measured is not None])
    plain, gains = (np.array([getattr(item, name) for item in others]) for name in ("score", "gain"))
    assert ranking(scores, gains, np.ones(600)) > ranking(plain, gains, np.ones(600)) - 0.05


def test_judgements_without_measurements_are_calibrated() -> None:
    recorded = [replace(item, measured=None) for item in judged(50, seed=2)]
    found = learned([*judged(400), *recorded])
    assert found.report.prompts == 400
    mean = np.mean([item.outcome for item in found.items])
    assert np.mean([item.score for item in found.items[-50:]]) == pytest.approx(mean, abs=0.1)


def test_the_same_evidence_gives_the_same_forest() -> None:
    items = judged(300)
    first, second = learned(items), learned(items)
    assert first.stack is not None and second.stack is not None
    assert first.stack.as_json() == second.stack.as_json()


def test_a_surplus_counts_against_the_baseline() -> None:
    """Where the small model is as often better as it falls short, the large one is worth nothing."""
    rng = np.random.default_rng(3)
    items = []
    for item in judged(600, learnable=False):
        assert item.measured is not None
        even = item.measured[1] > 0.5
        fell = float(rng.random() < (0.45 if even else 0.55))
        items.append(replace(item, outcome=fell, surplus=1.0 - fell if even else 0.0))
    found = learned(items)
    assert found.stack is not None
    sides = [np.array([0.5, side, 0.5, 0.5, 0.5, 0.5], np.float32) for side in (0.2, 0.8)]
    gains = [found.stack.forest.predict(side) for side in sides]
    assert gains[0] > gains[1] + 0.1


def test_each_small_model_has_its_own() -> None:
    few = [replace(item, small_model="tiny") for item in judged(10)]
    found = stacked_by_model([*few, *judged(300)], NOW_S, 30.0)
    assert [(name, each.stack is not None, len(each.items)) for name, each in found.items()] == [
        ("tiny", False, 10),
        ("small", True, 300),
    ]


def test_what_is_written_serves(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    found = learned(judged(500))
    fit(found.items, "measured@1", NOW_S, stacks={"small": found.stack}).write(path)
    assert path.stat().st_size < 300_000
    serving = adapt(Measured(), read(path), ("small",))
    easy, hard = (
        serving.classify(Prompt((Message("user", json.dumps([0.5, second, 0.5, 0.5, 0.5, 0.5])),)))
        for second in (0.2, 0.8)
    )
    assert easy.score < 0.25 < 0.65 < hard.score
    assert hard.prior_score == 0.5
    assert "like judged prompts" in hard.signals
    values = json.loads(path.read_text("utf-8"))
    values["small_models"]["small"]["stack"]["forest"]["roots"] = "////"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(PosteriorError, match=r"small_models\.small\.stack: "):
        read(path)


def test_a_forest_over_other_measurements_is_refused() -> None:
    found = learned(judged(500))
    fitted = fit(found.items, "heuristic@1", NOW_S, stacks={"small": found.stack})
    with pytest.raises(ValueError, match="a forest over 6 measurements, the classifier makes 0: fit anew"):
        adapt(HeuristicClassifier(), fitted, ("small",))


def test_a_line_with_its_prompt_is_measured_and_its_text_is_not_kept() -> None:
    classifier = create("learned")
    line = {"messages": [{"role": "user", "content": "A secret word: xylograph?"}], "small_model": "s", "outcome": 1}
    item = parse(json.dumps(line), "here:1", classifier, NOW_S)
    assert item.measured is not None
    assert item.measured[-1] == np.float32(item.score)
    assert "xylograph" not in item.as_json()
    assert "measured" not in item.as_json()
    routing = {"prompt": "x", "weak_model": "s", "weak_score": 0.9, "strong_score": 0.4}
    better = parse(json.dumps(routing), "here:1", classifier, NOW_S)
    assert (better.outcome, better.surplus, better.gain) == (0.0, 0.5, -0.5)


def test_without_a_stack_nothing_is_measured() -> None:
    (posterior,) = fit(judged(20), "measured@1", NOW_S).posteriors
    assert posterior.stacked(0.3, np.zeros(WIDTH, np.float32)) == 0.3
    assert AdaptedClassifier(HeuristicClassifier(), posterior).classify(Prompt(())).prior_score is not None


def test_weights_are_found_and_never_negative() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5000, 2))
    noise, ones = rng.normal(size=5000), np.ones(5000)
    found = gain_weights(inputs, 0.2 * inputs[:, 0] + 0.9 * inputs[:, 1] + 0.1 * noise, ones)
    assert found == pytest.approx([0.2, 0.9], abs=0.02)
    against = gain_weights(inputs, -0.5 * inputs[:, 0] + 0.9 * inputs[:, 1] + 0.1 * noise, ones)
    assert against == pytest.approx([0.0, 0.9], abs=0.02)


def test_the_curve_is_the_logistic_one() -> None:
    rng = np.random.default_rng(0)
    index = rng.normal(size=20_000)
    outcomes = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 + 2.0 * index)))).astype(float)
    assert curve(index, outcomes, np.ones(20_000)) == pytest.approx((0.5, 2.0), abs=0.1)
    assert curve(np.zeros(9), np.ones(9), np.ones(9))[1] == 0.0


def test_ranking_runs_from_random_to_perfect() -> None:
    gains = np.array([-1.0, 0.0, 0.5, 1.0])
    assert ranking(gains, gains, np.ones(4)) == pytest.approx(1.0)
    assert ranking(-gains, gains, np.ones(4)) == pytest.approx(-1.0)
    assert ranking(np.zeros(4), gains, np.ones(4)) == pytest.approx(0.0)
    assert ranking(gains, np.zeros(4), np.ones(4)) == 0.0
    assert ranks_better_by(-gains, gains, gains, np.ones(4)) > 1.0
    assert ranks_better_by(gains, gains, gains, np.ones(4)) == 0.0
