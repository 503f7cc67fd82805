"""`parsimony classifier calibrate` finds thresholds on judged prompts of one's own, and writes what servers read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from classifiers import calibration, registry
from classifiers.artifact import Artifact
from classifiers.heuristic import NAME
from classifiers.posterior import LEVELS, Fit, Level, Posterior
from router.cli.classifier_calibrate import calibrate_targets
from router.cli.classifier_fit import fit_evidence
from router.config import load_config
from router.preflight import check
from tests.support.administration import write_config

PAIR = {"weak_model": "small", "strong_model": "large"}
fit_app, app = typer.Typer(), typer.Typer()
fit_app.command("fit")(fit_evidence)
app.command("calibrate")(calibrate_targets)


def line(prompt: str, weak: float, **fields: Any) -> str:
    return json.dumps({"prompt": prompt, "weak_score": weak, "strong_score": 1.0} | PAIR | fields)


def lines(count: int, start: int = 0) -> Iterator[str]:
    """Two kinds of prompts that the rules tell apart: the small model does well on greetings, and on no proof."""
    for at in range(start, start + count):
        yield line(f"Hello, this is greeting number {at}.", 1.0)
        yield line(f"Prove rigorously, step by step, that the theorem {at} holds; derive each integral.", 0.0)


def write(path: Path, *content: str) -> Path:
    path.write_text("\n".join(content) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = write_config(tmp_path)
    return write(path, path.read_text(encoding="utf-8") + "classifier: {name: heuristic}")


def run(config: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in (*arguments, "--config", config)])


def good(done: Result) -> Result:
    assert done.exit_code == 0, done.output
    return done


def refused(done: Result) -> str:
    assert done.exit_code == 2, done.output
    return done.stderr


def test_the_table_is_shown_and_written(config: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "targets.json", write(tmp_path / "j.jsonl", *lines(300))
    done = good(run(config, "--data", data, "--out", out, "--targets", "0.95,0.9"))
    assert f"small beside large, scores of {NAME}: 600 judged prompts with 600 stems in j.jsonl; 90%" in done.stdout
    own = calibration.read(out)
    assert own.scores == calibration.Scores(NAME)
    assert own.judged == (calibration.JudgedFile("j.jsonl", sha256(data.read_bytes()).hexdigest(), 600, 600),)
    loose, strict = own.table.thresholds
    assert (loose.target, strict.target) == (0.9, 0.95)
    assert (strict.expected_strong_share, strict.expected_quality, strict.examples) == (0.5, 1.0, 600)
    assert loose.expected_quality >= 0.9
    assert f"0.95  {strict.threshold:25.3f}  {'50.0%':>18}  {'100.0%':>18}" in done.stdout
    assert "those that `classifier fit` read must not be among these" in done.stderr
    assert f"wrote {out}; name it as classifier.quality_targets" in done.stderr


def test_a_server_takes_what_was_written(config: Path, tmp_path: Path) -> None:
    good(run(config, "--data", write(tmp_path / "j.jsonl", *lines(300)), "--out", tmp_path / "targets.json"))
    text = config.read_text(encoding="utf-8").replace(
        "name: heuristic", "name: heuristic, quality_targets: targets.json"
    )
    config.write_text(text.replace("{moderate_from: 0.4, complex_from: 0.7}", "{quality_target: 0.95}"), "utf-8")
    assert check(config, load_config(config), {}).simulated


def test_programs_get_json(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "targets.json"
    data = write(tmp_path / "j.jsonl", *lines(30))
    done = good(run(config, "--data", data, "--out", out, "--json", "--confidence", 0.8))
    assert json.loads(done.stdout) == json.loads(out.read_text(encoding="utf-8"))
    assert {entry["confidence"] for entry in json.loads(done.stdout)["quality_targets"]["thresholds"]} == {0.8}


def test_few_prompts_are_warned_about(config: Path, tmp_path: Path) -> None:
    done = good(run(config, "--data", write(tmp_path / "j.jsonl", *lines(5)), "--out", tmp_path / "t.json"))
    assert "WARNING: 10 judged prompts are too few for a quality target of 0.95" in done.stdout


def test_several_files_count_as_one_and_stems_as_one_prompt(config: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", *(line(f"Hello {at}", 1.0, extra={"stem": str(at % 2)}) for at in range(10)))
    two = write(tmp_path / "2.jsonl", *lines(3))
    done = good(run(config, "--data", one, two, "--out", tmp_path / "t.json", "--json"))
    report = json.loads(done.stdout)
    assert [(file["name"], file["prompts"], file["stems"]) for file in report["judged"]] == [
        ("1.jsonl", 10, 2),
        ("2.jsonl", 6, 6),
    ]
    assert report["quality_targets"]["calibrated_on"] == "1.jsonl, 2.jsonl"
    assert report["quality_targets"]["thresholds"][0]["examples"] == 8


def test_one_pair_of_models_must_be_chosen(config: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "j.jsonl", *lines(2), line("Hi", 0.5, weak_model="tiny"))
    said = refused(run(config, "--data", data, "--out", tmp_path / "t.json"))
    assert "found several pairs of models: small -> large (4 prompts), tiny -> large (1 prompts); choose one" in said
    good(run(config, "--data", data, "--out", tmp_path / "t.json", "--weak-model", "tiny", "--strong-model", "large"))
    assert calibration.read(tmp_path / "t.json").table.small_model == "tiny"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--targets", "high"), "--targets: found 'high'; allowed: numbers above 0 and up to 1"),
        (("--targets", "0.9,1.1"), "--targets: found '0.9,1.1'"),
        (("--targets", "nan"), "--targets: found 'nan'"),
        (("--confidence", "1"), "--confidence: found 1; allowed: above 0 and below 1"),
        (("--classifier", "oracle"), "no classifier is named 'oracle'; allowed: heuristic, learned"),
        (("--evidence", "none.json"), "classifier.evidence: none.json: cannot be read"),
        (("--weak-model", "tiny"), "'tiny'"),
        (("--config", "none.yaml"), "none.yaml"),
    ],
)
def test_what_is_wrong_is_said(config: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    data = write(tmp_path / "j.jsonl", *lines(2))
    common = [] if "--config" in arguments else ["--config", str(config)]
    done = CliRunner().invoke(app, ["--data", str(data), "--out", str(tmp_path / "t.json"), *common, *arguments])
    assert said in refused(done)
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "j.jsonl:1: "), ("", "found no line"), (line("x", 1.0, messages=[]), "j.jsonl: id 1: messages is []")],
)
def test_data_that_cannot_be_read(config: Path, tmp_path: Path, content: str, said: str) -> None:
    assert said in refused(run(config, "--data", write(tmp_path / "j.jsonl", content), "--out", tmp_path / "t.json"))


def test_the_same_file_twice(config: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "j.jsonl", *lines(2))
    assert "found one file twice" in refused(run(config, "--data", data, data, "--out", tmp_path / "t.json"))


def test_a_place_that_cannot_be_written(config: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "j.jsonl", *lines(2))
    done = run(config, "--data", data, "--out", tmp_path / "no" / "where.json")
    assert (done.exit_code, "cannot be written" in done.stderr) == (1, True)


# ---- with evidence -------------------------------------------------------------------------------


def fitted(config: Path, data: Path, out: Path) -> Path:
    done = CliRunner().invoke(fit_app, ["--evidence", str(data), "--out", str(out), "--config", str(config)])
    assert done.exit_code == 0, done.output
    return out


def test_evidence_moves_the_scores_that_are_calibrated(config: Path, tmp_path: Path) -> None:
    evidence = fitted(config, write(tmp_path / "past.jsonl", *lines(40)), tmp_path / "evidence.json")
    data = write(tmp_path / "j.jsonl", *lines(100, start=40))
    good(run(config, "--data", data, "--out", tmp_path / "plain.json"))
    good(run(config, "--data", data, "--out", tmp_path / "moved.json", "--evidence", evidence))
    plain, moved = (calibration.read(tmp_path / name) for name in ("plain.json", "moved.json"))
    digest = sha256(evidence.read_bytes()).hexdigest()
    assert moved.scores == calibration.Scores(NAME + "+evidence", calibration.Evidence(digest, "small"))
    assert plain.scores == calibration.Scores(NAME)
    assert moved.table.threshold_for(0.9).threshold != plain.table.threshold_for(0.9).threshold


def test_the_configured_evidence_counts_too(config: Path, tmp_path: Path) -> None:
    fitted(config, write(tmp_path / "past.jsonl", *lines(5)), tmp_path / "evidence.json")
    text = config.read_text(encoding="utf-8").replace("name: heuristic", "name: heuristic, evidence: evidence.json")
    config.write_text(text, encoding="utf-8")
    good(run(config, "--data", write(tmp_path / "j.jsonl", *lines(5, start=5)), "--out", tmp_path / "t.json"))
    assert calibration.read(tmp_path / "t.json").scores.evidence is not None


def test_the_whole_request_is_scored_as_evidence_knows_it(config: Path, tmp_path: Path) -> None:
    """The words are the same; the small model fails one application's requests."""
    rows = [
        line("Sort these words: pear, apple", weak, application=name, extra={"stem": f"{name} {at}"})
        for name, weak in (("easy", 1.0), ("hard", 0.0))
        for at in range(200)
    ]
    evidence = fitted(config, write(tmp_path / "past.jsonl", *rows, rows[0]), tmp_path / "evidence.json")
    data = write(tmp_path / "j.jsonl", *rows)
    good(run(config, "--data", data, "--out", tmp_path / "t.json", "--evidence", evidence))
    entry = calibration.read(tmp_path / "t.json").table.threshold_for(0.95)
    assert (entry.expected_strong_share, entry.expected_quality) == (0.5, 1.0)


