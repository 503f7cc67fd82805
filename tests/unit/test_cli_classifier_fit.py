"""`parsimony classifier fit` learns from judged requests, says what, and writes what servers read."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from classifiers import posterior
from classifiers.heuristic import NAME
from router.cli.classifier_fit import fit_evidence

EXAMPLE = Path(__file__).resolve().parents[2] / "configs" / "parsimony.yaml"
app = typer.Typer()
app.command("fit")(fit_evidence)


def line(task: str, outcome: float, **fields: Any) -> str:
    prompt = f"{task} of the text below:\n{fields.pop('material', 'some words')}"
    return json.dumps({"prompt": prompt, "small_model": "small", "outcome": outcome} | fields)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def judged(path: Path, count: int = 40) -> Path:
    hard, easy = ([line(task, outcome) for _ in range(count)] for task, outcome in (("Prove a", 1), ("Find a word", 0)))
    return write(path, *hard, *easy)


def configured(path: Path, evidence: str = "") -> Path:
    """The example with the rules as its classifier."""
    text = re.sub(
        r"^classifier:\n  name: \w+",
        "classifier:\n  name: heuristic" + evidence,
        EXAMPLE.read_text("utf-8"),
        flags=re.M,
    )
    return write(path, text)


def run(*arguments: object) -> Result:
    with TemporaryDirectory() as folder:
        config = configured(Path(folder) / "parsimony.yaml")
        return CliRunner().invoke(app, [str(each) for each in (*arguments, "--config", config)])


def test_what_was_learned_is_shown_and_written(tmp_path: Path) -> None:
    out = tmp_path / "learned.json"
    done = run("--evidence", judged(tmp_path / "e.jsonl"), "--out", out)
    assert done.exit_code == 0, done.output
    assert "small   80 judgements" in done.stdout
    assert "Brier" in done.stdout
    assert "Template" in done.stdout
    assert "Prove a of the text below" in done.stdout
    assert f"wrote {out}; servers read it when they start" in done.stderr
    assert posterior.read(out).small_models == ("small",)
    assert posterior.read(out).prior == NAME
    assert posterior.read(out).learned_from == (sha256((tmp_path / "e.jsonl").read_bytes()).hexdigest(),)


@pytest.mark.parametrize("days", ["inf", "nan", "0", "-1"])
def test_a_half_life_that_is_no_length_of_time_is_refused(tmp_path: Path, days: str) -> None:
    out = tmp_path / "learned.json"
    done = run("--evidence", judged(tmp_path / "e.jsonl", 3), "--out", out, "--half-life-days", days)
    assert done.exit_code == 2 and "--half-life-days" in done.stderr
    assert not out.exists()


def test_programs_get_json(tmp_path: Path) -> None:
    done = run("--evidence", judged(tmp_path / "e.jsonl"), "--json", "--half-life-days", 7)
    report = json.loads(done.stdout)
    assert (report["prior"], report["half_life_days"]) == (NAME, 7.0)
    (small,) = report["small_models"]
    assert small["calibration"]["brier_after"] < small["calibration"]["brier_before"]
    templates = [group for group in small["groups"] if group["level"] == "opening"]
    assert [round(group["mean_outcome"]) for group in templates] in ([0, 1], [1, 0])
    for group in templates:
        assert group["posterior_score"] == pytest.approx(group["mean_outcome"], abs=0.15)
    assert "nothing was written: name a file with --out" in done.stderr


def test_the_configuration_says_where_it_is_written(tmp_path: Path) -> None:
    config = configured(tmp_path / "my.yaml", "\n  evidence: evidence.json")
    evidence = judged(tmp_path / "e.jsonl")
    done = CliRunner().invoke(app, ["--evidence", str(evidence), "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert posterior.read(tmp_path / "evidence.json").small_models == ("small",)


def test_one_small_model_can_be_chosen_from_several_files(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", line("Sort", 1), line("Sort", 0, small_model="tiny"))
    two = write(tmp_path / "2.jsonl", line("Sort", 1, small_model="tiny"))
    done = run("--evidence", one, two, "--small-model", "tiny", "--json")
    (small,) = json.loads(done.stdout)["small_models"]
    assert (small["small_model"], small["judgements"]) == ("tiny", 2)


def test_little_evidence_is_said_to_be_little(tmp_path: Path) -> None:
    done = run("--evidence", write(tmp_path / "e.jsonl", line("Sort", 1)))
    assert "1 judgements are few" in done.stdout
    assert "Brier" not in done.stdout


def test_evidence_that_does_not_help_is_said_not_to(tmp_path: Path) -> None:
    """Requests of one task on which the outcome is as good as drawn, and the scores as good as known."""
    recorded = [
        json.dumps({"fingerprint": "a...", "score": 0.5, "small_model": "small", "outcome": at % 2}) for at in range(60)
    ]
    done = run("--evidence", write(tmp_path / "e.jsonl", *recorded))
    assert "made the scores no better" in done.stdout


@pytest.mark.parametrize("named", [False, True], ids=["by default", "as --out"])
def test_evidence_that_a_table_holds_for_is_not_written_over(tmp_path: Path, named: bool) -> None:
    """A worker that starts again would find other evidence than its table's, and its server would end."""
    config = configured(tmp_path / "my.yaml", "\n  evidence: evidence.json\n  quality_targets: targets.json")
    arguments = ["--evidence", str(judged(tmp_path / "e.jsonl", 3)), "--config", str(config)]
    used, other = tmp_path / "evidence.json", tmp_path / "other.json"
    done = CliRunner().invoke(app, [*arguments, *(["--out", str(used)] if named else [])])
    assert done.exit_code == 2
    assert f"{tmp_path / 'targets.json'} was calibrated for it" in done.stderr
    assert not used.exists()
    assert CliRunner().invoke(app, [*arguments, "--out", str(other)]).exit_code == 0
    assert other.exists()


