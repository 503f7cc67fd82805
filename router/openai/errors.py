"""Errors as OpenAI's clients expect them: body and headers."""

from __future__ import annotations

import math

import orjson

from router.errors import BudgetExhausted, ParsimonyError, RateLimitExceeded, UpstreamRejected


def error_body(error: ParsimonyError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`; a provider's own rejection goes through as it came."""
    if isinstance(error, UpstreamRejected) and error.body:
        return error.body
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_headers(error: ParsimonyError) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json")]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
    if error.request_id is not None:
        headers.append((b"x-parsimony-request-id", error.request_id.encode()))
    if isinstance(error, RateLimitExceeded):
        limited = error.type.encode()
        headers.append((b"x-ratelimit-limit-" + limited, b"%d" % error.limit))
        headers.append((b"x-ratelimit-remaining-" + limited, b"%d" % error.remaining))
    if _is_final(error):
        headers.append((b"x-should-retry", b"false"))
    return headers


def _is_final(error: ParsimonyError) -> bool:
    """Whether the SDKs, which try a 429 again by themselves, had better not."""
    if isinstance(error, RateLimitExceeded):
        return error.retry_after_s is None
    return isinstance(error, BudgetExhausted) and error.final
