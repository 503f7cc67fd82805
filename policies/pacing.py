"""Pacing: a shadow price that raises the bar for large models while a budget runs ahead of its window.

A budget for a window makes of routing an online knapsack. Each request has a benefit (its score: how likely the small
model falls short), and the best that a threshold can do in hindsight is to pay for a large model wherever the benefit
exceeds one price, the same all month. First come, first served pays the configured price until the money is out, and
then none. The right price is unknown while the window runs; Balseiro and Gur ("Learning in Repeated Auctions with
Budgets", Management Science 2019) let a multiplier follow the spend: up while it is ahead of the pace, down while it
is behind. Theirs is a state that every request changes. But the sum of its steps, spend less elapsed time, stands in
the budget's counter already, so the price here is a function of counter and clock alone (the lazy, "follow the
regularized leader" form of such a descent, rescaled to what is left), and all workers agree without sharing more.

Time passes evenly here, although traffic has nights and weekends. A price that is told the usual week does a little
better where the week is usual, and worse where it is not (tests/benchmarks/pacing/results.md), so it is told none.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import nextafter

LEAD = 1 / 30
"""How far spend may run ahead before it has a price, as a share of what is left: a day of a month."""
STEEPNESS = 2
"""The power of the pace that the room above a threshold shrinks with.

With 1, half of a budget for a fifth of the need is gone within a week; with 4, a busy day is made up for too long.
"""
_ABOVE_ALL_SCORES = nextafter(1.0, 2.0)


def shadow_price(
    *, limit: int, spent: int, start_ms: int, end_ms: int, now_ms: int, steepness: int = STEEPNESS
) -> float:
    """What a request must be worth beyond its threshold to be paid for, in [0, 1]: 1 - pace**steepness.

    The pace is the share of the limit that is left over the share of the window that is left, with the
    lead granted: 1 or more costs nothing. The price is 1 when nothing is left, never falls with what is spent,
    never rises as time passes, and is 0 at the window's end: what is unused then is worth nothing.
    Amounts in any unit, times in Unix milliseconds; a clock outside the window counts as at its edge.

    Raises ValueError for a window without length.
    """
    if end_ms <= start_ms:
        raise ValueError(f"a window that is paced ends after it starts, not {end_ms - start_ms} ms later")
    left = limit - spent
    if left <= 0:
        return 1.0
    remaining_ms = end_ms - (now_ms if now_ms > start_ms else start_ms)
    if remaining_ms <= 0:
        return 0.0
    pace = (left / limit) / (remaining_ms / (end_ms - start_ms) * (1 - LEAD))
    return 0.0 if pace >= 1.0 else 1.0 - pace**steepness


def highest_price(prices: Iterable[float]) -> float:
    """The price under several budgets; 0 under none.

    Not their sum, as for unrelated constraints: budgets that contain each other count the same
    money, and what brings the tightest of them back to its pace brings back the others.
    """
    return max(prices, default=0.0)


def raised(threshold: float, price: float) -> float:
    """The score from which on a request is worth `price`: the threshold at 0, above every score at 1."""
    if price >= 1.0:
        return max(threshold, _ABOVE_ALL_SCORES)
    return max(threshold, min(threshold + price * (1.0 - threshold), 1.0))