def test_prompts_that_the_fit_learned_from_are_refused(config: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "past.jsonl", *lines(20))
    evidence = fitted(config, data, tmp_path / "evidence.json")
    copied = write(tmp_path / "copy.jsonl", *lines(20))
    said = refused(run(config, "--data", copied, "--out", tmp_path / "t.json", "--evidence", evidence))
    assert f"{copied}: is a file that {evidence} was fitted to, so that its scores look better than they are" in said


def test_prompts_that_the_classifier_was_trained_on_are_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "j.jsonl", *lines(2))
    shipped = registry.shipped()
    sources = [{"name": "own", "sha256": sha256(data.read_bytes()).hexdigest()}]
    trained = Artifact({**shipped.manifest, "sources": sources}, shipped.arrays)
    monkeypatch.setattr(registry, "shipped", lambda: trained)
    done = run(config, "--data", data, "--out", tmp_path / "t.json", "--classifier", "learned")
    assert "j.jsonl: is a file that the classifier was trained on" in refused(done)


def test_evidence_on_another_small_model_is_refused(config: Path, tmp_path: Path) -> None:
    levels = tuple(Level(0.5, {}) for _ in LEVELS)
    Fit(NAME, 0.0, 30.0, (Posterior(NAME, "other", 0.0, 0.0, 0.0, 1.0, 1.0, 5.0, levels),)).write(tmp_path / "e.json")
    data = write(tmp_path / "j.jsonl", *lines(2))
    said = refused(run(config, "--data", data, "--out", tmp_path / "t.json", "--evidence", tmp_path / "e.json"))
    assert "holds evidence on other; deployed are small" in said


def test_a_table_that_serves_is_not_written_over_with_that_of_another_classifier(config: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "targets.json", write(tmp_path / "j.jsonl", *lines(30))
    good(run(config, "--data", data, "--out", out))
    before = out.read_bytes()
    write(config, config.read_text(encoding="utf-8").replace("heuristic}", "heuristic, quality_targets: targets.json}"))
    said = refused(run(config, "--data", data, "--out", out, "--classifier", "learned"))
    assert "this table would be for others; allowed: another file as --out" in said
    assert out.read_bytes() == before
    good(run(config, "--data", data, "--out", out))
