"""Training from end to end on made-up outcomes: what it writes, that it repeats, and what it says of bad data."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from classifiers.artifact import MANIFEST, WEIGHTS, Artifact, load
from classifiers.base import Message, Prompt
from classifiers.learned import LearnedClassifier
from classifiers.quality import QualityTargets
from classifiers.registry import shipped
from classifiers.training import train as module
from classifiers.training.train import SEED, Unseen, calibrate, main, probabilities, step_count, train
from tests.support.outcomes import PROMPTS, SOURCES, examples, rows, write_all

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("PARSIMONY_SHARED") or ROOT.parent / "shared") / "data"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def artifact(data: Path) -> Artifact:
    assert main(["--data", str(data), "--out", str(data / "out"), "--seed", "7"]) == 0
    return load(data / "out")


def test_what_is_written_can_judge(artifact: Artifact) -> None:
    classifier = LearnedClassifier(artifact)
    problem, other = (next(rows("mmlupro"))["prompt"], "Hello!")
    for text in (problem, other, ""):
        assert 0.0 <= classifier.classify(Prompt((Message("user", text),))).score <= 1.0
    assert isinstance(classifier.quality_targets, QualityTargets)
    assert classifier.model.mixture.slope > 0.0


def test_a_template_is_known_again(artifact: Artifact) -> None:
    classifier = LearnedClassifier(artifact)
    templated = next(row["prompt"] for row in rows("mmlupro", seed=99) if row["subset"] == "template")
    assert classifier.classify(Prompt((Message("user", templated),))).task == "mmlupro:template"


def test_the_manifest_says_what_went_in(artifact: Artifact, data: Path) -> None:
    manifest = artifact.manifest
    assert manifest["seed"] == 7
    assert manifest["versions"]["numpy"] == np.__version__
    assert manifest["tasks"] == sorted(f"{source}:{task}" for source in SOURCES for task in ("template", "topic"))
    assert [source["name"] for source in manifest["sources"]] == list(SOURCES)
    for source in manifest["sources"]:
        raw = (data / "routing" / "train" / f"{source['name']}.jsonl.gz").read_bytes()
        assert source["sha256"] == sha256(raw).hexdigest()
    official = {source["name"]: source["prompts"] for source in manifest["sources"]}
    assert official["mmlupro"] == PROMPTS
    assert official["lawbench_zh"] == PROMPTS - PROMPTS // 6


def test_its_figures_are_those_of_prompts_left_out(artifact: Artifact) -> None:
    figures = artifact.manifest["metrics"]
    assert set(figures) == set(SOURCES)
    for found in figures.values():
        assert 0.0 < found["brier_stems_left_out"] < 0.45
        assert 0.2 < found["small_model_falls_short"] < 0.8
    # Half of the prompts are word problems, which by design are hard in every source: other sources teach that.
    assert np.mean([found["apgr_source_left_out"] for found in figures.values()]) > 0.55


def run(data: Path, out: Path, **environ: str) -> str:
    """The hash of the weights, trained in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "classifiers.training.train",
        "--data",
        str(data),
        "--out",
        str(out),
        "--seed",
        "7",
    ]
    subprocess.run(command, cwd=ROOT, env=os.environ | environ, check=True, capture_output=True, timeout=120)
    return sha256((out / WEIGHTS).read_bytes()).hexdigest()


def test_one_seed_gives_the_same_bytes_in_any_process(artifact: Artifact, data: Path, tmp_path: Path) -> None:
    """Whatever the seed of its hashes, and the number of its threads."""
    first = run(data, tmp_path / "a", PYTHONHASHSEED="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    second = run(data, tmp_path / "b", PYTHONHASHSEED="2", OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
    assert first == second == artifact.manifest["weights_sha256"]
    assert (tmp_path / "a" / MANIFEST).read_bytes() == (tmp_path / "b" / MANIFEST).read_bytes()


def test_every_step_is_told(data: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    train(data, tmp_path, SEED, steps.append)
    assert len(steps) == step_count() == len(set(steps))


@pytest.mark.parametrize("gone", [SOURCES, SOURCES[1:2]])
def test_data_that_is_missing_is_named(
    gone: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(tmp_path)
    for source in gone:
        (tmp_path / "routing" / "train" / f"{source}.jsonl.gz").unlink()
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "routing" / "train") in said
    assert all((f"{source}.jsonl.gz" in said) == (source in gone) for source in SOURCES)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "no[/red]where"), "--out", str(tmp_path / "out")]) == 2
    assert f"parsimony: {tmp_path / 'no[/red]where' / 'routing' / 'train'}: found no mmlupro" in capsys.readouterr().err


def test_a_broken_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_all(tmp_path) / "routing" / "train" / "gaokao_zh.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"prompt": "x"}).encode()))
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "gaokao_zh.jsonl.gz:1: weak_model, strong_model, weak_score, strong_score missing" in capsys.readouterr().err


def test_calibration_finds_the_curve_it_is_given(tmp_path: Path) -> None:
    """Offsets differ by source, what ships is their mean; the slope is shared."""
    rng = np.random.default_rng(0)
    corpora = [module.corpus(source, examples(source, tmp_path)) for source in SOURCES]
    gains = {one.name: rng.normal(0, 1, len(one)) for one in corpora}
    offsets = dict(zip(gains, (-1.0, -0.5, 0.0, 0.5, 1.0), strict=True))
    made = [
        module.Corpus(
            one.name, one.prompts, one.texts, one.kinds, one.traits, one.gain,
            1 / (1 + np.exp(-(2.0 * gains[one.name] + offsets[one.name]))), one.labels, one.stems,
        )
        for one in corpora
    ]  # fmt: skip
    slope, offset = calibrate(
        made, Unseen(gains, {name: np.ones(len(gain), bool) for name, gain in gains.items()}, gains)
    )
    assert slope == pytest.approx(2.0, rel=0.02)
    assert offset == pytest.approx(0.0, abs=0.25)


def test_probabilities_rise_with_the_gain() -> None:
    gains = np.linspace(-50, 50, 11)
    found = probabilities(gains, np.array([0.02, 1.5, -0.5]))
    assert (np.diff(found) >= 0).all()
    assert found[5] == pytest.approx(1 / (1 + np.exp(0.5)))


@pytest.mark.skipif(
    not SHARED.is_dir(),
    reason="the shared routing data is not there; PARSIMONY_SHARED may name the folder that holds data/routing",
)
def test_what_ships_was_trained_on_the_shared_files() -> None:
    for source in shipped().manifest["sources"]:
        raw = (SHARED / "routing" / "train" / f"{source['name']}.jsonl.gz").read_bytes()
        assert source["sha256"] == sha256(raw).hexdigest(), source["name"]
