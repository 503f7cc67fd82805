"""The draw of the sample: the same everywhere, and at its share in every part."""

from __future__ import annotations

from collections import Counter

from policies.draw import is_drawn


def test_the_draw_is_the_same_everywhere_and_keeps_its_share_in_every_stratum() -> None:
    ids = [f"chatcmpl-{number}" for number in range(20_000)]
    drawn = [number for number, id_ in enumerate(ids) if is_drawn(id_, 0.05)]
    assert drawn == [number for number, id_ in enumerate(ids) if is_drawn(id_, 0.05)]
    # Four standard deviations of 5,000 draws at 5 %: 62.
    strata = Counter(number % 4 for number in drawn)
    assert all(abs(strata[stratum] - 250) < 62 for stratum in range(4))
    assert {number for number, id_ in enumerate(ids) if is_drawn(id_, 0.01)} < set(drawn)


def test_none_and_all_are_shares_like_others() -> None:
    ids = [f"chatcmpl-{number}" for number in range(1_000)]
    assert not any(is_drawn(id_, 0.0) for id_ in ids)
    assert all(is_drawn(id_, 1.0) for id_ in ids)
