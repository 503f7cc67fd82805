"""`parsimony baseline evaluate`: what people and programs read, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli.app import app
from router.cli.options import USAGE
from tests.support.logs import CONFIG

SMALL, LARGE = "mistral-7b-instruct", "gpt-4-1106-preview"


def run(recorded: Path, *words: str, small: str = SMALL, large: str = LARGE, share: str = "0.2") -> Result:
    command = ["baseline", "evaluate", "--recorded", str(recorded), "--small", small, "--baseline", large]
    command += ["--share", share, "--resamples", "20", "--config", str(CONFIG), *words]
    return CliRunner().invoke(app, command)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "answers.jsonl"
    rows = [
        {"prompt": f"Question {at}?", "answers": {SMALL: "yes " * (20 + at), LARGE: "no " * (40 + at * 3 % 50)}}
        for at in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return path


def test_programs_read_the_scores_of_the_estimate_and_of_its_rival(recorded: Path) -> None:
    result = run(recorded, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for score in (found, found["plain_ratio"]):
        assert abs(score["bias"]) < 0.1
        assert 0.5 < score["coverage"] <= 1
        assert score["mean_relative_width"] > 0
    assert (found["small"], found["baseline"], found["prompts"], found["sample"]) == (SMALL, LARGE, 60, 12)
    assert (found["resamples"], found["left_out"]) == (20, {"lines that are no JSON": 1})
    assert run(recorded, "--json").stdout == result.stdout != run(recorded, "--json", "--seed", "1").stdout


def test_people_read_a_table_and_what_was_left_out(recorded: Path) -> None:
    result = run(recorded)
    assert result.exit_code == 0, result.output
    for words in ("from 12 samples", "plain ratio of lengths", "own tokens, repriced", "60 prompts, $", "20 resamples"):
        assert words in result.output
    assert "Left out: 1 lines that are no JSON." in result.output


@pytest.mark.parametrize("share", ["0", "1", "0.01"])
def test_a_share_that_leaves_too_few_is_refused_in_a_sentence(recorded: Path, share: str) -> None:
    result = run(recorded, share=share)
    assert result.exit_code == USAGE
    assert "it must have 3 at least" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("share", ["-0.1", "1.1", "nan", "half"])
def test_a_share_that_is_none_is_refused_as_such(recorded: Path, share: str) -> None:
    result = run(recorded, share=share)
    assert result.exit_code == USAGE
    assert "--share" in result.stderr


def test_models_that_are_not_there_or_the_same_are_refused_in_a_sentence(recorded: Path) -> None:
    refused = {
        "holds no answer of 'tiny'; it has those of: gpt-4": run(recorded, small="tiny"),
        "cannot be compared with itself": run(recorded, small=LARGE),
        "no-such-model": run(recorded, large="no-such-model"),
    }
    for words, result in refused.items():
        assert result.exit_code == USAGE
        assert words in result.stderr


def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_bytes(b"")
    binary.write_bytes(bytes(range(256)) * 9)
    for path in (tmp_path, tmp_path / "missing", empty, binary):
        result = run(path)
        assert result.exit_code == USAGE, result.output
        assert result.stderr.startswith(f"parsimony: {path}: ")
