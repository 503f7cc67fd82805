"""Made-up outcomes in the format of the routing data: small enough to train on in a second, and known by design."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.training.datasets import Example, read

SOURCES = ("mmlupro", "llmrouter_14tasks", "zeroeval_crux_math", "gaokao_zh", "lawbench_zh")
PROMPTS = 120
_SYLLABLES = ("ba", "do", "ki", "lum", "mo", "ner", "pa", "quo", "ri", "sta", "tev", "un", "vo", "wex", "yl", "zor")
_HAN = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"
_TEMPLATE_WORDS, _TOPIC_WORDS = 24, 60
_QUESTION = "a farmer has {0} sheep, sells {1}, then buys {2} more every day: calculate how many remain in total. "


def rows(source: str, seed: int = 0, prompts: int = PROMPTS) -> Iterator[dict[str, Any]]:
    """One source's lines: two pairs of models, two tasks.

    Prompts of task "template" are one text but for three numbers. Of task "topic" each is another choice of words:
    half are word problems, and there the small model falls short in four of five, else in one of five. Stems repeat.
    """
    rng = np.random.default_rng([seed, SOURCES.index(source)])
    words = _words(source)
    for number in range(prompts):
        template, problem = number % 3 == 0, number % 2 == 0
        prompt = _templated(words, rng) if template else _of_topic(words, rng, problem)
        short = rng.random() < (0.4 if template else 0.8 if problem else 0.2)
        for weak_model in ("small-a", "small-b"):
            yield {
                "dataset": source,
                "id": str(number),
                "subset": "template" if template else "topic",
                "lang": "zh" if source.endswith("_zh") else "en",
                "prompt": prompt,
                "weak_model": weak_model,
                "strong_model": "large",
                "weak_score": 0.0 if short else 1.0,
                "strong_score": 1.0,
                "extra": {"stem": f"{source}{number // 2}", "weak_chars": int(rng.integers(10, 900))}
                | ({"matches_official": number % 6 != 5} if source == "lawbench_zh" else {}),
            }


def examples(source: str, folder: Path, seed: int = 0, prompts: int = PROMPTS) -> list[Example]:
    """The same as `read` finds them."""
    return read(write(source, folder, seed, prompts))


def write(source: str, folder: Path, seed: int = 0, prompts: int = PROMPTS) -> Path:
    path = folder / f"{source}.jsonl.gz"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(source, seed, prompts)]
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return path


def write_all(data: Path, seed: int = 0) -> Path:
    """All five files where training looks for them; returns `data`."""
    folder = data / "routing" / "train"
    folder.mkdir(parents=True)
    for source in SOURCES:
        write(source, folder, seed)
    return data


def _words(source: str) -> list[str]:
    """The source's own words, always the same: first those of its template, then those of its topic."""
    rng = np.random.default_rng(SOURCES.index(source))
    count = _TEMPLATE_WORDS + _TOPIC_WORDS
    if source.endswith("_zh"):
        return ["".join(rng.choice(list(_HAN), 3)) for _ in range(count)]
    return ["".join(rng.choice(_SYLLABLES, 3)) for _ in range(count)]


def _templated(words: list[str], rng: np.random.Generator) -> str:
    numbers = rng.integers(1, 99, 3)
    return f"{' '.join(words[:_TEMPLATE_WORDS])} {numbers[0]} {numbers[1]} {numbers[2]}"


def _of_topic(words: list[str], rng: np.random.Generator, problem: bool) -> str:
    chosen = rng.choice(words[_TEMPLATE_WORDS:], 12, replace=False)
    return (_QUESTION.format(*rng.integers(2, 99, 3)) if problem else "") + " ".join(chosen)
