"""Evidence pays: what is not known of tasks is learned from few judgements, and follows when they change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from classifiers.heuristic import NAME, HeuristicClassifier
from classifiers.training.datasets import Example, read
from classifiers.training.stream import (
    Request,
    drift,
    gain,
    halves,
    learning_curve,
    requests_of,
    table,
)

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "routing"

# How often the small model is right; the large one always is. Nothing in the words tells: only the template does.
TASKS = {"Sort the letter": 0.95, "Name the author": 0.7, "Sum up the figures": 0.4, "Date the deed": 0.1}


def examples(count: int = 120, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [
        Example(
            "made-up", f"{task}{at}", task, "en", f"{task} in what follows:\n{words}", "small", "large",
            float(rng.random() < share), 1.0, f"{task}{at}", False, {},
        )
        for task, share in TASKS.items()
        for at, words in enumerate(" ".join(rng.choice(list("abcdefgh"), 12)) for _ in range(count))
    ]  # fmt: skip


def requests(count: int = 120) -> list[Request]:
    return requests_of(examples(count), HeuristicClassifier())


def test_a_request_carries_what_the_prior_says_and_the_shortfall() -> None:
    request = requests(1)[0]
    assert request.evidence.classifier == NAME
    assert request.evidence.outcome == 1.0 - request.weak_score
    other = requests_of(examples(1)[:1], HeuristicClassifier(), lambda example: example.subset)[0]
    assert other.evidence.fingerprint != request.evidence.fingerprint


def test_halves_share_no_stem() -> None:
    first, second = halves(requests(), np.random.default_rng(1))
    assert {request.stem for request in first}.isdisjoint(request.stem for request in second)
    assert len(first) + len(second) == 4 * 120


def test_twenty_judgements_a_task_find_the_order_of_tasks() -> None:
    points = learning_curve(requests(), (0, 20), runs=4)
    assert points[0].apgr < 0.6
    assert points[1].apgr > points[1].oracle - 0.03
    assert points[1].regret < points[0].regret / 5
    assert points[1].brier < points[0].brier
    assert points[1].evidence == 80


def test_the_same_seed_gives_the_same_curve() -> None:
    one, other = (learning_curve(requests(30), (5,), runs=2, seed=7) for _ in range(2))
    assert one == other
    assert learning_curve(requests(30), (5,), runs=2, seed=8) != one


def test_the_table_has_a_line_a_point() -> None:
    assert len(table(learning_curve(requests(20), (0, 5), runs=2)).splitlines()) == 3


def test_gain_counts_where_the_small_model_is_better() -> None:
    assert (gain(1.0, 0.0), gain(0.5, 0.5), gain(0.0, 1.0)) == (0.0, 0.5, 1.0)


@pytest.mark.parametrize("half_life", [25, 50])
def test_a_task_that_changes_is_followed_within_two_half_lives(half_life: int) -> None:
    seen = drift(requests(), half_life, flip_after=200)
    assert seen.followed_after is not None
    assert seen.followed_after <= 2 * half_life


def test_without_decay_it_takes_about_as_long_as_it_was_otherwise() -> None:
    slow, quick = (drift(requests(), half_life, flip_after=100).followed_after or 10_000 for half_life in (1e6, 20))
    assert slow >= 60
    assert quick <= slow / 2


def test_the_module_prints_a_curve(tmp_path: Path) -> None:
    path = tmp_path / "made-up.jsonl"
    keys = ("prompt", "subset", "weak_model", "strong_model", "weak_score", "strong_score")
    path.write_text(
        "\n".join(json.dumps({key: getattr(each, key) for key in keys}) for each in examples(20)), encoding="utf-8"
    )
    command = [sys.executable, "-m", "classifiers.training.stream", "--data", str(path), "--runs", "2"]
    done = subprocess.run(
        [*command, "--judged", "0", "5", "--json"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    title, *points = done.stdout.splitlines()
    assert title == f"made-up, small beside large: 80 requests, 4 tasks, prior {NAME}, shortfall"
    assert [json.loads(point)["judged"] for point in points if point] == [0, 5]


def test_on_the_chinese_legal_tasks_evidence_pays() -> None:
    path = DATA / "train" / "lawbench_zh.jsonl.gz"
    if not path.is_file():
        pytest.skip("needs the shared routing data")
    found = requests_of(read(path, weak_model="qwen-7b-chat"), HeuristicClassifier())
    points = learning_curve(found, (0, 20), runs=3)
    assert points[0].apgr < 0.68
    assert points[1].apgr > 0.72
    assert points[1].covered > 0.8
