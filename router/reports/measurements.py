"""What a record that measures another has from it, and where it says otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from policies.repricing import kept_usage
from policies.spend import SpendRecord

_ALIKE = (
    "team_id", "project_id", "key_id", "end_user", "alias", "tier", "task", "score", "classifier", "baseline_model",
    "observed_deployment",
)  # fmt: skip


def unlike(record: SpendRecord, request: SpendRecord) -> Iterator[tuple[str, object, object]]:
    """Column, what `record` says there, and what `request`, which it measures, makes it say."""
    for column in _ALIKE:
        found, expected = getattr(record, column), getattr(request, column)
        if found != expected:
            yield column, found, expected
    if record.kind == "shadow" and record.status != "abandoned":  # whoever booked that one knew no more of it
        kept = {"measured_deployment": request.deployment, "measured_usage": _usage_kept_of(request)}
        for name, expected in kept.items():
            if record.detail.get(name) != expected:
                yield f"detail.{name}", record.detail.get(name), expected


def _usage_kept_of(request: SpendRecord) -> list[int] | None:
    """Of its fields as they are, be they tokens that can be or not."""
    cached = request.detail.get("baseline_cached_input_tokens", 0)
    written = request.detail.get("baseline_cache_write_input_tokens", 0)
    return kept_usage(request.baseline_input_tokens, request.baseline_output_tokens, cached, written)
