"""What is learned from evidence: which tasks are hard, how far the classifier is to be believed, how sure one is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from classifiers import posterior
from classifiers.evidence import Evidence
from classifiers.posterior import LEVELS, Posterior
from classifiers.training import fit as module
from classifiers.training.fit import SECONDS_PER_DAY, decayed, fit, fit_rows, rows_of

NOW_S = 1_800_000_000.0


def judgements(
    shares: dict[str, float], count: int, seed: int = 0, *, score: float | None = None, time_s: float = NOW_S
) -> list[Evidence]:
    """`count` of each task, whose outcome is 1 with the given probability; scores are random unless given."""
    rng = np.random.default_rng(seed)
    return [
        Evidence(
            f"team.{task}.{task}.",
            "small",
            float(rng.uniform(0.2, 0.8)) if score is None else score,
            float(rng.random() < share),
            time_s=time_s,
        )
        for task, share in shares.items()
        for _ in range(count)
    ]


def learned(items: Sequence[Evidence], half_life_days: float = 30.0) -> Posterior:
    return fit_rows(rows_of(items, NOW_S, half_life_days), "rules@1", "small")


def score_of(fitted: Posterior, task: str, score: float = 0.5) -> float:
    return fitted.estimate(score, None, f"team.{task}.{task}.").score


def test_no_evidence_leaves_the_classifier_as_it_is() -> None:
    fitted = learned([])
    for score in (0.1, 0.5, 0.9):
        assert fitted.estimate(score, "law", "a.b.c.d").score == pytest.approx(score, abs=0.12)
    assert fit([], "rules@1", NOW_S).posteriors == ()


def test_each_task_moves_to_its_own_share() -> None:
    shares = {"hard": 0.9, "middling": 0.5, "easy": 0.1}
    fitted = learned(judgements(shares, 200))
    for task, share in shares.items():
        assert score_of(fitted, task) == pytest.approx(share, abs=0.08)


def test_few_judgements_move_a_task_less_than_many() -> None:
    others = judgements({"a": 0.3, "b": 0.4, "c": 0.5, "d": 0.4}, 40)
    few, many = (learned([*others, *judgements({"new": 1.0}, count)]) for count in (2, 40))
    assert 0.42 < score_of(few, "new") < 0.8 < score_of(many, "new")
    assert few.estimate(0.5, None, "team.new.new.").sd > many.estimate(0.5, None, "team.new.new.").sd


def test_the_stated_spread_is_about_the_true_one() -> None:
    """Over many draws, the true share lies within two standard deviations nearly always."""
    shares = {f"t{at}": share for at, share in enumerate(np.linspace(0.15, 0.85, 12))}
    misses = 0
    for seed in range(10):
        fitted = learned(judgements(shares, 15, seed))
        for task, share in shares.items():
            estimate = fitted.estimate(0.5, None, f"team.{task}.{task}.")
            misses += abs(estimate.score - share) > 2 * estimate.sd
    assert misses <= 0.1 * 120


def test_a_classifier_that_knows_nothing_of_requests_is_silenced_within_tasks() -> None:
    fitted = learned(judgements({"hard": 0.8, "easy": 0.2}, 300))
    assert fitted.slope_within < 0.25


def test_one_that_knows_them_is_believed() -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.1, 0.9, 600)
    items = [Evidence("team.x.x.", "small", float(s), float(rng.random() < s), time_s=NOW_S) for s in scores]
    assert learned(items).slope_within == pytest.approx(1.0, abs=0.25)


def test_none_is_turned_round() -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.1, 0.9, 600)
    items = [Evidence("team.x.x.", "small", float(s), float(rng.random() > s), time_s=NOW_S) for s in scores]
    assert learned(items).slope_within == 0.0


def test_what_never_recurs_is_one_group() -> None:
    items = [Evidence(f"team.{at}.{at}.{at}", "small", 0.5, 1.0, time_s=NOW_S) for at in range(500)]
    groups = [set(level.groups) for level in learned(items).levels]
    assert groups == [set(), {"team"}, {"team.*"}, set(), {"team...*"}]
    assert learned(items).estimate(0.5, None, "team.new.new.new").score > 0.9


def test_groups_are_bounded_and_the_lightest_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_LIMIT", 3)
    items = [item for at in range(6) for item in judgements({f"t{at}": 0.5}, 2 + at)]
    assert set(learned(items).levels[LEVELS.index("opening")].groups) == {"team.t5", "team.t4", "team.t3"}


def test_outliers_and_certainty_do_not_break_it() -> None:
    """All of one outcome, against scores that swore the opposite."""
    items = [*judgements({"x": 1.0}, 50, score=0.0), *judgements({"y": 0.0}, 50, score=1.0)]
    fitted = learned(items)
    assert score_of(fitted, "x", 0.0) > 0.75
    assert score_of(fitted, "y", 1.0) < 0.25
    assert all(np.isfinite(group.offset) for level in fitted.levels for group in level.groups.values())


def test_old_judgements_fade() -> None:
    item = Evidence("a", "small", 0.5, 1.0, weight=2.0, time_s=NOW_S - 60 * SECONDS_PER_DAY)
    assert decayed(item, NOW_S, 30.0) == pytest.approx(0.5)
    assert decayed(item, NOW_S - 90 * SECONDS_PER_DAY, 30.0) == 2.0
    before = judgements({"x": 1.0}, 40, time_s=NOW_S - 90 * SECONDS_PER_DAY)
    after = judgements({"x": 0.0}, 40)
    assert score_of(learned([*before, *after], half_life_days=30.0), "x") < 0.25
    assert score_of(learned([*before, *after], half_life_days=1e5), "x") == pytest.approx(0.5, abs=0.1)


def test_what_is_forgotten_is_left_out() -> None:
    long_ago = judgements({"x": 1.0}, 40, time_s=NOW_S - 900 * SECONDS_PER_DAY)
    assert learned(long_ago).judged == 0.0
    assert len(rows_of([Evidence("a", "small", 0.5, 1.0, weight=0.0, time_s=NOW_S)], NOW_S, 30.0).logits) == 0


def test_each_small_model_has_its_own() -> None:
    one = judgements({"x": 1.0}, 30)
    other = [Evidence(item.fingerprint, "tiny", item.score, 0.0, time_s=NOW_S) for item in one[:20]]
    both = fit([*one, *other], "rules@1", NOW_S)
    assert both.small_models == ("small", "tiny")
    assert [score_of(fitted, "x") > 0.5 for fitted in both.posteriors] == [True, False]


def test_the_same_evidence_gives_a_file_that_can_be_read(tmp_path: object) -> None:
    items = judgements({f"t{at}": 0.5 for at in range(40)}, 5)
    one, other = (fit(items, "rules@1", NOW_S) for _ in range(2))
    assert one == other
    path = tmp_path / "fit.json"  # type: ignore[operator]
    one.write(path)
    assert posterior.read(path) == one


def test_a_models_own_kind_of_task_helps_where_nothing_else_is_known() -> None:
    items = [
        Evidence(f"team{at}", "small", 0.5, float(kind == "law"), kind, time_s=NOW_S)
        for at in range(30)
        for kind in ("law", "chat")
    ]
    fitted = learned(items)
    assert (
        fitted.estimate(0.5, "law", "elsewhere").score > 0.65 > 0.35 > fitted.estimate(0.5, "chat", "elsewhere").score
    )
