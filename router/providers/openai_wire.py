"""The adapter for everything that speaks OpenAI's wire: OpenAI, Mistral, vLLM, SGLang, Ollama, llama.cpp.

The HTTP client is pyreqwest, chosen by measurement: see tests/benchmarks/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, NoReturn

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ConnectTimeoutError, PyreqwestError, RequestTimeoutError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from router.errors import UpstreamError, UpstreamRateLimited, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable

MAX_ANSWER_BYTES = 33_554_432
MAX_ERROR_BYTES = 65_536
_OUR_FAULT = frozenset({401, 403})
"""Refused there for our credential, not for what the caller sent."""


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
        self._url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._headers = {"content-type": "application/json"}
        if endpoint.api_key:
            self._headers["authorization"] = f"Bearer {endpoint.api_key}"
        self._client: Client = (
            ClientBuilder()
            .connect_timeout(timedelta(seconds=endpoint.connect_s))
            .follow_redirects(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .user_agent("parsimony")
            .default_headers(self._headers)
            .build()
        )

    async def open(self, body: dict[str, Any], *, stream: bool) -> OpenAIWireAnswer:
        # Without a buffer limit the client reads ahead: no chunk would come before the answer is whole.
        builder = self._client.post(self._url).body_bytes(orjson.dumps(body))
        request = builder.streamed_read_buffer_limit(0 if stream else MAX_ANSWER_BYTES).build_streamed()
        try:
            response = await request.__aenter__()
        except PyreqwestError as error:
            raise self._translated(error) from error
        answer = OpenAIWireAnswer(self._name, request, response)
        if not 200 <= response.status < 300:
            await self._refuse(answer, response)
        return answer

    async def close(self) -> None:
        await self._client.close()

    async def _refuse(self, answer: OpenAIWireAnswer, response: Response) -> NoReturn:
        try:
            body = await answer.read(MAX_ERROR_BYTES)
        except UpstreamError:
            body = b""
        raise error_of_status(self._name, response.status, body, response.get_header("retry-after"))

    def _translated(self, error: PyreqwestError) -> UpstreamError:
        return translated(self._name, error)


class OpenAIWireAnswer:
    def __init__(self, name: str, request: StreamRequest, response: Response) -> None:
        self._name = name
        self._request: StreamRequest | None = request
        self._reader = response.body_reader

    async def read(self, limit_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            while (chunk := await self.next_chunk()) is not None:
                chunks.append(chunk)
                size += len(chunk)
                if size > limit_bytes:
                    raise UpstreamUnavailable(f"{self._name} answered with more than {limit_bytes} bytes")
        finally:
            await self.close()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def next_chunk(self) -> bytes | None:
        try:
            chunk = await self._reader.read_chunk()
        except PyreqwestError as error:
            raise translated(self._name, error) from error
        return None if chunk is None else bytes(chunk)

    async def close(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            await request.__aexit__(None, None, None)


def translated(name: str, error: PyreqwestError) -> UpstreamError:
    """Every exception of the HTTP client as one of ours."""
    if isinstance(error, ConnectTimeoutError):
        return UpstreamUnavailable(f"{name} did not accept a connection in time")
    if isinstance(error, RequestTimeoutError):
        return UpstreamTimeout(f"{name} did not answer in time")
    return UpstreamUnavailable(f"{name} cannot be reached or broke off: {_cause(error)}")


def error_of_status(name: str, status: int, body: bytes, retry_after: str | None) -> UpstreamError:
    """A non-2xx answer as one of our errors."""
    if status == 429:
        return UpstreamRateLimited(f"{name} limits our rate", retry_after_s=retry_after_s(retry_after, time()))
    if status == 408:
        return UpstreamTimeout(f"{name} answered 408")
    if status in _OUR_FAULT:
        return UpstreamUnavailable(f"{name} refused our credential (HTTP {status})")
    if 400 <= status < 500:
        return UpstreamRejected(f"{name} rejected the request (HTTP {status})", status=status, body=_json_only(body))
    return UpstreamUnavailable(f"{name} answered HTTP {status}", retry_after_s=retry_after_s(retry_after, time()))


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Seconds of a Retry-After header, a number or an HTTP date (RFC 9110, 10.2.3); None if neither."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0) if value.strip().replace(".", "", 1).isdigit() else max(
            parsedate_to_datetime(value).timestamp() - now_s, 0.0
        )
    except (ValueError, TypeError):
        return None


def _json_only(body: bytes) -> bytes:
    """A provider's error page in HTML helps no client library."""
    try:
        return body if isinstance(orjson.loads(body), dict) else b""
    except orjson.JSONDecodeError:
        return b""


def _cause(error: PyreqwestError) -> str:
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or [{"message": error.message}]
    return str(causes[-1]["message"])
