"""One request as a log tells it, whatever the log's format; and what is wrong with a row that tells none."""

from __future__ import annotations

from typing import Any, Literal

from classifiers.records import record
from policies.usage import TokenUsage

BadKind = Literal[
    "broken record",
    "record too large",
    "unknown format",
    "unknown model",
    "no model",
    "missing usage",
    "negative tokens",
    "implausible tokens",
    "contradictory tokens",
    "bad cost",
    "bad time",
    "clock in the future",
    "duplicate row",
]
BAD_KINDS: tuple[BadKind, ...] = BadKind.__args__  # type: ignore[attr-defined]
"""In the order of reports."""

MAX_TOKENS = 100_000_000
"""Of one request: fifty times the longest context window on sale. More is a mistake of whoever wrote the log."""
MAX_COST_NUSD = 1_000 * 1_000_000_000
"""Of one request, a thousand dollars; likewise. Three million such rows, the most in a block, stay below 2**63."""


class BadRow(ValueError):
    """A row that cannot be reckoned with. Its sentence quotes no text of a prompt or an answer."""

    def __init__(self, kind: BadKind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind: BadKind = kind


class NoCall(Exception):
    """A row that is no answered request: a failed one, or a span that called no model. Counted and passed over."""


@record(kw_only=True)
class LoggedRequest:
    """`body` is the request in OpenAI's wire form, None where the log keeps no text. `usage` is None where the log
    counts no tokens; then `answer`, the text that was answered, is counted. `at_ms` is Unix time, `cost_nusd` what
    the log itself says was paid; each is None where it says nothing. `application` is whoever the log names as the
    sender. `batch`: sent through a batch API, at half of the list price. `id` is what the log calls this row alone.
    """

    model: str
    body: dict[str, Any] | None = None
    answer: str | None = None
    usage: TokenUsage | None = None
    at_ms: int | None = None
    cost_nusd: int | None = None
    application: str = ""
    batch: bool = False
    id: str = ""
