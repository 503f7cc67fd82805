"""Bars, to an eighth of a cell."""

from __future__ import annotations

from decimal import Decimal

import pytest

from router.reports.bars import bar


@pytest.mark.parametrize(
    ("percent", "drawn"),
    [
        (None, ""),
        ("0", ""),
        ("-5", "◀"),
        ("0.1", "▏"),
        ("50", "█████"),
        ("56.3", "█████▋"),
        ("100", "█" * 10),
        ("900", "█" * 10),
    ],
)
def test_bars(percent: str | None, drawn: str) -> None:
    assert bar(None if percent is None else Decimal(percent), 10).plain == drawn
