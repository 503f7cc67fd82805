"""A scheduled report says what, when and where to, or which of these it does not say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from router.config_reports import ReportDimension, ReportsConfig, ReportWebhookConfig, S3Config, ScheduledReport
from router.reports.chargeback import CHARGEABLE
from router.reports.dimensions import DIMENSIONS
from router.yaml_file import read_yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "configs" / "parsimony.yaml"
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
        ({"by": ["colour"]}, "'team', 'project'"),
        ({"by": ["team,model"]}, "'team', 'project'"),
        ({"by": ["team", "model", "team"]}, "by names one twice: team, model, team"),
        ({"report": "chargeback", "by": ["driver"]}, "chargeback cannot be by driver"),
        ({"when": "now"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_scheduled_is_named(changes: dict[str, object], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        ScheduledReport.model_validate(LEAST | changes)


def test_it_can_be_by_what_reports_can_be_by() -> None:
    assert get_args(ReportDimension) == DIMENSIONS
    chargeable = ScheduledReport.model_validate(LEAST | {"report": "chargeback", "by": CHARGEABLE[:8]})
    assert chargeable.by == CHARGEABLE[:8]
    assert set(DIMENSIONS) - set(CHARGEABLE) == {"driver"}


def test_a_webhook_that_is_not_there_cannot_be_sent_to() -> None:
    with pytest.raises(ValidationError, match=r"set reports\.webhook\.url_env"):
        ReportsConfig.model_validate({"scheduled": [LEAST | {"to": "webhook"}]})
    ReportsConfig.model_validate({"scheduled": [LEAST | {"to": "webhook"}], "webhook": {"url_env": "URL"}})


def test_none_replaces_what_another_writes() -> None:
    tokyo = LEAST | {"timezone": "Asia/Tokyo", "to": "reports/", "formats": ["html", "csv"]}
    with pytest.raises(
        ValidationError,
        match=r"scheduled\.1 would replace what scheduled\.0 writes: both are savings of each month as csv",
    ):
        ReportsConfig.model_validate({"scheduled": [LEAST, tokyo]})
    for other in ({"to": "tokyo"}, {"formats": ["html"]}, {"by": ["team"]}, {"period": "week"}):
        ReportsConfig.model_validate({"scheduled": [LEAST, tokyo | other]})


def test_one_folder_is_one_however_it_is_spelt() -> None:
    tokyo = LEAST | {"timezone": "Asia/Tokyo", "to": f"./{LEAST['to']}/../{LEAST['to']}"}
    with pytest.raises(ValidationError, match="would replace"):
        ReportsConfig.model_validate({"scheduled": [LEAST, tokyo]})


def test_posts_replace_nothing() -> None:
    posts = [LEAST | {"to": "webhook", "timezone": zone} for zone in ("UTC", "Asia/Tokyo")]
    ReportsConfig.model_validate({"scheduled": posts, "webhook": {"url_env": "URL"}})


def test_half_a_credential_is_none() -> None:
    with pytest.raises(ValidationError, match="go together"):
        S3Config(access_key_env="ID")


def test_what_the_environment_lacks_is_told_where_a_report_needs_it() -> None:
    there = {"s3": {"access_key_env": "ID", "secret_key_env": "SECRET"}, "webhook": {"url_env": "URL"}}
    nothing_sent = ReportsConfig.model_validate(there)
    both = ReportsConfig.model_validate(there | {"scheduled": [LEAST | {"to": "s3://a/b"}, LEAST | {"to": "webhook"}]})
    assert nothing_sent.missing({}) == []
    assert both.missing({"ID": "1"}) == [
        "s3: SECRET is not set",
        "webhook: URL must hold a URL that begins with https:// or http://",
    ]
    assert both.missing({"ID": "1", "SECRET": "2", "URL": "https://a"}) == []


def test_the_annotated_example_names_every_key_and_holds_when_it_is_uncommented(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    section = text[text.index("\nreports:") + 1 :].split("\n\n")[0]
    for model in (ScheduledReport, S3Config, ReportWebhookConfig):
        for key in model.model_fields:
            assert f"{key}:" in section, key
    uncommented = re.sub(r"(?m)^( *)# (  )?(?=[-\w ]+: )", r"\1\2", section).replace("scheduled: []", "scheduled:")
    path = tmp_path / "reports.yaml"
    path.write_text(uncommented, encoding="utf-8")
    values = read_yaml(path)["reports"]
    assert set(values["s3"]) == set(S3Config.model_fields)
    config = ReportsConfig.model_validate(values)
    assert config.scheduled == (ScheduledReport(report="savings", by=("team", "model"), to="reports"),)
    assert config.s3.timeout_seconds == S3Config().timeout_seconds
    assert config.webhook is not None
