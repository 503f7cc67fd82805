"""`destination_of`: what a place is, as it is written in the configuration or on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from router.config_reports import WEBHOOK, ReportsConfig, S3Config
from router.errors import ConfigError

_S3 = "s3://"


@dataclass(frozen=True, slots=True)
class FileDestination:
    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class S3Destination:
    """`credentials` are the access key and its secret, or None for those that AWS's own tools would use."""

    bucket: str
    key: str
    store: S3Config
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{_S3}{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class WebhookDestination:
    """The address is a credential, as is the secret: neither is ever shown."""

    url: str = field(repr=False)
    secret: bytes | None = field(default=None, repr=False)
    timeout_seconds: float = 60.0

    def __str__(self) -> str:
        return "the webhook of reports"


Destination = FileDestination | S3Destination | WebhookDestination


def destination_of(text: str, name: str, config: ReportsConfig, environ: Mapping[str, str]) -> Destination:
    """`text` is a path, `s3://bucket/key`, or `webhook`. What ends in a slash is a folder, in which it is `name`.

    Raises ConfigError where that cannot be used.
    """
    if text == WEBHOOK:
        return _webhook(config, environ)
    if text.startswith(_S3):
        return _s3(text, name, config.s3, environ)
    if "://" in text:
        raise ConfigError(f"{text!r} is neither a file nor s3://bucket/key; a URL to post to stands in reports.webhook")
    folder = text.endswith("/") or Path(text).is_dir()
    return FileDestination(Path(text) / name if folder else Path(text))


def _webhook(config: ReportsConfig, environ: Mapping[str, str]) -> WebhookDestination:
    settings = config.webhook
    gap = "url_env is not given" if settings is None else settings.missing(environ)
    if settings is None or gap is not None:
        raise ConfigError(f"reports.webhook: {gap}; set it, or send reports elsewhere")
    secret = environ[settings.secret_env].encode() if settings.secret_env else None
    return WebhookDestination(environ[settings.url_env], secret, settings.timeout_seconds)


def _s3(text: str, name: str, store: S3Config, environ: Mapping[str, str]) -> S3Destination:
    bucket, _, key = text.removeprefix(_S3).partition("/")
    if not bucket:
        raise ConfigError(f"{text!r} names no bucket; write s3://bucket/prefix/")
    gap = store.missing(environ)
    if gap is not None:
        raise ConfigError(f"reports.s3: {gap}; set it, or send reports elsewhere")
    credentials = None
    if store.access_key_env and store.secret_key_env:
        credentials = (environ[store.access_key_env], environ[store.secret_key_env])
    return S3Destination(bucket, key + name if not key or key.endswith("/") else key, store, credentials)
