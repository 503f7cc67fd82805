"""Trying the estimate on recorded answers: what is read, what is left out, and what comes of it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from classifiers import registry
from classifiers.base import Message, Prompt
from policies.answer_lengths import AnswerLength, AnswerLengths
from policies.catalog import Price
from router.answer_lengths import load_answer_lengths
from router.prices import load_prices
from router.reports.recorded import (
    LEAST,
    Evaluation,
    Pair,
    Recorded,
    RecordedError,
    evaluate,
    evaluation_as_json,
    read_recorded,
)
from router.tokenizers import TokenCounter
from tests.support.server import ROOT

REPLAY = ROOT.parent / "shared" / "data" / "replay" / "recorded_answers.jsonl.gz"
GPT_4 = "gpt-4-1106-preview"
PRICE = Price(date(2024, 1, 1), input_nusd_per_mtok=10_000_000_000, output_nusd_per_mtok=30_000_000_000, source="test")


@pytest.fixture(scope="module")
def pair() -> Pair:
    lengths = AnswerLengths({}, AnswerLength("", 40.0, rambles=False))
    return Pair("small", "large", PRICE, TokenCounter("cl100k_base"), lengths, registry.create("learned"))


def lines(count: int) -> list[dict[str, Any]]:
    """Invented: the large model says about twice as much, more or less."""
    return [
        {
            "id": str(at),
            "prompt": f"Tell me about number {at}.",
            "answers": {"small": "one " * (5 + at * 7 % 40), "large": "two " * (5 + at * 14 % 80 + at % 9)},
        }
        for at in range(count)
    ]


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- reading ---------------------------------------------------------------------------------------


def test_tokens_and_amounts_are_those_of_the_baseline(tmp_path: Path, pair: Pair) -> None:
    row = {"id": "a", "prompt": "Hi", "answers": {"small": "one two three", "large": "one two three four five"}}
    (found,), left_out = read_recorded(written(tmp_path / "a.jsonl", [row]), pair)
    assert not left_out
    input_nusd = pair.counter.count_messages([{"role": "user", "content": "Hi"}]) * 10_000
    expected = pair.lengths.expected_tokens("small", "large", 3)
    assert found.written_tokens == 3
    assert [found.repriced_nusd, found.actual_nusd, found.booked_nusd] == [
        input_nusd + tokens * 30_000 for tokens in (3, 5, expected)
    ]
    assert found.task == registry.create("learned").classify(Prompt((Message("user", "Hi"),))).task


def test_a_packed_file_reads_as_the_plain_one_whatever_its_name(tmp_path: Path, pair: Pair) -> None:
    plain = written(tmp_path / "plain.jsonl", lines(5))
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_recorded(packed, pair) == read_recorded(plain, pair)


def test_lines_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path, pair: Pair) -> None:
    path = written(tmp_path / "a.jsonl", lines(3))
    bad: list[Any] = [
        [1, 2],
        {"prompt": 3, "answers": {}},
        {"prompt": "no answers"},
        {"prompt": "p", "answers": {"small": "one"}},
        {"prompt": "p", "answers": {"small": "one", "large": None}},
    ]
    with path.open("ab") as file:
        file.write(b"{not json\n\n   \n\xff\xfe\n" + b"".join(json.dumps(row).encode() + b"\n" for row in bad))
    rows, left_out = read_recorded(path, pair)
    assert len(rows) == 3
    assert left_out == {
        "lines that are no JSON": 2,
        "lines without a prompt and answers": 3,
        "lines without an answer of both models": 2,
    }


def test_a_model_that_never_answered_is_named_beside_those_that_did(tmp_path: Path, pair: Pair) -> None:
    path = written(tmp_path / "a.jsonl", lines(3))
    with pytest.raises(RecordedError, match=r"a\.jsonl: holds no answer of 'tiny'; it has those of: large, small$"):
        read_recorded(path, replace(pair, small="tiny"))
    with pytest.raises(RecordedError, match="no answer of 'tiny' or 'huge'"):
        read_recorded(path, replace(pair, small="tiny", baseline="huge"))


def test_a_model_is_not_compared_with_itself(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(RecordedError, match="'large' cannot be compared with itself"):
        read_recorded(written(tmp_path / "a.jsonl", lines(3)), replace(pair, small="large"))


PACKED = gzip.compress(b'{"id": "a"}\n' * 1_000, mtime=0)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "it has those of: none"),
        (b"\x00\x01\x80\xff" * 99, "it has those of: none"),
        (PACKED[:20], "cannot be read"),
        (PACKED[:10] + b"\xff" * 30, "cannot be read"),
        (b"\x1f\x8bno gzip at all", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, pair: Pair, content: bytes, part: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordedError, match=part) as raised:
        read_recorded(path, pair)
    assert str(raised.value).startswith(str(path))


def test_a_folder_and_a_missing_file_are_told(tmp_path: Path, pair: Pair) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecordedError, match="cannot be read"):
            read_recorded(path, pair)


# ---- evaluating ------------------------------------------------------------------------------------


def rows(count: int) -> list[Recorded]:
    return [
        Recorded("chat" if at % 3 else "code", 1_000 + at, 900 + at, 30, 1_500 + at * 13 % 200) for at in range(count)
    ]


def tried(pair: Pair, count: int = 100, share: float = 0.2, resamples: int = 30, seed: int = 0) -> Evaluation:
    return evaluate(pair, rows(count), Counter(), share=share, resamples=resamples, seed=seed)


def test_both_estimators_are_right_where_little_varies(pair: Pair) -> None:
    found = tried(pair)
    assert (found.prompt_count, found.sample_count, found.resample_count) == (100, 20, 30)
    assert found.truth_nusd == sum(row.actual_nusd for row in rows(100))
    for score in (found.ours, found.ratio):
        assert abs(score.bias) < 0.02
        assert 0 < score.sd < 0.05
        assert score.coverage > 0.8
    booked, repriced = (sum(getattr(row, name) for row in rows(100)) for name in ("booked_nusd", "repriced_nusd"))
    assert (found.booked_bias, found.repriced_bias) == (booked / found.truth_nusd - 1, repriced / found.truth_nusd - 1)


def test_the_same_seed_draws_the_same_samples(pair: Pair) -> None:
    assert tried(pair, seed=3) == tried(pair, seed=3) != tried(pair, seed=4)


def test_each_resample_is_told_of(pair: Pair) -> None:
    told: list[None] = []
    evaluate(pair, rows(50), Counter(), share=0.2, resamples=7, on_resample=lambda: told.append(None))
    assert len(told) == 7


@pytest.mark.parametrize("share", [0.0, (LEAST - 1) / 100, 1.0, float("nan"), float("inf")])
def test_a_share_that_leaves_too_few_on_either_side_is_refused(pair: Pair, share: float) -> None:
    with pytest.raises(RecordedError, match=rf"of 100 prompts is a sample of \d+; it must have {LEAST} at least"):
        tried(pair, share=share)


def test_a_baseline_that_costs_nothing_leaves_nothing_to_estimate(pair: Pair) -> None:
    free = [replace(row, booked_nusd=0, repriced_nusd=0, actual_nusd=0) for row in rows(50)]
    with pytest.raises(RecordedError, match="'large' cost nothing"):
        evaluate(pair, free, Counter(), share=0.2, resamples=10)


def test_programs_are_given_the_scores_of_both(pair: Pair) -> None:
    found = evaluate(pair, rows(50), Counter({"bad lines": 2}), share=0.2, resamples=10)
    as_json = evaluation_as_json(found)
    score = {"bias", "sd", "coverage", "mean_relative_width"}
    assert set(as_json) >= score
    assert set(as_json["plain_ratio"]) == score
    assert as_json["mean_relative_width"] == found.ours.mean_relative_width
    assert as_json["plain_ratio"]["coverage"] == found.ratio.coverage
    assert as_json["left_out"] == {"bad lines": 2}
    assert json.loads(json.dumps(as_json)) == as_json


# ---- recorded answers of real models ---------------------------------------------------------------


@pytest.mark.skipif(not REPLAY.exists(), reason=f"the recorded answers are not here: {REPLAY}")
@pytest.mark.parametrize(
    ("small", "baseline"),
    [
        ("mistral-7b-instruct", GPT_4),
        ("mixtral-8x7b-instruct", GPT_4),
        ("mistral-medium", GPT_4),
        ("mistral-7b-instruct", "mistral-medium"),
    ],
)
def test_on_real_answers_the_estimate_holds_what_it_promises(small: str, baseline: str) -> None:
    lengths = load_answer_lengths(ROOT / "configs" / "answer_lengths.yaml")
    info = load_prices(ROOT / "configs" / "prices.yaml").model(lengths.of(baseline).model)
    price, counter = info.prices.at(date(2026, 11, 1)), TokenCounter(info.tokenizer)
    real = Pair(small, baseline, price, counter, lengths, registry.create("learned"))
    recorded, left_out = read_recorded(REPLAY, real)
    assert (len(recorded), left_out) == (603, {})
    found = evaluate(real, recorded, left_out, share=0.05, resamples=500)
    assert abs(found.ours.bias) <= 0.02
    assert found.ours.coverage >= 0.93
    assert found.ours.mean_relative_width < found.ratio.mean_relative_width
    assert found.ours.sd < found.ratio.sd
    assert abs(found.ours.bias) < abs(found.repriced_bias)
