"""A scheduled report says what, when and where to, or which of these it does not say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from router.config_reports import ReportsConfig, S3Config, ScheduledReport

LEAST = {"report": "savings", "to": "reports"}


def test_the_least_is_a_csv_of_each_month() -> None:
    report = ScheduledReport.model_validate(LEAST)
    assert (report.period, report.timezone, report.formats, report.by) == ("month", "UTC", ("csv",), ())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"report": "profit"}, "'savings', 'chargeback'"),
        ({"period": "fortnight"}, "'day', 'week'"),
        ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
        ({"timezone": "../etc/passwd"}, "is no time zone"),
        ({"formats": []}, "at least 1 item"),
        ({"formats": ["pdf"]}, "'html', 'csv'"),
        ({"to": ""}, "at least 1 character"),
        ({"to": "s3:///prefix"}, "names no bucket"),
        ({"to": "https://hooks.example.com/secret"}, "a URL to post to stands in `webhook`"),
        ({"report": "focus", "formats": ["html"]}, "focus is written as csv or parquet; found html"),
        ({"report": "focus", "timezone": "Asia/Tokyo"}, "focus has days of UTC"),
        ({"report": "utilization", "by": ["team"]}, "utilization has lines of its own"),
        ({"when": "now"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_scheduled_is_named(changes: dict[str, object], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        ScheduledReport.model_validate(LEAST | changes)


def test_a_webhook_that_is_not_there_cannot_be_sent_to() -> None:
    with pytest.raises(ValidationError, match=r"set reports\.webhook\.url_env"):
        ReportsConfig.model_validate({"scheduled": [LEAST | {"to": "webhook"}]})
    ReportsConfig.model_validate({"scheduled": [LEAST | {"to": "webhook"}], "webhook": {"url_env": "URL"}})


def test_half_a_credential_is_none() -> None:
    with pytest.raises(ValidationError, match="go together"):
        S3Config(access_key_env="ID")
