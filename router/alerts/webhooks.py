"""`Webhook`: one address that alerts are posted to, and what came of posting one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import httpx

from router.alerts.events import SIGNATURE_HEADER, Event, json_body, signature, slack_body
from router.config import AlertsConfig
from router.errors import ConfigError
from router.version import parsimony_version

_SHOWN_BYTES = 300
_LEAST_SECRET = 6
"""Shorter parts of an address are words such as "hooks", which a message may well hold for reasons of its own."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """The address is a credential, as is the secret: only `host` is ever shown."""

    url: str = field(repr=False)
    secret: bytes | None = field(default=None, repr=False)
    format: Literal["json", "slack"] = "json"
    timeout_seconds: float = 5.0

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "?"

    def body(self, event: Event) -> bytes:
        return slack_body(event) if self.format == "slack" else json_body(event)

    def without_secrets(self, text: str) -> str:
        """`text` without any part of the address but its host: pages that say 404 like to repeat what was asked for."""
        parts = urlsplit(self.url)
        pieces = [self.url, parts.path, parts.query, parts.username or "", parts.password or ""]
        pieces += [*parts.path.split("/"), *parts.query.replace("=", "&").split("&")]
        for piece in sorted(set(pieces), key=len, reverse=True):
            if len(piece) >= _LEAST_SECRET:
                text = text.replace(piece, "…")
        return text


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one post came to: `status` is None where no answer came, and `detail` says then why."""

    status: int | None
    detail: str = ""
    retry_after_s: float = 0.0

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def worth_repeating(self) -> bool:
        """Other refusals, redirects among them, will be the same in a minute: somebody has to mend the address."""
        return self.status is None or self.status == 429 or self.status >= 500

    def __str__(self) -> str:
        shown = [str(self.status)] if self.status is not None else []
        return ": ".join([*shown, *([self.detail] if self.detail else [])])


def webhooks_of(config: AlertsConfig, environ: Mapping[str, str]) -> tuple[Webhook, ...]:
    """Raises ConfigError for one whose variables are not set: nobody would notice that no alert ever comes."""
    webhooks = []
    for index, settings in enumerate(config.webhooks):
        gap = settings.missing(environ)
        if gap is not None:
            raise ConfigError(f"alerts.webhooks.{index}: {gap}; set it, or take the webhook out")
        secret = environ[settings.secret_env].encode() if settings.secret_env else None
        webhooks.append(Webhook(environ[settings.url_env], secret, settings.format, settings.timeout_seconds))
    return tuple(webhooks)


async def post(client: httpx.AsyncClient, webhook: Webhook, event: Event, now_s: float) -> Outcome:
    """Posts `event` once, and raises nothing."""
    return await post_body(client, webhook, webhook.body(event), {"content-type": "application/json"}, now_s)


async def post_body(
    client: httpx.AsyncClient, webhook: Webhook, body: bytes, headers: Mapping[str, str], now_s: float
) -> Outcome:
    """Posts `body` once, signed, and raises nothing. Redirects are not followed: they would take it elsewhere."""
    sent = {"accept-encoding": "identity", "user-agent": f"parsimony/{parsimony_version()}", **headers}
    if webhook.secret is not None:
        sent[SIGNATURE_HEADER] = signature(webhook.secret, body, int(now_s))
    request = client.stream("POST", webhook.url, content=body, headers=sent, follow_redirects=False, timeout=None)
    try:
        # Over all of it: a peer that sends a byte a second never exceeds the pauses that the client would time.
        async with asyncio.timeout(webhook.timeout_seconds), request as response:
            if response.is_success:
                return Outcome(response.status_code)
            detail = webhook.without_secrets(await _beginning(response))
            return Outcome(response.status_code, detail, _retry_after_s(response, now_s))
    except TimeoutError:
        return Outcome(None, f"no answer within {webhook.timeout_seconds:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Outcome(None, webhook.without_secrets(f"{type(error).__name__} {error}".strip()))


async def _beginning(response: httpx.Response) -> str:
    """The first printable bytes of an answer, on one line. An answer that breaks off has said enough."""
    found = b""
    with suppress(httpx.HTTPError):
        async for piece in response.aiter_raw():
            found += piece
            if len(found) >= _SHOWN_BYTES:
                break
    text = found[:_SHOWN_BYTES].decode(errors="replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _retry_after_s(response: httpx.Response, now_s: float) -> float:
    """Seconds, or a date (RFC 9110, 10.2.3); 0 where there is none that can be read."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - now_s, 0.0)
    except ValueError:
        return 0.0
