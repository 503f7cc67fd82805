"""Pictures are written, the same each time, and refused with a sentence where they cannot be."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from classifiers.training import picture
from classifiers.training.evaluation import Evaluation, Settings, evaluate
from classifiers.training.metrics import ReliabilityBin
from classifiers.training.picture import PictureError, check, draw, reliability_path
from tests.support.routing_examples import CONSTANT, PERFECT, examples

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def evaluations() -> list[Evaluation]:
    """One file of two pairs, and one in which the large model is no better: no gap, no APGR."""
    two = [*examples(20), *examples(20, pair=("maker/" + "long-name" * 9, "large"))]
    worse = [replace(each, strong_score=0.0) for each in examples(10)]
    settings = Settings(resamples=20)
    return [*evaluate("two.jsonl", two, (PERFECT, CONSTANT), settings), *evaluate("no", worse, (CONSTANT,), settings)]


def panels(svg: Path) -> int:
    groups = ElementTree.parse(svg).getroot().iter("{http://www.w3.org/2000/svg}g")
    return sum(1 for group in groups if group.get("id", "").startswith("axes_"))


@needs_matplotlib
def test_both_pictures_are_written_beside_each_other(evaluations: list[Evaluation], tmp_path: Path) -> None:
    path = tmp_path / "exam.svg"
    assert draw(evaluations, path) == (path, tmp_path / "exam-reliability.svg")
    assert sorted(tmp_path.iterdir()) == [reliability_path(path), path]
    for written in tmp_path.iterdir():
        assert ElementTree.parse(written).getroot().tag.endswith("svg")
    draw(evaluations, tmp_path / "exam.png")
    for name in ("exam.png", "exam-reliability.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG_MAGIC)


@needs_matplotlib
@pytest.mark.parametrize("suffix", picture.SUFFIXES)
def test_the_same_figures_give_the_same_bytes(evaluations: list[Evaluation], tmp_path: Path, suffix: str) -> None:
    first, second = (draw(evaluations, tmp_path / f"{name}{suffix}") for name in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    (other,) = evaluate("two.jsonl", examples(22), (CONSTANT,), Settings(resamples=20))
    third = draw([other], tmp_path / f"third{suffix}")
    assert [path.read_bytes() for path in third] != [path.read_bytes() for path in first]


@needs_matplotlib
def test_a_file_has_one_panel_and_there_are_not_too_many(
    evaluations: list[Evaluation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, _ = draw(evaluations, tmp_path / "few.svg")
    assert panels(few) == 2
    monkeypatch.setattr(picture, "MAX_PANELS", 1)
    assert [panels(path) for path in draw(evaluations, tmp_path / "one.svg")] == [1, 1]


@needs_matplotlib
def test_a_label_loses_the_zero_of_its_figure_and_of_nothing_else(evaluations: list[Evaluation]) -> None:
    from matplotlib.figure import Figure

    panel = Figure().subplots()
    named = replace(evaluations[0].rows[0], name="Router 10.2")
    picture._label_curves(panel, [(named, "black"), (evaluations[0].rows[2], "gray"), (evaluations[2].rows[0], "red")])
    assert {text.get_text() for text in panel.texts} == {"Router 10.2 .750", "random", "constant"}


@pytest.mark.parametrize("name", ["exam.pdf", "exam", "exam.svg.gz", "exam.SVG"])
def test_another_kind_of_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"the name of a picture ends in \.svg or \.png$") as refused:
        check(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))


def test_without_matplotlib_it_is_said_before_the_work(
    evaluations: list[Evaluation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for attempt in (lambda path: check(path), lambda path: draw(evaluations, path)):
        with pytest.raises(PictureError, match="needs matplotlib: pip install matplotlib, or leave --picture out"):
            attempt(tmp_path / "exam.svg")
    assert list(tmp_path.iterdir()) == []


def test_bars_of_reliability_stay_within_what_a_share_can_be() -> None:
    bins = [ReliabilityBin(10, 0.1, 0.0), ReliabilityBin(100, 0.5, 0.5), ReliabilityBin(10, 0.9, 1.0)]
    reach = picture._reach(bins)
    observed = np.array([each.shortfall_share for each in bins])
    assert reach.shape == (2, 3)
    assert (observed - reach[0] >= -1e-12).all() and (observed + reach[1] <= 1 + 1e-12).all()
    # Wilson's interval for 50 of 100 is .404 to .596; for 0 of 10 it reaches .278.
    np.testing.assert_allclose(reach, [[0.0, 0.0962, 0.2775], [0.2775, 0.0962, 0.0]], atol=5e-4)
