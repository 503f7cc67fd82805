"""`parsimony classifier evaluate` prints a table for people, JSON for programs, and says what is wrong with a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from classifiers import registry
from classifiers.base import DEFAULT_CLASSIFIER
from classifiers.training.latency import BUCKETS
from classifiers.training.report import HEADINGS
from router.cli.classifier import app
from tests.support.routing_examples import DEV, example, examples, needs_dev_files, write

QUICK = ("--resamples", 20, "--no-litellm")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, (*arguments, *QUICK))])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of models over the same prompts, and one contaminated."""
    made = [*examples(12), *examples(12, pair=("small-b", "large")), example(12, contaminated=True)]
    return write(tmp_path_factory.mktemp("data") / "mine.jsonl", made)


@pytest.fixture(scope="module")
def printed(data: Path) -> Result:
    return run("--data", data)


def rows(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["evaluations"]


def test_a_table_for_each_pair_is_printed(printed: Result) -> None:
    assert printed.exit_code == 0, printed.output
    for pair in ("small → large", "small-b → large"):
        assert f"mine.jsonl: {pair}" in printed.stdout
    assert "12 prompts (en) of 12 stems, 1 contaminated left out; mean score .500 → 1.000" in printed.stdout
    lines = printed.stdout.splitlines()
    assert sum(all(heading in line for heading in HEADINGS.values()) for line in lines) == 2
    for name in (DEFAULT_CLASSIFIER, "rules", "prompt length", "random"):
        assert sum(line.startswith(f"{name}  ") for line in lines) == 2, name
    assert "20 resamples of stems, seed 0" in printed.stdout


def test_the_table_fits_and_is_followed_by_the_time_a_classification_takes(printed: Result) -> None:
    lines = printed.stdout.rstrip().splitlines()
    assert max(map(len, lines)) <= 120 and "…" not in printed.stdout
    timings = lines[-len(BUCKETS) :]
    assert f"{DEFAULT_CLASSIFIER}: tokens, about" in lines[-len(BUCKETS) - 1]
    assert [line.split()[0] for line in timings] == [f"{tokens:,}" for tokens in BUCKETS]
    assert "\x1b" not in printed.stdout


def test_programs_get_json_and_nothing_else_on_stdout(data: Path) -> None:
    done = run("--data", data, "--json", "--classifier", "heuristic", "--price-ratio", 5, "--keep-contaminated")
    report = json.loads(done.stdout)
    assert report["classifier"] == "heuristic"
    assert report["settings"] == {"price_ratio": 5.0, "resamples": 20, "seed": 0, "drop_contaminated": False}
    assert [each["prompt_count"] for each in report["evaluations"]] == [13, 12]
    assert [row["name"] for row in report["evaluations"][0]["rows"]] == ["rules", "prompt length", "random"]
    assert report["evaluations"][0]["rows"][1]["brier"] == {"value": None, "low": None, "high": None}
    assert [each["tokens"] for each in report["latency"]] == list(BUCKETS)


def test_files_are_written_and_named_beside_clean_json(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page, drawn = tmp_path / "exam.md", tmp_path / "exam.svg"
    found = rows(run("--data", data, "--json", "--markdown", page, "--picture", drawn))
    assert page.read_text("utf-8").count("| prompt length |") == len(found) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"exam.md", "exam.svg", "exam-reliability.svg"}


def test_a_page_that_cannot_be_written_does_not_take_the_result_with_it(data: Path, tmp_path: Path) -> None:
    page = tmp_path / "absent" / "exam.md"
    done = run("--data", data, "--classifier", "heuristic", "--json", "--markdown", page)
    assert done.exit_code == 1
    assert len(json.loads(done.stdout)["evaluations"]) == 2
    assert f"parsimony: {page}: cannot be written (No such file or directory)" in done.stderr


def test_several_files_are_several_evaluations(data: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.jsonl.gz"
    second.write_bytes(gzip.compress(write(tmp_path / "plain.jsonl", examples(6)).read_bytes()))
    third = write(tmp_path / "third.jsonl", examples(4))
    found = rows(
        run("--data", data, "--data", third, second, "--weak-model", "small", "--classifier", "heuristic", "--json")
    )
    assert [(each["source"], each["prompt_count"]) for each in found] == [
        ("mine.jsonl", 12),
        ("third.jsonl", 4),
        ("second.jsonl.gz", 6),
    ]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--weak-model", "weak_model 'x' is not among what is left to choose from; present: small (13), small-b (12)"),
        ("--strong-model", "strong_model 'x' is not among what is left to choose from; present: large (25)"),
        ("--lang", "lang 'x' is not among what is left to choose from; present: en (25)"),
    ],
)
def test_an_unknown_choice_lists_what_is_there(data: Path, option: str, sentence: str) -> None:
    done = run("--data", data, option, "x")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"parsimony: {data}: {sentence}\n"


def test_an_unknown_classifier_lists_the_known(data: Path) -> None:
    done = run("--data", data, "--classifier", "oracle")
    known = ", ".join(sorted(registry.CLASSIFIERS))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"parsimony: no classifier is named 'oracle'; allowed: {known}\n"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('{"prompt": "x"}\n', ":1", "weak_model, strong_model, weak_score, strong_score missing"),
        ("GOOD\n\nnot JSON\n", ":3", "found no JSON"),
        ("GOOD\n[1]\n", ":2", "found [1]; needed is a JSON object"),
        ("", "", "found no line"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, where: str, what: str) -> None:
    good = write(tmp_path / "good.jsonl", [example(0)]).read_text("utf-8").strip()
    path = tmp_path / "bad.jsonl"
    path.write_text(text.replace("GOOD", good), encoding="utf-8")
    done = run("--data", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"parsimony: {path}{where}: {what}")


def test_what_cannot_be_done_is_said_in_a_sentence(data: Path, tmp_path: Path) -> None:
    spoilt = write(tmp_path / "spoilt.jsonl", [example(0, contaminated=True)])
    for arguments, sentence in (
        (("--data", tmp_path / "none.jsonl"), f"{tmp_path / 'none.jsonl'}: cannot be read (No such file or directory)"),
        (("--data", data, "--picture", "exam.gif"), "exam.gif: the name of a picture ends in .svg or .png"),
        (("--data", spoilt), "spoilt.jsonl: every example is marked contaminated; --keep-contaminated keeps them"),
    ):
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == f"parsimony: {sentence}"


def test_the_group_shows_its_commands() -> None:
    assert {each.name for each in app.registered_commands} == {"evaluate", "fit", "calibrate"}
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in ("evaluate", "fit", "calibrate"))


@needs_dev_files
def test_the_shared_files_give_the_figures_known_for_them() -> None:
    (found,) = rows(run("--data", DEV / "gsm8k.jsonl.gz", "--classifier", "heuristic", "--json"))
    known = {row["name"]: row["apgr"]["value"] for row in found["rows"]}
    assert (found["prompt_count"], found["dropped_count"]) == (1_307, 12)
    assert known["prompt length"] == pytest.approx(0.598, abs=0.002)
    assert known["RouteLLM, published"] == 0.622
