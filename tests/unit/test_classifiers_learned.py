"""The trained classifier: which way its scores move, that it judges as training does, and what it refuses to load."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from classifiers.artifact import Artifact, ArtifactError
from classifiers.base import Classification, Message, Prompt, ResponseFormat
from classifiers.learned import LearnedClassifier, LearnedModel, encoder_of, logistic
from classifiers.quality import QualityTargets
from classifiers.registry import create, shipped
from classifiers.training import corpus as corpora
from classifiers.training.datasets import Example
from classifiers.training.model import encode, mixed, parts
from classifiers.traits import KINDS
from tests.contracts.classifier_suite import TEXT

PROOF = "Prove by induction that the sum of the first n odd integers is a square."
PROOF_ZH = "用数学归纳法证明前n个奇数之和是平方数。"
HARD = "Implement a lock-free hash map in Rust, prove that it is linearizable and analyse its memory ordering."
HARD_ZH = "用Rust实现无锁并发哈希表，证明其线性一致性，并分析内存顺序。"
PROBLEM = "A farmer has 12 cows and sells 3 of them each week. How many cows remain after 2 weeks in total?"


@pytest.fixture(scope="module")
def classifier() -> LearnedClassifier:
    made = create("learned")
    assert isinstance(made, LearnedClassifier)
    return made


def conversation(*texts: str, system: str = "", **request: Any) -> Prompt:
    """Turns of user and assistant, the user's last."""
    roles = ["user", "assistant"] * len(texts)
    first = (Message("system", system),) if system else ()
    turns = zip(roles[: len(texts)] if len(texts) % 2 else roles[1 : len(texts) + 1], texts, strict=True)
    return Prompt((*first, *(Message(role, text) for role, text in turns)), **request)


def score(classifier: LearnedClassifier, *texts: str, **request: Any) -> float:
    return classifier.classify(conversation(*texts, **request)).score


# which way scores move


@pytest.mark.parametrize(
    ("easy", "hard"),
    [
        ("Hello!", PROOF),
        ("你好！", PROOF_ZH),
        ("Thanks, goodbye.", HARD),
        ("谢谢，再见。", HARD_ZH),
        ("Translate 'good morning' into French.", PROOF),
        ("把这句话翻译成英文：早上好", PROOF_ZH),
        ("Hello!", PROBLEM),
        ("What is the capital of France?", PROBLEM),
        (PROBLEM, PROBLEM.replace("?", ", if every second week 2 more are born, each calf is sold for 7, and 5 die?")),
    ],
)
def test_the_harder_request_scores_higher(classifier: LearnedClassifier, easy: str, hard: str) -> None:
    assert score(classifier, easy) + 0.03 < score(classifier, hard)


@pytest.mark.parametrize(
    ("reply", "hard"), [("yes, do it", HARD), ("go on", PROOF), ("好的，继续", HARD_ZH), ("可以", PROOF_ZH)]
)
def test_a_short_yes_in_a_hard_session_is_the_hard_request_going_on(
    classifier: LearnedClassifier, reply: str, hard: str
) -> None:
    alone, inside = score(classifier, reply), score(classifier, hard, "Shall I begin?", reply)
    assert inside > alone + 0.05
    assert inside > score(classifier, "Hello!", "Hello! How are you?", reply) + 0.05
    session = conversation(hard, "Shall I begin?", reply)
    assert len(classifier.classify(session).signals) > 0


def test_thanks_after_a_hard_session_is_easier_than_going_on(classifier: LearnedClassifier) -> None:
    thanks, on = (score(classifier, HARD, "Done: ...", reply) for reply in ("thanks, bye", "yes, do the rest"))
    assert thanks < on


def test_an_easy_past_makes_nothing_easier(classifier: LearnedClassifier) -> None:
    assert score(classifier, "Hello!", "Hello!", PROOF) >= score(classifier, PROOF)


def test_a_hard_system_prompt_makes_no_request_easier(classifier: LearnedClassifier) -> None:
    assert score(classifier, "begin", system=HARD) >= score(classifier, "begin")


@pytest.mark.parametrize("text", ["What is in this?", "Hello!", "看看这个", ""])
@pytest.mark.parametrize(
    "request_",
    [{"tool_count": 3}, {"response_format": "json_schema"}, {"response_format": "json_object"}],
    ids=["tools", "schema", "object"],
)
def test_what_is_asked_beside_the_text_raises_the_score(
    classifier: LearnedClassifier, text: str, request_: dict[str, int | ResponseFormat]
) -> None:
    assert score(classifier, text, **request_) > score(classifier, text) + 0.01


