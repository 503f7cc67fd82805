"""The adapter for everything that speaks OpenAI's wire: OpenAI, Mistral, vLLM, SGLang, Ollama, llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, NoReturn

import orjson

from router.errors import (
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.providers.http1 import ConnectFailed, Http1Answer, Http1Client, Http1Error, TooManyConnections

MAX_ANSWER_BYTES = 33_554_432
MAX_ERROR_BYTES = 65_536
MAX_RETRY_AFTER_S = 86_400.0
"""Nobody waits longer than a day, and a header of 400 digits is none to count with."""
_OUR_FAULT = frozenset({401, 402, 403})
"""Refused there for our credential or our bill, not for what the caller sent."""
_TOO_LONG_CODE = "context_length_exceeded"
_TOO_LONG_TYPE = "exceed_context_size_error"
_TOO_LONG_WORDS = ("maximum context length", "model's context length")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a deployment is reached. `name` is the deployment's, for messages."""

    name: str
    base_url: str
    api_key: str | None
    connect_s: float


class OpenAIWireProvider:
    """One deployment behind `base_url`; its connections are kept alive and shared by all requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._name = endpoint.name
        headers = {"content-type": "application/json", "accept": "*/*", "user-agent": "parsimony"}
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._client = Http1Client(url, headers, connect_s=endpoint.connect_s)

    async def open(self, body: dict[str, Any], *, stream: bool) -> OpenAIWireAnswer:
        try:
            answer = await self._client.post(orjson.dumps(body))
        except Http1Error as error:
            raise translated(self._name, error) from error
        if not 200 <= answer.status < 300:
            await self._refuse(answer)
        coding = answer.headers.get(b"content-encoding", b"identity").lower()
        if coding not in (b"identity", b""):
            answer.release()
            name = coding.decode("latin-1")[:40]
            refused = _unavailable(f"{self._name} answers compressed ({name}) although not asked to", retryable=False)
            refused.may_be_billed = True
            raise refused
        return OpenAIWireAnswer(self._name, answer)

    async def close(self) -> None:
        await self._client.close()

    async def _refuse(self, answer: Http1Answer) -> NoReturn:
        try:
            body = await answer.read(MAX_ERROR_BYTES)
        except Http1Error:
            body = b""
        finally:
            answer.release()
        retry_after = answer.headers.get(b"retry-after")
        raise error_of_status(self._name, answer.status, body, retry_after.decode("latin-1") if retry_after else None)


class OpenAIWireAnswer:
    def __init__(self, name: str, answer: Http1Answer) -> None:
        self._name = name
        self._answer = answer

    async def read(self) -> bytes:
        try:
            return await self._answer.read(MAX_ANSWER_BYTES)
        except Http1Error as error:
            raise translated(self._name, error) from error
        finally:
            self._answer.release()

    async def next_chunk(self) -> bytes | None:
        try:
            return await self._answer.next_chunk()
        except Http1Error as error:
            raise translated(self._name, error) from error

    async def close(self) -> None:
        self._answer.release()


def translated(name: str, error: Http1Error) -> UpstreamError:
    """Every failure of the HTTP client as one of our errors."""
    if isinstance(error, TooManyConnections):
        return UpstreamRateLimited(f"{name}: {error}", retry_after_s=1)
    unavailable = UpstreamUnavailable(f"{name} cannot be reached or broke off: {error}")
    unavailable.may_be_billed = not isinstance(error, ConnectFailed)
    return unavailable


def error_of_status(name: str, status: int, body: bytes, retry_after: str | None) -> UpstreamError:
    """A non-2xx answer as one of our errors."""
    if status == 429:
        return UpstreamRateLimited(f"{name} limits our rate", retry_after_s=retry_after_s(retry_after, time()))
    if status in (408, 504):
        return UpstreamTimeout(f"{name} answered HTTP {status}")
    if status in _OUR_FAULT:
        return _unavailable(f"{name} refused our credential or account (HTTP {status})", retryable=False)
    if 300 <= status < 400:
        return _unavailable(f"{name} redirects (HTTP {status}), which is not followed", retryable=False)
    if 400 <= status < 500:
        return _rejected(name, status, _json_only(body))
    return UpstreamUnavailable(f"{name} answered HTTP {status}", retry_after_s=retry_after_s(retry_after, time()))


def _unavailable(message: str, *, retryable: bool) -> UpstreamUnavailable:
    error = UpstreamUnavailable(message)
    error.retryable = retryable
    return error


def _rejected(name: str, status: int, body: bytes) -> UpstreamRejected:
    if status == 400 and body and _names_context_length(body):
        return UpstreamContextExceeded(f"the prompt is too long for {name} (HTTP 400)", status=status, body=body)
    return UpstreamRejected(f"{name} rejected the request (HTTP {status})", status=status, body=body)


def _names_context_length(body: bytes) -> bool:
    """Whether an error body (a JSON object) complains of the prompt's length.

    OpenAI gives a code, llama.cpp a type; vLLM, SGLang and Mistral say it in words only, the first and
    the last of them without the wrapping `error`.
    """
    found = orjson.loads(body)
    error = found["error"] if isinstance(found.get("error"), dict) else found
    if error.get("code") == _TOO_LONG_CODE or error.get("type") == _TOO_LONG_TYPE:
        return True
    return any(words in str(error.get("message")).lower() for words in _TOO_LONG_WORDS)


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Seconds of a Retry-After header, at most a day; None where it is no number and no HTTP date.

    RFC 9110, 10.2.3.
    """
    if value is None:
        return None
    digits = value.strip().replace(".", "", 1)
    if digits.isascii() and digits.isdigit():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        wait_s = parsedate_to_datetime(value).timestamp() - now_s
    except (ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _json_only(body: bytes) -> bytes:
    """A provider's error page in HTML helps no client library."""
    try:
        return body if isinstance(orjson.loads(body), dict) else b""
    except orjson.JSONDecodeError:
        return b""
