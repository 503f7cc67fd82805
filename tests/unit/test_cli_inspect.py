"""`parsimony classify` says what was judged, to people and to programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from classifiers import registry
from classifiers.artifact import MANIFEST, WEIGHTS
from router.cli.inspect import classify


def test_people_read_the_tier_the_length_and_the_signals(capsys: pytest.CaptureFixture[str]) -> None:
    classify("Prove that there are infinitely many primes, in 200 words.")
    judged, length, *signals = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"(moderate|complex)  score 0\.\d{3}  \(learned@[0-9a-f]{8}\)", judged)
    assert re.fullmatch(r"answer: about \d+ tokens, 95 of 100 within \d+", length)
    assert "  proof" in signals


def test_programs_read_json(capsys: pytest.CaptureFixture[str]) -> None:
    classify("Who painted the ceiling?", as_json=True)
    judged = json.loads(capsys.readouterr().out)
    assert judged["tier"] == "simple"
    assert 1 <= judged["output_length"]["expected_tokens"] <= judged["output_length"]["p95_tokens"]


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without a trained model, in place of the package's."""
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    registry.shipped.cache_clear()
    yield tmp_path
    registry.shipped.cache_clear()


def test_without_a_trained_model_the_rules_judge_as_in_the_server(
    artifacts: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    classify("Who painted the ceiling?")
    assert "(heuristic@" in capsys.readouterr().out
    assert str(artifacts) in caplog.text


def test_a_broken_one_is_named(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (MANIFEST, WEIGHTS):
        (artifacts / name).write_bytes(b"{")
    with pytest.raises(typer.Exit):
        classify("Who painted the ceiling?")
    assert str(artifacts / MANIFEST) in capsys.readouterr().err
