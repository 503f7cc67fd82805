"""Spend records for tests: a whole one, of which a test names only what it is about."""

from __future__ import annotations

from typing import Any

from policies.spend import SpendRecord


def spend_record(request_id: str = "req_1", **changes: Any) -> SpendRecord:
    """A request of team `support` that a small model answered for a tenth of the baseline's price."""
    values: dict[str, Any] = {
        "request_id": request_id,
        "started_at_ms": 1_793_000_000_000,
        "duration_ms": 812,
        "first_token_ms": 95,
        "team_id": "support",
        "key_id": "key_1",
        "alias": "auto",
        "deployment": "mistral-7b",
        "provider_name": "vllm",
        "request_model": "mistral-7b-instruct",
        "response_model": "mistral-7b-instruct-v0.2",
        "reason": "cheapest_fit",
        "tier": "simple",
        "score": 0.125,
        "classifier": "heuristic",
        "status": "ok",
        "cache": "miss",
        "stream": True,
        "attempts": 1,
        "finish_reasons": "stop",
        "input_tokens": 120,
        "output_tokens": 80,
        "usage_source": "provider",
        "cost_nusd": 840_000,
        "reserved_nusd": 2_000_000,
        "price_effective_from": "2024-01-25",
        "baseline_model": "gpt-4",
        "baseline_input_tokens": 120,
        "baseline_output_tokens": 80,
        "baseline_cost_nusd": 8_400_000,
        "detail": {"signals": ["short", "一个问题"], "candidates": [], "attempts": [{"status": 200}]},
    }
    return SpendRecord(**{**values, **changes})


def priced_record(request_id: str = "r", **changes: Any) -> SpendRecord:
    """As the example's price file has it: 1,000 x $0.5 + 1,000 x $1.5 a million are 2,000,000 nano-USD; of gpt-4,
    90,000,000."""
    values = {
        "deployment": "small",
        "request_model": "mistral-7b",
        "input_tokens": 1_000,
        "output_tokens": 1_000,
        "cost_nusd": 2_000_000,
        "price_effective_from": "2024-01-25",
        "baseline_model": "gpt-4",
        "baseline_price_effective_from": "2023-03-14",
        "baseline_input_tokens": 1_000,
        "baseline_output_tokens": 1_000,
        "baseline_cost_nusd": 90_000_000,
        "detail": {},
    }
    return spend_record(request_id, **{**values, **changes})
