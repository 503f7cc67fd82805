"""`parsimony classify` says what was judged, to people and to programs."""

from __future__ import annotations

import json
import re

import pytest

from router.cli.inspect import classify


def test_people_read_the_tier_the_length_and_the_signals(capsys: pytest.CaptureFixture[str]) -> None:
    classify("Prove that there are infinitely many primes, in 200 words.")
    judged, length, *signals = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"complex  score 0\.\d{3}  \(heuristic@\d+\)", judged)
    assert re.fullmatch(r"answer: about \d+ tokens, 95 of 100 within \d+", length)
    assert "  proof" in signals


def test_programs_read_json(capsys: pytest.CaptureFixture[str]) -> None:
    classify("Who painted the ceiling?", as_json=True)
    judged = json.loads(capsys.readouterr().out)
    assert judged["tier"] == "simple"
    assert 1 <= judged["output_length"]["expected_tokens"] <= judged["output_length"]["p95_tokens"]
