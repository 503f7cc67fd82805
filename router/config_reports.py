"""`reports`: which are made by themselves, when, and where they go."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from os.path import normpath
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from router.sections import EnvironmentName, Section

ReportName = Literal["savings", "chargeback", "utilization", "break-even", "focus"]
ReportDimension = Literal[
    "team", "project", "key", "user", "tag", "model", "provider", "alias", "reason", "task", "tier", "status",
    "hour", "day", "week", "month", "quarter", "year", "cause", "driver",
]  # fmt: skip
"""What a report can be by: `router.reports.dimensions` says what each is."""
ExportFormat = Literal["html", "csv", "json", "parquet"]
WEBHOOK = "webhook"
"""As the `to` of a report: it is posted to `reports.webhook`."""
_S3 = "s3://"
_BROKEN_DOWN = frozenset({"savings", "chargeback"})
_OF_LINE_ITEMS = frozenset({"csv", "parquet"})


class S3Config(Section):
    """The store that `s3://` names. Without names of variables, credentials are found as AWS's own tools find them."""

    endpoint_url: str | None = Field(default=None, pattern=r"^https?://")
    region: str = "us-east-1"
    path_style: bool = False
    access_key_env: EnvironmentName | None = None
    secret_key_env: EnvironmentName | None = None
    timeout_seconds: float = Field(default=60, gt=0, le=600)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.access_key_env is None) != (self.secret_key_env is None):
            raise ValueError("access_key_env and secret_key_env go together; found one of them")
        return self

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What keeps it from being used, or None."""
        unset = [name for name in (self.access_key_env, self.secret_key_env) if name and not environ.get(name)]
        return f"{unset[0]} is not set" if unset else None


class ReportWebhookConfig(Section):
    """Where reports are posted. Its URL and its secret are credentials, so the environment holds them."""

    url_env: EnvironmentName
    secret_env: EnvironmentName | None = None
    timeout_seconds: float = Field(default=60, gt=0, le=600)

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What keeps it from being used, or None. A secret that is not set must not make reports go out unsigned."""
        if not environ.get(self.url_env, "").startswith(("https://", "http://")):
            return f"{self.url_env} must hold a URL that begins with https:// or http://"
        return f"{self.secret_env} is not set" if self.secret_env and not environ.get(self.secret_env) else None


class ScheduledReport(Section):
    """One report of each finished `period`, in `formats`. `to` is a folder, `s3://bucket/prefix` or `webhook`."""

    report: ReportName
    by: tuple[ReportDimension, ...] = Field(default=(), max_length=8)
    period: Literal["day", "week", "month", "quarter", "year"] = "month"
    timezone: str = "UTC"
    formats: tuple[ExportFormat, ...] = Field(default=("csv",), min_length=1, max_length=4)
    to: str = Field(min_length=1)

    def named(self) -> tuple[object, ...]:
        """All that the names of its files are made of, but their format: the time zone is not among it."""
        return self.report, self.by, self.period, normpath(self.to)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{timezone!r} is no time zone; write one such as Europe/Berlin") from None
        return timezone

    @field_validator("to")
    @classmethod
    def _somewhere(cls, to: str) -> str:
        if to.startswith(_S3) and not to.removeprefix(_S3).split("/")[0]:
            raise ValueError(f"{to!r} names no bucket; write s3://bucket/prefix")
        if "://" in to and not to.startswith(_S3):
            raise ValueError(f"{to!r} is neither a folder nor s3://bucket/prefix; a URL to post to stands in `webhook`")
        return to

    @model_validator(mode="after")
    def _of_their_own_shape(self) -> Self:
        wrong = sorted(set(self.formats) - _OF_LINE_ITEMS)
        if self.report == "focus" and wrong:
            raise ValueError(f"focus is written as csv or parquet; found {', '.join(wrong)}")
        if self.report == "focus" and self.timezone != "UTC":
            raise ValueError(f"focus has days of UTC; found {self.timezone}")
        if self.report not in _BROKEN_DOWN and self.by:
            raise ValueError(f"{self.report} has lines of its own, which by does not change")
        if len(set(self.by)) < len(self.by):
            raise ValueError(f"by names one twice: {', '.join(self.by)}")
        if self.report == "chargeback" and "driver" in self.by:
            raise ValueError("chargeback cannot be by driver: what is charged is cost, and drivers are of savings")
        return self


class ReportsConfig(Section):
    """Reports that are made without being asked for, and where they may go."""

    scheduled: tuple[ScheduledReport, ...] = Field(default=(), max_length=64)
    s3: S3Config = S3Config()
    webhook: ReportWebhookConfig | None = None

    @model_validator(mode="after")
    def _posted_somewhere(self) -> Self:
        if self.webhook is None and any(each.to == WEBHOOK for each in self.scheduled):
            raise ValueError("scheduled sends to webhook, and there is none; set reports.webhook.url_env")
        return self

    @model_validator(mode="after")
    def _each_has_files_of_its_own(self) -> Self:
        for (first, one), (second, other) in combinations(enumerate(self.scheduled), 2):
            shared = set(one.formats) & set(other.formats)
            if shared and one.to != WEBHOOK and one.named() == other.named():
                raise ValueError(
                    f"scheduled.{second} would replace what scheduled.{first} writes: both are {one.report} of each "
                    f"{one.period} as {', '.join(sorted(shared))} to {one.to}; send one of them elsewhere"
                )
        return self

    def missing(self, environ: Mapping[str, str]) -> list[str]:
        """What keeps scheduled reports from being delivered, by keys of this section."""
        to_s3 = any(each.to.startswith(_S3) for each in self.scheduled)
        gap = self.s3.missing(environ) if to_s3 else None
        posted = self.webhook is not None and any(each.to == WEBHOOK for each in self.scheduled)
        refusal = self.webhook.missing(environ) if self.webhook is not None and posted else None
        return [f"{key}: {found}" for key, found in (("s3", gap), ("webhook", refusal)) if found is not None]
