"""Errors look as OpenAI's clients expect them."""

from __future__ import annotations

import orjson
import pytest

from router.errors import (
    BudgetExhausted,
    InvalidRequest,
    ParsimonyError,
    StoreUnavailable,
    UpstreamRateLimited,
    UpstreamRejected,
)
from router.openai.errors import error_body, error_headers


def test_the_four_fields_are_always_there() -> None:
    assert orjson.loads(error_body(InvalidRequest("Wrong.", param="model"))) == {
        "error": {"message": "Wrong.", "type": "invalid_request_error", "param": "model", "code": None}
    }
    assert orjson.loads(error_body(StoreUnavailable("Gone."))) == {
        "error": {"message": "Gone.", "type": "server_error", "param": None, "code": "store_unavailable"}
    }


def test_a_providers_rejection_goes_through_as_it_came() -> None:
    body = b'{"error": {"message":  "too long", "vendor": 1}}'
    assert error_body(UpstreamRejected("m", status=400, body=body)) == body
    assert orjson.loads(error_body(UpstreamRejected("m", status=400, body=b"")))["error"]["message"] == "m"


@pytest.mark.parametrize(
    ("seconds", "value"), [(0.2, b"1"), (2, b"2"), (2.01, b"3"), (0, b"0"), (2_678_400, b"2678400")]
)
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, value: bytes) -> None:
    headers = dict(error_headers(UpstreamRateLimited("m", retry_after_s=seconds)))
    assert headers == {b"content-type": b"application/json", b"retry-after": value}


def test_an_exhausted_budget_is_not_worth_another_try() -> None:
    headers = dict(error_headers(BudgetExhausted("m", retry_after_s=60)))
    assert (headers[b"x-should-retry"], headers[b"retry-after"]) == (b"false", b"60")


def test_other_errors_say_nothing_of_retrying() -> None:
    assert error_headers(ParsimonyError("m")) == [(b"content-type", b"application/json")]
