"""Every error that leaves this package, with its HTTP status, type and code.

ParsimonyError
├── ConfigError                 ends the start; names file and key
├── RequestError                the caller's to mend
│   ├── InvalidRequest          400 invalid_request_error
│   │   └── ContextLengthExceeded   400 context_length_exceeded
│   ├── InvalidApiKey           401 invalid_api_key
│   ├── AdminRequired           403 admin_required
│   ├── ModelNotAllowed         403 model_not_allowed
│   ├── ModelNotFound           404 model_not_found
│   ├── RecordNotFound          404 record_not_found
│   ├── MethodNotAllowed        405 method_not_allowed
│   ├── RequestTooSlow          408 request_too_slow
│   ├── RequestTooLarge         413 request_too_large
│   ├── RateLimitExceeded       429 rate_limit_exceeded
│   └── BudgetExhausted         429 insufficient_quota
├── UpstreamError
│   ├── UpstreamRejected        the provider's own 4xx, relayed as it came
│   │   └── UpstreamContextExceeded   the same, but a model with a larger window may take it
│   ├── UpstreamUnavailable     502 upstream_unavailable
│   ├── UpstreamRateLimited     503 upstream_rate_limited
│   └── UpstreamTimeout         504 upstream_timeout
├── DeliveryFailed              a report could not be put where it belongs
├── StoreUnavailable            503 store_unavailable
└── ShuttingDown                503 shutting_down
"""

from __future__ import annotations

from typing import Literal


class ParsimonyError(Exception):
    """Base of all. `str(error)` is one sentence for the person who reads it."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.request_id: str | None = None
        """Of the request's record, where it has one: for `parsimony explain`."""


def fault() -> ParsimonyError:
    """One of ours, which is nobody else's to read."""
    return ParsimonyError("Something went wrong here; the log says what.")


class ConfigError(ParsimonyError):
    """The configuration cannot be used; the message names file, key, what was found and what is allowed."""


class RequestError(ParsimonyError):
    status = 400
    type = "invalid_request_error"


class InvalidRequest(RequestError):
    pass


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class InvalidApiKey(RequestError):
    status = 401
    code = "invalid_api_key"


class AdminRequired(RequestError):
    status = 403
    code = "admin_required"


class ModelNotAllowed(RequestError):
    status = 403
    code = "model_not_allowed"


class ModelNotFound(RequestError):
    status = 404
    code = "model_not_found"


class RecordNotFound(RequestError):
    status = 404
    code = "record_not_found"


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"


class RequestTooSlow(RequestError):
    """Its body did not arrive in time."""

    status = 408
    code = "request_too_slow"


class RequestTooLarge(RequestError):
    status = 413
    code = "request_too_large"


class BudgetExhausted(RequestError):
    """`final`: no use in trying again before `retry_after_s` seconds from now, when the window ends; otherwise it is
    only held for others, and comes back as they end."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, message: str, *, retry_after_s: float | None = None, final: bool = True) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.final = final


class RateLimitExceeded(RequestError):
    """Worth trying again `retry_after_s` seconds from now; never, where that is None.

    `limited` is "requests" or "tokens", OpenAI's type of the error; `limit` and `remaining` are counts of them.
    """

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        limited: Literal["requests", "tokens"] = "requests",
        limit: int = 0,
        remaining: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.type = limited
        self.limit = limit
        self.remaining = remaining


class UpstreamError(ParsimonyError):
    """A provider failed. `retryable` says whether the same request may succeed there or elsewhere.

    `may_be_billed`: the request had gone out, and what came back was no refusal.
    """

    status = 502
    code = "upstream_unavailable"
    retryable = True
    may_be_billed = False


class UpstreamRejected(UpstreamError):
    """The provider found fault with the request itself: its status and body reach the caller unchanged."""

    type = "invalid_request_error"
    retryable = False
    code = "upstream_rejected"

    def __init__(self, message: str, *, status: int, body: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class UpstreamContextExceeded(UpstreamRejected):
    """The prompt is too long for this deployment; one with a larger window may take it."""

    code = "context_length_exceeded"


class UpstreamUnavailable(UpstreamError):
    pass


class UpstreamRateLimited(UpstreamError):
    status = 503
    code = "upstream_rate_limited"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class DeliveryFailed(ParsimonyError):
    """A report could not be put where it belongs. `retryable`: it may be taken there later, as it is."""

    def __init__(self, message: str, *, retryable: bool = True, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.retryable = retryable


class StoreUnavailable(ParsimonyError):
    status = 503
    code = "store_unavailable"


class ShuttingDown(ParsimonyError):
    status = 503
    code = "shutting_down"
