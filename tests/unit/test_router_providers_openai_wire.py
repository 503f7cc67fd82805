"""What an upstream on OpenAI's wire does, and what becomes of it: answers relayed, refusals as our errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.errors import UpstreamContextExceeded, UpstreamRejected
from router.providers.openai_wire import error_of_status

MESSAGE = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
TOO_LONG: list[dict[str, Any]] = [
    {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    {"error": {"message": MESSAGE, "type": "BadRequestError", "param": None, "code": 400}},
    {"object": "error", "message": MESSAGE, "type": "BadRequestError", "param": None, "code": 400},
    {"error": {"code": 400, "message": "exceeds the available size", "type": "exceed_context_size_error"}},
    {"object": "error", "message": "Prompt too large for model with 32768 maximum context length", "code": "3051"},
]
OTHER_FAULTS: list[tuple[int, bytes]] = [
    (400, b'{"error": {"message": "no such voice", "code": "invalid_value"}}'),
    (400, b'{"error": "plain words"}'),
    (400, b"{}"),
    (400, b"<html>maximum context length</html>"),
    (400, b""),
    (422, orjson.dumps(TOO_LONG[0])),
]


@pytest.mark.parametrize("body", TOO_LONG)
def test_a_prompt_that_is_too_long_there_is_told_apart(body: dict[str, Any]) -> None:
    error = error_of_status("small", 400, orjson.dumps(body), None)
    assert type(error) is UpstreamContextExceeded
    assert (error.status, orjson.loads(error.body), error.retryable) == (400, body, False)


@pytest.mark.parametrize(("status", "body"), OTHER_FAULTS)
def test_another_fault_of_the_request_is_none_of_length(status: int, body: bytes) -> None:
    assert type(error_of_status("small", status, body, None)) is UpstreamRejected
