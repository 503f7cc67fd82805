"""Logs of invented requests, in every format that `parsimony replay` reads, and a plan to reckon them with."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from router.config import load_config
from router.replay.plan import Plan, make_plan

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "parsimony.yaml"
NOW_MS = 1_790_000_000_000
"""September 2026: after every row that is made here, and after the dates of all prices in use."""
STARTED_S = 1_760_000_000

_SUBJECTS = "the moon|a lighthouse|two trains|a bakery|the river|an old clock|seven ducks|a garden gate".split("|")
_TASKS = (
    "Say hello to {}.",
    "Write one sentence about {}.",
    "Translate into French: I like {}.",
    "Explain step by step how one would measure the height of {} with a rope and a shadow.",
    "Prove by induction that the number of ways to tile a 2 x n floor beside {} is a Fibonacci number.",
    "Write a Python function that simulates {} and test it with hypothesis.",
    "给{}写一首短诗。",
)


def plan_for(targets: Sequence[float] | None = (0.8, 0.95), now_ms: int = NOW_MS, **changes: Any) -> Plan:
    return make_plan(load_config(CONFIG), None, targets, now_ms, **changes)


def prompts(count: int, seed: int = 7) -> list[str]:
    """Short and long, easy and hard; about one in six is a repeat."""
    draw = random.Random(seed)
    made: list[str] = []
    for number in range(count):
        if made and draw.random() < 0.17:
            made.append(draw.choice(made))
        else:
            made.append(draw.choice(_TASKS).format(draw.choice(_SUBJECTS)) + (f" ({number})" if number % 3 else ""))
    return made


def pair(prompt: str, number: int = 0, model: str = "gpt-4", output_tokens: int = 120, **more: Any) -> dict[str, Any]:
    """A request and its response in OpenAI's shape."""
    return {
        "created_at": STARTED_S + 60 * number,
        "request": {"model": model, "messages": [{"role": "user", "content": prompt}]},
        "response": {
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "An invented answer."}}],
            "usage": {"prompt_tokens": 10 + len(prompt) // 4, "completion_tokens": output_tokens},
        },
        **more,
    }


def pairs(count: int, seed: int = 7) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    models = ("gpt-4", "gpt-4", "gpt-4o-mini", "gpt-3.5-turbo")
    return [
        pair(prompt, number, draw.choice(models), draw.randrange(1, 900))
        for number, prompt in enumerate(prompts(count))
    ]


def as_lines(records: Iterable[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def as_csv(records: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    """Nested values become JSON inside of a field, as exports write them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                name: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
                for name, value in record.items()
            }
        )
    return text.getvalue().encode()


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)
