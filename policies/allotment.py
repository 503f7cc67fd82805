"""Sharing an amount out so that nothing is lost: the largest remainder method."""

from __future__ import annotations

from collections.abc import Sequence


def allot(total: int, weights: Sequence[int]) -> list[int]:
    """Whole parts of `total` in proportion to `weights`, which add up to it exactly.

    Each part is the exact share rounded down or up; those that lost most by rounding down get what is left over,
    the earlier of equals first (Hamilton's method). A negative total is shared out like its opposite. Raises
    ValueError for a negative weight, and where there is something to share but no weight to share it by.
    """
    if any(weight < 0 for weight in weights):
        raise ValueError(f"a weight is negative: {min(weights)}")
    whole = sum(weights)
    if whole == 0:
        if total:
            raise ValueError(f"{total} cannot be shared out: no part has a weight")
        return [0] * len(weights)
    sign, amount = (-1, -total) if total < 0 else (1, total)
    parts = [amount * weight // whole for weight in weights]
    left = amount - sum(parts)
    if left:
        by_loss = sorted(range(len(weights)), key=lambda at: (-(amount * weights[at] % whole), at))
        for at in by_loss[:left]:
            parts[at] += 1
    return [sign * part for part in parts]
