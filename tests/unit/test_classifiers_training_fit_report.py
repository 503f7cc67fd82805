"""The figures of a fit are those of its evidence, and what would mislead is warned of."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.evidence import Evidence
from classifiers.training.fit import SECONDS_PER_DAY, fit
from classifiers.training.fit_report import Learned, as_json, learned, usable

NOW_S = 1_800_000_000.0


def judged(
    task: str, share: float, count: int, *, score: float = 0.5, age_days: float = 0.0, kind: str | None = None
) -> list[Evidence]:
    rng = np.random.default_rng(5)
    time_s = NOW_S - age_days * SECONDS_PER_DAY
    return [
        Evidence(f"team.{task}.{task}.", "small", score, float(rng.random() < share), kind, time_s=time_s, excerpt=task)
        for _ in range(count)
    ]


def report(items: list[Evidence]) -> Learned:
    (only,) = learned(fit(items, "rules@1", NOW_S), items)
    return only


def test_groups_come_with_what_was_found_and_what_is_said() -> None:
    items = [*judged("hard", 0.9, 60, kind="law"), *judged("easy", 0.1, 40, kind="chat")]
    found = {(line.level, line.excerpt or line.key): line for line in report(items).groups}
    assert list(found) == [
        ("task", "law"), ("task", "chat"), ("application", "team"), ("opening", "hard"), ("opening", "easy")
    ]  # fmt: skip
    hard = found["opening", "hard"]
    assert (hard.judged, hard.prior_score) == (60.0, 0.5)
    assert hard.mean_outcome == pytest.approx(np.mean([item.outcome for item in items[:60]]))
    assert hard.posterior_score == pytest.approx(hard.mean_outcome, abs=0.1)


def test_calibration_is_measured_on_what_was_held_back() -> None:
    found = report([*judged("hard", 0.9, 60), *judged("easy", 0.1, 60)]).calibration
    assert found is not None
    assert found.judgements == 120
    assert found.brier_before == 0.25
    assert found.brier_after < 0.15
    assert found.mean_after == pytest.approx(found.mean_outcome, abs=0.05)


def test_too_little_to_measure_is_said() -> None:
    found = report(judged("hard", 0.9, 10))
    assert found.calibration is None
    assert "10 judgements are few" in found.warnings[0]


def test_no_gain_is_said() -> None:
    """The scores were right already: nothing is left to learn."""
    found = report([*judged("hard", 1.0, 60, score=1.0), *judged("easy", 0.0, 60, score=0.0)])
    assert any("no better" in warning for warning in found.warnings)


def test_old_evidence_is_said_to_be_old() -> None:
    assert any("decayed" in warning for warning in report(judged("hard", 0.9, 60, age_days=90)).warnings)


def test_evidence_without_weight_is_no_evidence() -> None:
    forgotten = judged("hard", 0.9, 60, age_days=10_000)
    assert report(forgotten).calibration is None


def test_what_another_classifier_scored_is_left_out() -> None:
    mine, anyones = judged("a", 0.5, 1), judged("b", 0.5, 1)
    items = [Evidence("x", "small", 0.5, 1.0, classifier="other@2"), *mine, *anyones]
    assert usable(items, "rules@1") == ([*mine, *anyones], 1)


def test_the_json_has_everything() -> None:
    items = judged("hard", 0.9, 60)
    fitted = fit(items, "rules@1", NOW_S)
    values = as_json(fitted, learned(fitted, items))
    assert values["prior"] == "rules@1"
    assert values["small_models"][0]["groups"][0]["key"] == "team"
