"""Stems are drawn, not prompts; and an interval that cannot be given is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from classifiers.training import bootstrap


def drawn(stems: list[str], resamples: int, seed: int = 3) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.concatenate(list(bootstrap.stem_weights(stems, resamples, np.random.default_rng(seed))))


def test_prompts_of_a_stem_are_drawn_together() -> None:
    weights = drawn(["a", "b", "a", "c"], 200)
    assert weights.shape == (200, 4)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    assert len({tuple(row) for row in weights}) > 5


def test_a_seed_gives_the_same_draws_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(["a", "b", "c"], 20)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 7)
    np.testing.assert_array_equal(drawn(["a", "b", "c"], 20), whole)


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(1).random(400)
    weights = drawn([str(n) for n in range(400)], 2000)
    found = bootstrap.estimate(float(values.mean()), (weights * values).sum(axis=1) / weights.sum(axis=1))
    error = values.std() / math.sqrt(400)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.3 * error)


def test_many_undefined_resamples_leave_no_interval() -> None:
    resampled = np.linspace(0.0, 1.0, 100)
    resampled[:5] = np.nan
    assert math.isfinite(bootstrap.estimate(0.5, resampled).low)
    resampled[5] = np.nan
    undefined = bootstrap.estimate(0.5, resampled)
    assert undefined.value == 0.5
    assert math.isnan(undefined.low) and math.isnan(undefined.high)
