"""Files of reports are called alike, whoever makes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from router.reports.files import file_name
from router.reports.periods import report_period

OCTOBER = report_period(datetime(2026, 11, 22, tzinfo=UTC), name="2026-10")


@pytest.mark.parametrize(
    ("report", "by", "suffix", "name"),
    [
        ("chargeback", (), "csv", "chargeback-2026-10.csv"),
        ("savings", ("team", "model"), "html", "savings-by-team-model-2026-10.html"),
        ("break-even", (), "txt", "break-even-2026-10.txt"),
    ],
)
def test_a_name_tells_the_report_what_it_is_by_and_its_period(
    report: str, by: tuple[str, ...], suffix: str, name: str
) -> None:
    assert file_name(report, OCTOBER, suffix, by) == name
