"""Made-up examples whose figures can be reckoned by hand, and where the real routing data lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from classifiers.training.contenders import Contender
from classifiers.training.datasets import Example, Pair, read

PAIR: Pair = ("small", "large")
SHARED = Path(os.environ.get("PARSIMONY_SHARED") or Path(__file__).resolve().parents[3] / "shared")
DEV = SHARED / "data" / "routing" / "dev"
needs_dev_files = pytest.mark.skipif(
    not DEV.is_dir(),
    reason="the shared routing data is not there; PARSIMONY_SHARED may name the folder that holds data/routing",
)

PERFECT = Contender("perfect", lambda text: float("hard" in text), is_probability=True)
INVERTED = Contender("inverted", lambda text: float("hard" not in text), is_probability=True)
CONSTANT = Contender("constant", lambda text: 0.5, is_probability=True)


def example(
    number: int, *, pair: Pair = PAIR, stem: str = "", contaminated: bool = False, dataset: str = "d"
) -> Example:
    """The large model is always right; the small one falls short on even numbers, whose prompts say "hard"."""
    hard = number % 2 == 0
    return Example(
        dataset=dataset,
        id=str(number),
        subset="",
        lang="en",
        prompt=f"{'hard' if hard else 'easy'} question {number}",
        weak_model=pair[0],
        strong_model=pair[1],
        weak_score=0.0 if hard else 1.0,
        strong_score=1.0,
        stem=stem or str(number),
        contaminated=contaminated,
        extra={},
    )


def examples(count: int, *, pair: Pair = PAIR, dataset: str = "d") -> list[Example]:
    return [example(number, pair=pair, dataset=dataset) for number in range(count)]


def dev(name: str) -> list[Example]:
    """One of the shared files that figures are known for."""
    return read(DEV / f"{name}.jsonl.gz")


def write(path: Path, made: Iterable[Example]) -> Path:
    """The examples as a file in the format of the routing data."""
    keys: Sequence[str] = (
        "dataset",
        "id",
        "lang",
        "prompt",
        "weak_model",
        "strong_model",
        "weak_score",
        "strong_score",
    )
    rows = (
        {key: getattr(one, key) for key in keys} | {"extra": {"stem": one.stem, "contaminated": one.contaminated}}
        for one in made
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
