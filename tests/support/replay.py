"""Recorded answers of real models, played back; and what they must cost, reckoned without any code of ours.

The data lie outside of the project: in the folder that PARSIMONY_SHARED names, else in ../shared.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path
from unittest import mock

import tiktoken
import yaml

from tests.support.server import PRICES, ROOT
from tests.support.upstream import Received, Step, answer

NANO = Decimal(10) ** 9


@dataclass(frozen=True, slots=True)
class Recorded:
    """One prompt, and what each model answered to it."""

    prompt: str
    answers: Mapping[str, str]


def recordings_path() -> Path:
    shared = Path(os.environ.get("PARSIMONY_SHARED") or ROOT.parent / "shared")
    return shared / "data" / "replay" / "recorded_answers.jsonl.gz"


def load_recordings(step: int) -> list[Recorded]:
    """Every `step`-th of the recorded prompts, so that all their sources are among them."""
    with gzip.open(recordings_path(), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Recorded(row["prompt"], row["answers"]) for row in rows[::step]]


class Playback:
    """A `Behaviour`: answers each prompt as the model asked did, and counts both sides' tokens."""

    def __init__(self, recordings: list[Recorded]) -> None:
        self._by_prompt = {recorded.prompt: recorded for recorded in recordings}

    def __call__(self, request: Received) -> list[Step]:
        text = self._by_prompt[request.prompt].answers[request.model]
        usage = {"prompt_tokens": prompt_tokens(request.prompt), "completion_tokens": text_tokens(text)}
        return answer(text, usage=usage)(request)


@dataclass(frozen=True, slots=True)
class ListPrice:
    """Dollars a million tokens."""

    input_usd: Decimal
    output_usd: Decimal

    def cost_nusd(self, input_tokens: int, output_tokens: int) -> int:
        """Whole nano-dollars, rounded up."""
        dollars = (input_tokens * self.input_usd + output_tokens * self.output_usd) / Decimal(1_000_000)
        return int((dollars * NANO).to_integral_value(ROUND_CEILING))


@cache
def list_price(model: str) -> ListPrice:
    """The price in force today, straight from the price file; those in dollars only."""
    entry = yaml.safe_load(PRICES.read_text(encoding="utf-8"))["models"][model]
    assert entry.get("currency", "USD") == "USD"
    today = datetime.now(UTC).date()
    prices = [price for price in entry["prices"] if _day(price["effective_from"]) <= today]
    newest = max(prices, key=lambda price: _day(price["effective_from"]))
    return ListPrice(Decimal(newest["input"]), Decimal(newest["output"]))


KNEE_TOKENS = 150
TYPICAL = 0.87


def expected_tokens(small: str, baseline: str, written_tokens: int) -> int:
    """The length of the baseline's answer where `small` wrote so much, by the published lengths and the formula."""
    ratio = _mean_tokens(baseline) / (TYPICAL * math.log(1 + _mean_tokens(small) / KNEE_TOKENS))
    return round(ratio * math.log(1 + written_tokens / KNEE_TOKENS))


@cache
def _mean_tokens(model: str) -> float:
    file = yaml.safe_load(PRICES.with_name("answer_lengths.yaml").read_text(encoding="utf-8"))
    found = [entry for name, entry in file["models"].items() if model in (name, *entry.get("also", ()))]
    return (found or [file["usual"]])[0]["characters"] / 4.7


def _day(value: date | str) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)


def prompt_tokens(prompt: str) -> int:
    """Of one user message, as OpenAI's cookbook counts: three a message, three for the reply's beginning."""
    return 3 + text_tokens("user") + text_tokens(prompt) + 3


@cache
def text_tokens(text: str) -> int:
    return len(_encoding().encode(text, disallowed_special=()))


@cache
def _encoding() -> tiktoken.Encoding:
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    with mock.patch.dict(os.environ, {"TIKTOKEN_CACHE_DIR": str(folder)}):
        return tiktoken.get_encoding("cl100k_base")