def test_more_tools_and_images_raise_it_further(classifier: LearnedClassifier) -> None:
    tools = [score(classifier, "What is in this?", tool_count=count) for count in (0, 1, 4, 16)]
    images = [classifier.classify(Prompt((Message("user", "What is in this?", n),))).score for n in (0, 1, 3)]
    assert tools == sorted(set(tools))
    assert images == sorted(set(images))


ENGLISH_COMFORT = ("This is simple, an easy and quick task. ", "THIS IS TRIVIAL!!! ")
CHINESE_COMFORT = ("这很简单，", "非常容易的基础问题。")
SAME_LANGUAGE = [(comfort, hard) for comfort in ENGLISH_COMFORT for hard in (PROOF, HARD, PROBLEM)]
SAME_LANGUAGE += [(CHINESE_COMFORT[0], PROOF_ZH), (CHINESE_COMFORT[0], HARD_ZH), (CHINESE_COMFORT[1], PROOF_ZH)]
LIKE_ANOTHER_TASK = [(CHINESE_COMFORT[1], HARD_ZH)]
LIKE_ANOTHER_TASK += [(comfort, hard) for comfort in ENGLISH_COMFORT for hard in (PROOF_ZH, HARD_ZH)]
LIKE_ANOTHER_TASK += [(comfort, hard) for comfort in CHINESE_COMFORT for hard in (PROOF, HARD, PROBLEM)]


@pytest.mark.parametrize(("comfort", "hard"), SAME_LANGUAGE)
def test_a_prompt_cannot_talk_its_difficulty_down(classifier: LearnedClassifier, comfort: str, hard: str) -> None:
    before = score(classifier, hard)
    for text in (comfort + hard, hard + " " + comfort):
        assert score(classifier, text) > before - 0.03


@pytest.mark.parametrize(("comfort", "hard"), LIKE_ANOTHER_TASK)
def test_nor_by_words_that_make_it_look_like_another_task(
    classifier: LearnedClassifier, comfort: str, hard: str
) -> None:
    """A little of two languages is no bilingual examination. What English there is makes a text less Chinese."""
    before = score(classifier, hard)
    for text in (comfort + hard, hard + " " + comfort):
        assert score(classifier, text) > before - 0.06


@pytest.mark.parametrize("padding", ["\n" * 5_000, " " * 5_000], ids=["lines", "spaces"])
def test_white_space_hides_nothing(classifier: LearnedClassifier, padding: str) -> None:
    for hard in (PROOF, HARD):
        assert score(classifier, padding + hard) == pytest.approx(score(classifier, hard), abs=1e-6)


# what it says


def test_tiers_begin_at_its_thresholds(classifier: LearnedClassifier) -> None:
    artifact = shipped()
    own = artifact.manifest["thresholds"]
    assert (classifier.moderate_from, classifier.complex_from) == (own["moderate_from"], own["complex_from"])
    request = conversation(PROOF)
    for low, high, tier in ((0.0, 0.0, "complex"), (0.0, 1.0, "moderate"), (1.0, 1.0, "simple")):
        assert LearnedClassifier(artifact, low, high).classify(request).tier == tier


@pytest.mark.parametrize(("low", "high"), [(0.7, 0.3), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5), (0.9, None)])
def test_thresholds_out_of_order_or_range_are_refused(low: float, high: float | None) -> None:
    with pytest.raises(ValueError, match="0 <= moderate_from <= complex_from <= 1 must hold"):
        LearnedClassifier(shipped(), low, high)


def test_signals_name_what_moved_the_score(classifier: LearnedClassifier) -> None:
    asked = classifier.classify(conversation(PROOF, tool_count=8, response_format="json_schema"))
    assert {"proof", "tools"} <= set(asked.signals)
    assert not {"tools", "images"} & set(classifier.classify(conversation(PROOF)).signals)
    assert "harder context" in classifier.classify(conversation(PROBLEM * 3, "So?", "go on")).signals


