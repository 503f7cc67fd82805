"""Prior and evidence in one score, and the file that carries them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.posterior import FORMAT, LEVELS, Fit, Group, Level, Posterior, PosteriorError, logit, read

NOTHING = Posterior("rules@1", "small", 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, tuple(Level(0.5, {}) for _ in LEVELS))


def knowing(**groups: dict[str, Group]) -> Posterior:
    return replace(NOTHING, levels=tuple(Level(0.5, groups.get(name, {})) for name in LEVELS))


HARD = Group(offset=2.0, information=20.0, weight=100.0, centre=0.0)
EASY = Group(offset=-2.0, information=20.0, weight=37.0, centre=0.0)
KNOWN = knowing(application={"a": Group(0.0, 50.0, 137.0, 0.0)}, opening={"a.hard": HARD, "a.easy": EASY, "a.*": EASY})


def fit_of(posterior: Posterior = KNOWN) -> Fit:
    return Fit("rules@1", 1_800_000_000.0, 30.0, (posterior,))


@given(score=st.floats(0.02, 0.98))
def test_without_evidence_the_classifier_is_believed_and_doubted(score: float) -> None:
    estimate = NOTHING.estimate(score, None, "")
    assert estimate.score == pytest.approx(score, abs=0.06)
    assert (estimate.judged, estimate.known_by) == (0.0, "")
    assert NOTHING.estimate(0.5, "law", "a.b.c.d").sd > NOTHING.estimate(0.5, None, "a").sd > 0.1


def test_a_task_is_moved_by_its_own_evidence() -> None:
    hard, easy = (KNOWN.estimate(0.5, None, f"a.{name}..") for name in ("hard", "easy"))
    assert (hard.score, easy.score) == (pytest.approx(0.88, abs=0.01), pytest.approx(0.12, abs=0.01))
    assert (hard.judged, hard.known_by) == (100.0, "opening")


def test_within_a_task_the_order_is_the_classifiers() -> None:
    scores = [KNOWN.estimate(score, None, "a.hard..").score for score in (0.1, 0.4, 0.6, 0.9)]
    assert scores == sorted(scores)
    silenced = replace(KNOWN, slope_within=0.0)
    assert len({silenced.estimate(score, None, "a.hard..").score for score in (0.1, 0.4, 0.6, 0.9)}) == 1


def test_between_unknown_tasks_it_is_the_other_slope_that_counts() -> None:
    blind_within = replace(NOTHING, slope_within=0.0)
    assert blind_within.estimate(0.9, None, "b.new..").score > blind_within.estimate(0.1, None, "b.new..").score + 0.5


def test_a_new_template_leans_on_the_one_offs_of_its_application() -> None:
    new, one_off = KNOWN.estimate(0.5, None, "a.new.."), KNOWN.estimate(0.5, None, "a.easy..")
    assert new.score == pytest.approx(one_off.score, abs=0.03)
    assert (new.judged, new.known_by) == (137.0, "application")


def test_it_is_in_doubt_unless_nearly_all_were_one_offs() -> None:
    def sd(of_all: float) -> float:
        known = knowing(
            application={"a": Group(0.0, 50.0, of_all, 0.0)}, opening={"a.*": Group(0.0, 50.0, 1_000.0, 0.0)}
        )
        return known.estimate(0.5, None, "a.new..").sd

    assert sd(1_000.0) < 0.05 < 0.1 < sd(10_000.0)


def test_the_evidence_on_a_closing_that_all_share_leaves_a_new_template_in_doubt() -> None:
    shared = {"a...x": Group(0.0, 5_000.0, 20_000.0, 0.0)}
    assert knowing(closing=shared).estimate(0.5, None, "a.new.new.x").sd > 0.1


def test_uncertainty_shrinks_with_evidence() -> None:
    def sd(information: float) -> float:
        return knowing(opening={"a.x": Group(0.0, information, 1.0, 0.0)}).estimate(0.5, None, "a.x..").sd

    sds = [sd(information) for information in (0.0, 1.0, 10.0, 100.0)]
    assert sds == sorted(sds, reverse=True)
    assert sds[-1] < 0.03 < sds[0]


def test_many_own_judgements_outweigh_doubt_about_the_application() -> None:
    known = knowing(opening={"a.x": Group(0.0, 1000.0, 1.0, 0.0)})
    assert known.estimate(0.5, None, "a.x..").sd < 0.02 < known.estimate(0.5, None, "a").sd


@given(
    score=st.floats(0.0, 1.0),
    task=st.none() | st.text(max_size=9),
    fingerprint=st.text(max_size=30) | st.sampled_from(["a.hard.x.y", "a..", "...", "a.easy.."]),
)
def test_any_request_has_a_score_and_a_spread(score: float, task: str | None, fingerprint: str) -> None:
    estimate = KNOWN.estimate(score, task, fingerprint)
    assert 0.0 <= estimate.score <= 1.0
    assert 0.0 <= estimate.sd <= 0.5


def test_certain_scores_are_not_taken_at_their_word() -> None:
    assert logit(0.0) == pytest.approx(-logit(1.0))
    assert logit(0.0) > -4.0


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    fit_of(NOTHING).write(path)
    fit = replace(fit_of(), learned_from=("ab" * 32,))
    fit.write(path)
    assert read(path) == fit
    assert [entry.name for entry in tmp_path.iterdir()] == ["evidence.json"]


def test_the_first_small_model_with_evidence_is_found() -> None:
    two = Fit("rules@1", 0.0, 30.0, (NOTHING, replace(KNOWN, small_model="tiny")))
    assert two.for_any_of(("large", "tiny", "small")) == replace(KNOWN, small_model="tiny")
    assert two.for_any_of(("large",)) is None
    assert two.small_models == ("small", "tiny")


def changed(path: tuple[str, ...], value: Any) -> bytes:
    """The file's bytes with one entry changed, or removed where the value is `...`."""
    values = json.loads(json.dumps(fit_of()._as_json()))
    at = values
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(values).encode()


