"""A stored answer: one line of facts, then the bytes that the client got."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson

from classifiers.records import record
from policies.spend import SpendRecord
from router.openai.responses import our_id_fragment


@record()
class CachedAnswer:
    """What a repeat needs: the body, and what the answer it repeats was and was worth.

    `request_id` is the id under which `body` was first sent.
    """

    request_id: str
    deployment: str | None
    response_model: str | None
    finish_reasons: str
    input_tokens: int
    output_tokens: int
    estimator: str | None
    recounted_output_tokens: int
    baseline_price_effective_from: str | None
    baseline_input_tokens: int
    baseline_cached_input_tokens: int
    baseline_cache_write_input_tokens: int
    baseline_output_tokens: int
    baseline_cost_nusd: int
    simulated: bool
    body: bytes

    def body_for(self, request_id: str) -> bytes:
        """The answer under the id of the request that repeats the question."""
        return self.body.replace(our_id_fragment(self.request_id), our_id_fragment(request_id))


_IN_DETAIL = ("baseline_cached_input_tokens", "baseline_cache_write_input_tokens")
_COLUMNS = tuple(field.name for field in fields(CachedAnswer) if field.name not in ("body", *_IN_DETAIL))
FORMAT = ",".join((*_COLUMNS, *_IN_DETAIL))
"""Belongs to the key of an entry: a version with other facts looks for, and finds, only its own."""


def pack(record: SpendRecord, body: bytes) -> bytes:
    facts: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS}
    facts |= {name: record.detail.get(name, 0) for name in _IN_DETAIL}
    return orjson.dumps(facts) + b"\n" + body


def unpack(entry: bytes) -> CachedAnswer:
    facts, _, body = entry.partition(b"\n")
    return CachedAnswer(**orjson.loads(facts), body=body)