def test_scores_of_another_classifier_are_left_out_and_counted(tmp_path: Path) -> None:
    other = json.dumps(
        {"fingerprint": "a...", "score": 0.5, "small_model": "s", "outcome": 1, "classifier": "oracle@3"}
    )
    done = run("--evidence", write(tmp_path / "e.jsonl", other, line("Sort", 1)))
    assert f"1 judgements were left out: they carry the scores of another classifier than {NAME}" in done.stderr
    alone = run("--evidence", write(tmp_path / "e.jsonl", other))
    assert alone.exit_code == 2
    assert "there is no evidence to learn from; 1 judgements carry the scores of another" in alone.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"prompt": "x"}', "e.jsonl:1: small_model, outcome missing"),
        ("", "there is no evidence to learn from"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, content: str, said: str) -> None:
    done = run("--evidence", write(tmp_path / "e.jsonl", content))
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "none.jsonl: cannot be read" in run("--evidence", tmp_path / "none.jsonl").stderr


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    done = run("--evidence", judged(tmp_path / "e.jsonl", 2), "--out", tmp_path / "no" / "where.json")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_an_unknown_configuration(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--evidence", "e.jsonl", "--config", str(tmp_path / "none.yaml")])
    assert done.exit_code == 2
    assert "cannot be read" in done.stderr


def test_prompts_with_their_text_grow_a_forest_and_few_say_how_many_are_needed(tmp_path: Path) -> None:
    out = tmp_path / "learned.json"
    config = write(tmp_path / "my.yaml", EXAMPLE.read_text("utf-8"))
    words = "kidney hormone blood cell nerve river treaty empire court statute market price demand engine poem".split()
    draw = Random(0)
    tasks = ("Translate the letter", "Prove the theorem and explain every step")
    lines = [line(tasks[at % 2], at % 2, material=" ".join(draw.choices(words, k=9))) for at in range(400)]
    few, many = write(tmp_path / "few.jsonl", *lines[:9]), write(tmp_path / "many.jsonl", *lines)
    arguments = ["--config", str(config), "--out", str(out), "--evidence"]
    assert "no forest: 9 different prompts came with their text, needed are 250" in said(arguments, few)
    assert posterior.read(out).posteriors[0].stack is None
    assert re.search(r"(a|no) forest, learned from \d+ different prompts: Brier .*\d without it", said(arguments, many))
    assert "kidney" not in out.read_text("utf-8")


def said(arguments: list[str], path: Path) -> str:
    done = CliRunner().invoke(app, [*arguments, str(path)])
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())
