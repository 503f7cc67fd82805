"""The tree drawn in the module's docstring is the tree of its classes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from router import errors
from router.errors import ParsimonyError, UpstreamRejected

LINE = re.compile(r"^(?P<indent>[│ ├└─]*)(?P<name>[A-Z]\w+)\s*(?P<status>\d{3})?\s*(?P<code>[a-z_]+)?")


def drawn() -> list[tuple[str, str | None, int | None, str | None]]:
    """(class, its parent, status, code or type) of each line of the tree."""
    rows: list[tuple[str, str | None, int | None, str | None]] = []
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if (found := LINE.match(line)) is None or not hasattr(errors, found["name"]):
            continue
        depth = len(found["indent"]) // 4
        above[depth] = found["name"]
        status = int(found["status"]) if found["status"] else None
        rows.append((found["name"], above.get(depth - 1), status, found["code"] if status else None))
    return rows


def classes() -> list[type[ParsimonyError]]:
    values = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in values if issubclass(value, ParsimonyError)]


def made(name: str) -> ParsimonyError:
    made_of = getattr(errors, name)
    extra: dict[str, Any] = {"status": 400, "body": b""} if issubclass(made_of, UpstreamRejected) else {}
    error: ParsimonyError = made_of("m", **extra)
    return error


def test_every_class_is_drawn_once() -> None:
    assert sorted(name for name, *_ in drawn()) == sorted(value.__name__ for value in classes())


@pytest.mark.parametrize(("name", "parent", "status", "code"), drawn(), ids=lambda value: str(value))
def test_the_drawing_is_right(name: str, parent: str | None, status: int | None, code: str | None) -> None:
    error = made(name)
    if parent is not None:
        assert type(error).__mro__[1].__name__ == parent
    if status is not None:
        assert error.status == status
        assert code in (error.code, error.type)


DESIGN = [
    ("InvalidRequest", 400, "invalid_request_error", None),
    ("ContextLengthExceeded", 400, "invalid_request_error", "context_length_exceeded"),
    ("InvalidApiKey", 401, "invalid_request_error", "invalid_api_key"),
    ("ModelNotAllowed", 403, "invalid_request_error", "model_not_allowed"),
    ("ModelNotFound", 404, "invalid_request_error", "model_not_found"),
    ("RequestTooLarge", 413, "invalid_request_error", "request_too_large"),
    ("BudgetExhausted", 429, "insufficient_quota", "insufficient_quota"),
    ("UpstreamUnavailable", 502, "server_error", "upstream_unavailable"),
    ("StoreUnavailable", 503, "server_error", "store_unavailable"),
    ("UpstreamRateLimited", 503, "server_error", "upstream_rate_limited"),
    ("UpstreamTimeout", 504, "server_error", "upstream_timeout"),
    ("ShuttingDown", 503, "server_error", "shutting_down"),
]


@pytest.mark.parametrize(("name", "status", "type_", "code"), DESIGN, ids=[row[0] for row in DESIGN])
def test_status_type_and_code_are_those_of_the_design(name: str, status: int, type_: str, code: str | None) -> None:
    error = made(name)
    assert (error.status, error.type, error.code) == (status, type_, code)


def test_an_error_is_its_message() -> None:
    error = ParsimonyError("Says so.", param="n", retry_after_s=1.5)
    assert (str(error), error.message, error.param, error.retry_after_s) == ("Says so.", "Says so.", "n", 1.5)


def test_a_rejection_carries_the_providers_status_and_is_not_tried_again() -> None:
    error = UpstreamRejected("m", status=422, body=b"{}")
    assert (error.status, error.body, error.retryable) == (422, b"{}", False)


@pytest.mark.parametrize("name", ["UpstreamUnavailable", "UpstreamRateLimited", "UpstreamTimeout"])
def test_every_other_failure_of_a_provider_is(name: str) -> None:
    error = made(name)
    assert isinstance(error, errors.UpstreamError)
    assert error.retryable
