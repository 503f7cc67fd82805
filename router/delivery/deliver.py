"""`deliver`: puts one report where it belongs, once. For the scheduler, and for who asks for a report by hand."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

import httpx

from router.alerts.webhooks import Outcome, Webhook, post_body
from router.config_reports import ReportsConfig
from router.delivery.destinations import Destination, FileDestination, S3Destination, WebhookDestination, destination_of
from router.delivery.files import write_file
from router.delivery.s3 import put
from router.errors import DeliveryFailed

NAME_HEADER = "x-parsimony-report"
NOTHING_SET = ReportsConfig()


def deliver(
    destination: str,
    name: str,
    content: bytes,
    content_type: str,
    *,
    config: ReportsConfig = NOTHING_SET,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Puts `content` at `destination`, and returns in words where it is now.

    `destination` is a path, `s3://bucket/key`, or `webhook` for the one of the configuration; where it is a folder
    (a slash at its end), `name` is the file's. It waits until that is done, so no event loop may be running in this
    thread. Raises ConfigError and DeliveryFailed.
    """
    target = destination_of(destination, name, config, environ)
    deliver_to(target, name, content, content_type)
    return str(target)


def deliver_to(
    target: Destination, name: str, content: bytes, content_type: str, *, wall: Callable[[], float] = time.time
) -> None:
    """Raises DeliveryFailed."""
    if isinstance(target, FileDestination):
        _write(target, content)
    elif isinstance(target, S3Destination):
        put(target, content, content_type)
    else:
        _post(target, name, content, content_type, wall())


def _write(target: FileDestination, content: bytes) -> None:
    try:
        write_file(target.path, content)
    except OSError as error:
        # A full disk is emptied, a folder's rights are mended: worth another try.
        raise DeliveryFailed(f"{target}: {error.strerror or error}", retryable=True) from error


def _post(target: WebhookDestination, name: str, content: bytes, content_type: str, now_s: float) -> None:
    """The body is the report itself, signed as alerts are; a repeat has the same name."""
    webhook = Webhook(target.url, target.secret, timeout_seconds=target.timeout_seconds)
    outcome = asyncio.run(_posted(webhook, content, {"content-type": content_type, NAME_HEADER: name}, now_s))
    if not outcome.delivered:
        raise DeliveryFailed(
            f"{target} ({webhook.host}) did not take {name}: {outcome}",
            retryable=outcome.worth_repeating,
            retry_after_s=outcome.retry_after_s or None,
        )


async def _posted(webhook: Webhook, body: bytes, headers: Mapping[str, str], now_s: float) -> Outcome:
    async with httpx.AsyncClient() as client:
        return await post_body(client, webhook, body, headers, now_s)