SMALL = ("small_models", "small")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"nonsense", "is no JSON"),
        (b"[]", "the file holds []; needed is a mapping"),
        (b"{}", f"format is null; this version reads {FORMAT}"),
        (changed(("format",), 99), f"format is 99; this version reads {FORMAT}"),
        (changed(("prior",), 7), "prior is 7; needed is a classifier's name"),
        (changed(("half_life_days",), ...), "half_life_days is missing"),
        (changed(("learned_from",), [1]), "learned_from is [1]; needed is a list of texts"),
        (changed((*SMALL, "variance"), -1), "small_models.small.variance is -1; allowed is a number in [0, 100]"),
        (changed((*SMALL, "slope_within"), ...), "small_models.small.slope_within is missing"),
        (changed((*SMALL, "intercept"), True), "small_models.small.intercept is true"),
        (changed((*SMALL, "intercept"), float("nan")), "small_models.small.intercept is NaN"),
        (changed((*SMALL, "levels", "opening"), ...), "small_models.small.opening is missing"),
        (changed((*SMALL, "levels", "opening", "groups", "a.hard"), [1, 2]), "groups.a.hard is [1, 2]; needed is [off"),
        (changed((*SMALL, "levels", "opening", "groups", "a.hard"), [1, -2, 0, 0]), "groups.a.hard is -2; allowed"),
        (changed((*SMALL, "levels", "task", "groups"), {str(n): [0] * 4 for n in range(5_000)}), "allowed are 4096"),
        (changed(("small_models",), {str(n): {} for n in range(100)}), "small_models holds 100; allowed are 64"),
    ],
)
def test_a_damaged_file_is_an_error_that_says_where(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(raw)
    with pytest.raises(PosteriorError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)


def test_a_missing_file_is_one_too(tmp_path: Path) -> None:
    with pytest.raises(PosteriorError, match="cannot be read"):
        read(tmp_path / "none.json")
