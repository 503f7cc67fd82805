"""Evidence lines in their three forms, and what is said of those that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from classifiers.base import Message, Prompt
from classifiers.evidence import Evidence, EvidenceError, newest, parse, read, shortfall, write
from classifiers.fingerprint import fingerprint
from classifiers.heuristic import NAME, HeuristicClassifier

RULES = HeuristicClassifier()
NOW_S = 1_800_000_000.0
RECORDED = {"fingerprint": "a.b.c.", "score": 0.25, "small_model": "small", "outcome": 1}


def parsed(row: dict[str, Any]) -> Evidence:
    return parse(json.dumps(row), "here:1", RULES, NOW_S)


def test_what_was_recorded_is_taken_as_it_is() -> None:
    more = {"task": "law", "weight": 0.5, "time_s": 12.5, "source": "feedback", "classifier": "rules@0"}
    assert parsed(RECORDED) == Evidence("a.b.c.", "small", 0.25, 1.0, time_s=NOW_S)
    assert parsed(RECORDED | more) == Evidence("a.b.c.", "small", 0.25, 1.0, "law", 0.5, 12.5, "feedback", "rules@0")


def test_a_request_is_judged_anew_by_the_classifier_of_today() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Prove"}, {"type": "image_url"}, {"text": "it."}]},
    ]
    row = {"messages": messages, "small_model": "small", "outcome": 0.25, "application": "team-1", "score": 0.99}
    prompt = Prompt((Message("system", "Be brief."), Message("user", "Prove\nit.")), application="team-1")
    item = parsed(row | {"tools": [{}], "response_format": {"type": "json_schema"}})
    assert item.fingerprint != fingerprint(prompt)  # tools and format belong to it
    plain = parsed(row)
    assert plain.fingerprint == fingerprint(prompt)
    assert plain.score == RULES.classify(prompt).score
    assert (plain.classifier, plain.outcome, plain.excerpt) == (NAME, 0.25, "Prove it.")


def test_routing_data_are_evidence_too() -> None:
    row = {"prompt": "Hello", "weak_model": "small", "strong_model": "large", "weak_score": 0.25, "strong_score": 1}
    item = parsed(row)
    assert (item.small_model, item.outcome, item.source) == ("small", 0.75, "evaluation")
    assert parsed(row | {"weak_score": 1, "strong_score": 0}).outcome == 0.0


def test_a_better_answer_falls_short_by_nothing() -> None:
    assert shortfall(0.9, 0.4) == 0.0
    assert shortfall(0.25, 0.75) == 0.5


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "found no key; needed is 'fingerprint', 'messages' or 'prompt'"),
        ({"outcome": 1}, "found outcome; needed is 'fingerprint', 'messages' or 'prompt'"),
        ({"fingerprint": "a", "outcome": 1}, "score, small_model missing; found fingerprint, outcome; required:"),
        ({"prompt": "x", "weak_score": 1}, "weak_model, strong_score missing;"),
        ({"prompt": "x"}, "small_model, outcome missing;"),
        (RECORDED | {"outcome": 1.5}, "outcome is 1.5; allowed is a number in [0, 1]"),
        (RECORDED | {"outcome": "bad"}, 'outcome is "bad"; allowed is a number in [0, 1]'),
        (RECORDED | {"outcome": float("nan")}, "outcome is NaN; allowed is a number in [0, 1]"),
        (RECORDED | {"weight": -1}, "weight is -1; allowed is a number in [0, 1000]"),
        (RECORDED | {"weight": True}, "weight is true; allowed is a number"),
        (RECORDED | {"source": "rumour"}, 'source is "rumour"; allowed: judge, feedback, evaluation'),
        (RECORDED | {"small_model": ""}, 'small_model is ""; allowed is a string of 1 to 300 characters'),
        (RECORDED | {"fingerprint": "x" * 400}, "allowed is a string of 1 to 300 characters"),
        ({"messages": [], "small_model": "s", "outcome": 0}, "messages is []; allowed is a non-empty array of objects"),
        ({"messages": ["x"], "small_model": "s", "outcome": 0}, "allowed is a non-empty array of objects"),
        ({"prompt": 7, "small_model": "s", "outcome": 0}, "prompt is 7; allowed is a string"),
        ({"prompt": "x", "tools": 3, "small_model": "s", "outcome": 0}, "tools is 3; allowed is an array"),
        (
            {"prompt": "x", "response_format": "xml", "small_model": "s", "outcome": 0},
            'response_format is "xml"; allowed: text, json_object, json_schema',
        ),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_place(row: dict[str, Any], said: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        parsed(row)
    assert str(raised.value).startswith("here:1: ")
    assert said in str(raised.value)


@pytest.mark.parametrize("outcome", [True, False])
def test_an_outcome_may_be_said_in_a_word(outcome: bool) -> None:
    assert parsed(RECORDED | {"outcome": outcome}).outcome == float(outcome)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "e.jsonl:1: found no JSON"),
        (b"\n[1]\n", "e.jsonl:2: found [1]; needed is one JSON object a line"),
        (b"\xff\xfe", "e.jsonl:1: found a byte that is no UTF-8 at 0"),
        (b"\x1f\x8bnonsense", "e.jsonl: found a damaged gzip file"),
        (gzip.compress(b"{}\n" * 900)[:20], "e.jsonl: found a damaged gzip file"),
        (b"[" * 100_000, "e.jsonl:1: found no JSON"),
    ],
    ids=["no JSON", "no object", "no UTF-8", "no gzip", "half a gzip", "too deep"],
)
def test_a_damaged_file_is_an_error_that_says_where(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(raw)
    with pytest.raises(EvidenceError) as raised:
        list(read(path, RULES, NOW_S))
    assert said in str(raised.value)


def test_a_missing_file_is_one_too(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        list(read(tmp_path / "none.jsonl", RULES, NOW_S))


@pytest.mark.parametrize("zipped", [False, True])
def test_what_was_written_is_read_again(tmp_path: Path, zipped: bool) -> None:
    items = [
        Evidence("a.b.c.d", "small", 0.3, 0.5, "law", 2.0, 100.0, "feedback", NAME),
        Evidence("一.\ud800", "小模型", 0.0, 1.0, time_s=200.0),
    ]
    path = tmp_path / "e.jsonl"
    write(path, items[:1])
    write(path, items[1:])
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read(path, RULES, NOW_S)) == items


def test_of_too_much_the_oldest_is_left_out() -> None:
    items = [Evidence(str(at), "small", 0.5, 0.5, time_s=float(at % 7)) for at in range(21)]
    kept = newest(iter(items), limit=4)
    assert [item.time_s for item in kept] == [6.0, 6.0, 6.0, 5.0]
    assert [item.fingerprint for item in kept] == ["6", "13", "20", "5"]
