"""Tiers of scores."""

from __future__ import annotations

import pytest

from classifiers.base import tier_of


@pytest.mark.parametrize(
    ("score", "tier"),
    [(0.0, "simple"), (0.349, "simple"), (0.35, "moderate"), (0.649, "moderate"), (0.65, "complex"), (1.0, "complex")],
)
def test_each_threshold_opens_its_tier(score: float, tier: str) -> None:
    assert tier_of(score, moderate_from=0.35, complex_from=0.65) == tier


def test_equal_thresholds_leave_no_moderate_tier() -> None:
    assert [tier_of(score, 0.5, 0.5) for score in (0.49, 0.5)] == ["simple", "complex"]
