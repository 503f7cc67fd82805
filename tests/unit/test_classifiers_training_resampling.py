"""The experiments find a method out that misses more often than it says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from classifiers.heuristic import HeuristicClassifier
from classifiers.training.datasets import by_pair, read
from classifiers.training.resampling import METHODS, across, judged_by, main, misses, subset, table
from classifiers.training.risk_control import Judged, judged
from tests.unit.test_classifiers_training_risk_control import prompts

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "routing"


@pytest.fixture(scope="module")
def data() -> Judged:
    return judged(*prompts(1_500, noise=0.1))


def test_a_subset_is_what_these_stems_alone_would_be() -> None:
    scores, weak, strong, stems = prompts(200, stems=50)
    kept = [at for at in range(200) if int(stems[at]) < 20]
    alone = judged(scores[kept], weak[kept], strong[kept], [f"{int(stems[at]):02}" for at in kept])
    whole = judged(scores, weak, strong, [f"{int(stem):02}" for stem in stems])
    part = subset(whole, np.arange(20))
    for name in ("step", "gain", "share", "stem", "strong"):
        assert getattr(part, name).tolist() == getattr(alone, name).tolist(), name
    assert subset(whole, np.array([3, 3])).quality().tolist() == subset(whole, np.array([3])).quality().tolist()


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_the_shipped_method_misses_no_more_often_than_it_says(data: Judged, target: float) -> None:
    found = misses(data, target, "betting", rng=np.random.default_rng(0), repeats=200)
    assert max(found.held_out_missed, found.population_missed) <= found.stated
    assert found.strong_share < 1.0
    assert found.quality >= target


def test_without_a_margin_about_every_second_set_misses(data: Judged) -> None:
    found = misses(data, 0.9, "naive", rng=np.random.default_rng(0), repeats=200)
    assert found.held_out_missed > 0.3
    assert found.worst < 0.9


def test_hoeffding_and_bentkus_hand_over_less_than_the_bets(data: Judged) -> None:
    shares = [misses(data, 0.9, name, rng=np.random.default_rng(0), repeats=30).strong_share for name in
              ("betting", "hoeffding-bentkus")]  # fmt: skip
    assert shares[0] < shares[1] - 0.1


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_is_reproducible_and_certain_where_nothing_is_lost(name: str) -> None:
    scores, _, strong, stems = prompts(4_000)
    same = judged(scores, strong, strong, stems)
    one, two = (misses(same, 0.8, name, rng=np.random.default_rng(7), repeats=3) for _ in range(2))
    assert one == two
    assert (one.held_out_missed, one.population_missed, one.quality) == (0.0, 0.0, 1.0)
    assert one.strong_share < 0.1


@pytest.mark.parametrize("size", [0, 1_500])
def test_some_stems_must_be_left_on_either_side(data: Judged, size: int) -> None:
    with pytest.raises(ValueError, match="some must be left"):
        misses(data, 0.9, "naive", rng=np.random.default_rng(0), calibration=size)


def lines() -> list[dict[str, object]]:
    pairs = {"weak_model": "small", "strong_model": "large", "strong_score": 1}
    texts = [("Say hello.", 1), ("Prove by induction that the sum of the first n odd integers is a square.", 0)]
    rows = [{"prompt": f"{text} ({at})", "weak_score": score} for at in range(30) for text, score in texts]
    return [pairs | row for row in rows] + [pairs | rows[0] | {"extra": {"matches_official": False}}]


def test_the_command_prints_a_table_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "made_up.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines())).encode()))
    command = ["resampling", "--data", str(path), "--target", "0.7", "--repeats", "5"]
    monkeypatch.setattr("sys.argv", command)
    main()
    text = capsys.readouterr().out
    assert "small -> large, 60 stems, heuristic" in text
    assert [line.split()[:3] for line in text.splitlines()[2:4]] == [
        ["70.0", "betting", "10.0"],
        ["70.0", "naive", "10.0"],
    ]
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    main()
    (row,) = capsys.readouterr().out.splitlines()
    assert [one["method"] for one in json.loads(row)["misses"]] == ["betting", "naive"]


def test_another_kind_of_prompts_may_miss(
    data: Judged, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, weak, strong, stems = prompts(1_500)
    worse = judged(scores, 0.3 * weak, strong, stems)
    kept = across({"usual": data, "worse": worse}, 0.9)
    assert kept["usual", "worse"] < 0.8
    assert kept["worse", "usual"] > 0.9
    path = tmp_path / "made_up.jsonl"
    others = [line | {"weak_model": "smaller", "weak_score": 0} for line in lines()]
    path.write_text("\n".join(map(json.dumps, lines() + others)))
    monkeypatch.setattr("sys.argv", ["resampling", "--data", str(path), "--target", "0.3", "--across"])
    main()
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head == "target 30.0: missed in 1 of 2 pairs of sources; kept, per cent:"
    assert first.split()[0] == "0.0"


def test_the_table_is_in_per_cent(data: Judged) -> None:
    found = misses(data, 0.9, "betting", rng=np.random.default_rng(0), repeats=2)
    assert table([found]).splitlines()[1].split()[:3] == ["90.0", "betting", "10.0"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared routing data is not there")
def test_on_real_prompts_the_rules_keep_their_targets() -> None:
    (examples,) = by_pair(read(SHARED / "dev" / "gsm8k.jsonl.gz")).values()
    data = judged_by(HeuristicClassifier(), examples)
    for target in (0.8, 0.9, 0.95):
        found = misses(data, target, "betting", rng=np.random.default_rng(0), repeats=60)
        assert max(found.held_out_missed, found.population_missed) <= found.stated
