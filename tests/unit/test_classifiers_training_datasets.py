"""What a data file may hold, and what is said of one that holds something else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from classifiers.base import Message, Prompt
from classifiers.training import datasets
from classifiers.training.datasets import DatasetError, read

FULL: dict[str, Any] = {
    "dataset": "sums", "id": "a/1", "subset": "a", "lang": "en", "prompt": "What is two and two?",
    "weak_model": "small", "strong_model": "large", "weak_score": 0, "strong_score": 1.0,
    "extra": {"stem": "s1", "contaminated": True, "year": 2020},
}  # fmt: skip


def written(folder: Path, *rows: object, name: str = "sums.jsonl") -> Path:
    path = folder / name
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["sums.jsonl", "sums.jsonl.gz"])
def test_a_line_is_an_example(tmp_path: Path, name: str) -> None:
    (example,) = read(written(tmp_path, FULL, "", name=name))
    assert (example.dataset, example.id, example.subset, example.lang) == ("sums", "a/1", "a", "en")
    assert (example.prompt, example.pair) == ("What is two and two?", ("small", "large"))
    assert (example.weak_score, example.strong_score) == (0.0, 1.0)
    assert (example.stem, example.contaminated, example.extra["year"]) == ("s1", True, 2020)


def test_what_the_request_was_beside_the_prompt_is_kept(tmp_path: Path) -> None:
    (example,) = read(written(tmp_path, FULL | {"application": "mail", "tools": [], "unknown": 1}))
    assert example.extra == FULL["extra"] | {"application": "mail", "tools": []}


def test_gzip_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, FULL, name="sums.gz").rename(tmp_path / "sums.jsonl")
    assert len(read(path)) == 1


def test_what_an_operator_need_not_say_has_a_default(tmp_path: Path) -> None:
    short = {key: FULL[key] for key in datasets.REQUIRED}
    first, again, other = read(
        written(tmp_path, short, short, short | {"prompt": "别的问题\u2028一"}, name="a.b.jsonl")
    )
    assert (first.dataset, first.id, other.id, first.subset, first.lang) == ("a", "1", "3", "", "")
    assert first.stem == again.stem != other.stem
    assert not first.contaminated
    assert other.prompt == "别的问题\u2028一"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (FULL | {"weak_score": 1.5}, r"sums\.jsonl:2: weak_score is 1\.5; allowed is a number in \[0, 1\]"),
        (FULL | {"strong_score": True}, "strong_score is true; allowed is a number"),
        (FULL | {"strong_score": "1"}, 'strong_score is "1"'),
        (FULL | {"weak_score": float("nan")}, "weak_score is NaN"),
        (FULL | {"weak_score": 10**400}, r"weak_score is 10{50,}.*…; allowed"),
        (FULL | {"prompt": None}, "prompt is null; allowed is a string"),
        (FULL | {"lang": ["en"]}, r'lang is \["en"\]; allowed is a string'),
        (FULL | {"extra": [1]}, r"extra is \[1\]; allowed is a JSON object"),
        (
            {"prompt": "x", "weak_model": "m"},
            "strong_model, weak_score, strong_score missing; found prompt, weak_model",
        ),
        ("[1]", r"found \[1\]; needed is a JSON object"),
        ("{", r"sums\.jsonl:2: found no JSON"),
        ("[" * 100_000, "found no JSON"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_allowed(tmp_path: Path, row: object, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint):
        read(written(tmp_path, FULL, row))


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    whole = written(tmp_path, *[FULL] * 50, name="sums.jsonl.gz").read_bytes()
    for content, complaint in [(whole[:-20], "damaged gzip"), (b"\xff\xfe", "no UTF-8"), (b"\n", "found no line")]:
        path = tmp_path / "broken"
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=f"broken: .*{complaint}"):
            read(path)
    with pytest.raises(DatasetError, match="absent: cannot be read"):
        read(tmp_path / "absent")


def test_a_choice_leaves_what_was_chosen_and_lists_what_there_is(tmp_path: Path) -> None:
    rows = [FULL, FULL | {"weak_model": "tiny"}, FULL | {"weak_model": "tiny", "strong_model": "huge", "lang": "zh"}]
    path = written(tmp_path, *rows)
    assert len(read(path, weak_model="tiny")) == 2
    assert [example.pair for example in read(path, weak_model="tiny", lang="zh")] == [("tiny", "huge")]
    with pytest.raises(DatasetError, match=r"weak_model 'tinny' .* present: tiny \(2\), small \(1\)"):
        read(path, weak_model="tinny")
    with pytest.raises(DatasetError, match=r"strong_model 'huge' .* present: large \(1\)"):
        read(path, weak_model="small", strong_model="huge")


def test_pairs_and_contaminated_examples_are_told_apart(tmp_path: Path) -> None:
    clean = FULL | {"extra": {}}
    examples = read(written(tmp_path, FULL, clean | {"weak_model": "tiny"}, clean))
    assert {pair: len(each) for pair, each in datasets.by_pair(examples).items()} == {
        ("small", "large"): 2,
        ("tiny", "large"): 1,
    }
    assert datasets.without_contaminated(examples) == examples[1:]


def test_a_text_is_one_user_message() -> None:
    assert datasets.as_prompt("Hello") == Prompt((Message("user", "Hello"),))
