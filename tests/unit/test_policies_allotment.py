"""Sharing out to the last unit: shares that add up, and stay within one of what is exact."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.allotment import allot


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (-10, [1, 1, 1], [-4, -3, -3]),
        (7, [1, 0, 6], [1, 0, 6]),
        (100, [47, 16, 16, 12, 6, 3], [47, 16, 16, 12, 6, 3]),
        (1, [1, 2], [0, 1]),
        (0, [], []),
        (0, [0, 0], [0, 0]),
    ],
)
def test_what_is_left_over_goes_to_who_lost_most(total: int, weights: list[int], parts: list[int]) -> None:
    assert allot(total, weights) == parts


@given(st.integers(-(10**18), 10**18), st.lists(st.integers(0, 10**15), min_size=1).filter(any))
def test_parts_add_up_and_are_exact_to_one(total: int, weights: list[int]) -> None:
    parts = allot(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1


def test_nothing_can_be_shared_out_by_no_weights() -> None:
    with pytest.raises(ValueError, match="5 cannot be shared out"):
        allot(5, [0, 0])
    with pytest.raises(ValueError, match="a weight is negative: -1"):
        allot(5, [3, -1])