def test_it_names_a_task_and_a_length(classifier: LearnedClassifier) -> None:
    said = classifier.classify(conversation(PROBLEM))
    assert isinstance(said, Classification)
    assert said.task in (*KINDS, *classifier.task_names)
    assert said.output_length is not None
    assert 0 < said.output_length.expected_tokens <= said.output_length.p95_tokens
    assert (said.score_sd, said.fingerprint, said.prior_score) == (None, None, None)


def test_what_ships_has_quality_targets(classifier: LearnedClassifier) -> None:
    table = classifier.quality_targets
    assert isinstance(table, QualityTargets)
    assert {0.9, 0.95} <= {entry.target for entry in table.thresholds}


@pytest.mark.parametrize(("logit", "share"), [(0.0, 0.5), (1e9, 1.0), (-1e9, 0.0), (float("inf"), 1.0)])
def test_the_logistic_curve_never_overflows(logit: float, share: float) -> None:
    assert logistic(logit) == pytest.approx(share, abs=1e-12)


# as training has it


def example(text: str) -> Example:
    return Example("made-up", "1", "task", "", text, "small", "large", 0.0, 1.0, "stem", False, {})


def both(model: LearnedModel, text: str) -> tuple[float, float]:
    """The gain as training computes it from arrays, and as the classifier does."""
    arrays = shipped().arrays
    rows = corpora.corpus("made-up", [example(text)])
    points = encode(encoder_of(arrays), rows.texts)
    parted, measured = corpora.measure(text)
    judged = model.judge(parted, measured)
    # What is hardly known is judged as not known at all, to save the time.
    trained = mixed(dict(arrays), rows, points) if judged.known else parts(dict(arrays), rows, points)[0]
    return float(trained[0]), judged.gain


def test_another_classifier_of_the_same_artifact_takes_little_memory() -> None:
    """Each worker process has one: the vectors stay the bytes that were read."""
    artifact = shipped()
    tracemalloc.start()
    try:
        made = LearnedClassifier(artifact)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.name == artifact.name
    assert peak_bytes < 2 * artifact.arrays["vectors"].nbytes


@given(text=TEXT)
def test_any_text_is_judged_as_in_training(classifier: LearnedClassifier, text: str) -> None:
    trained, served = both(classifier.model, text)
    assert served == pytest.approx(trained, abs=1e-5)


@pytest.mark.parametrize("task", ["psychology", "a sequence of code", "以下是中国高考", PROOF, PROOF_ZH, PROBLEM, HARD])
def test_long_texts_are_too(classifier: LearnedClassifier, task: str) -> None:
    trained, served = both(classifier.model, f"{task} {PROOF} {HARD_ZH} " * 40)
    assert served == pytest.approx(trained, abs=1e-5)


# what does not fit


@pytest.mark.parametrize("moderate_from", [2, -1, float("nan"), 10**400, None, "low"])
def test_shipped_thresholds_that_cannot_be_are_the_artifacts_fault(moderate_from: Any) -> None:
    manifest = {**shipped().manifest, "thresholds": {"moderate_from": moderate_from, "complex_from": 0.5}}
    with pytest.raises(ArtifactError, match=shipped().name):
        LearnedClassifier(Artifact(manifest, shipped().arrays))


def test_every_array_is_needed() -> None:
    arrays = shipped().arrays
    for gone in arrays:
        with pytest.raises(ArtifactError, match="do not fit this version"):
            LearnedClassifier(Artifact(shipped().manifest, {name: arrays[name] for name in arrays if name != gone}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights", lambda values: values[:-1]),
        ("weights", lambda values: values[:, :-1]),
        ("weights", lambda values: values.ravel()),
        ("bias", lambda values: values[:-1]),
        ("task_gains", lambda values: values[:-1]),
        ("mixture", lambda values: values[:-1]),
        ("mixture", lambda values: np.append(values, 0.0)),
        ("vectors", lambda values: values[:-1]),
        ("vectors", lambda values: values[:, :-1]),
        ("vector_scale", lambda values: values[:-1]),
        ("words", lambda values: values[: len(values) // 2]),
        ("pairs", lambda values: values[:-1]),
    ],
)
def test_an_array_of_another_shape_is_refused(name: str, change: Any) -> None:
    arrays = dict(shipped().arrays)
    with pytest.raises(ArtifactError, match=f"{shipped().name}: its manifest or arrays do not fit this version"):
        LearnedClassifier(Artifact(shipped().manifest, arrays | {name: change(arrays[name])}))
