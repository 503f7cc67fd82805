"""Made-up records as busy traffic leaves them: some keys ask far more than others, and each has its habits."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

from policies.spend import SpendRecord

MONTH_MS = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1000
MONTH_LENGTH_MS = 30 * 86_400_000
APART_MS = 259  # ten million in thirty days

_KEYS = 40
_TEAMS = 12
_TASKS = ("chat", "code", "extract", "math", "rewrite", "summarize", "translate", "write")
_DEPLOYMENTS = (
    ("local/mistral-7b", "simple", "local", "mistral-7b-instruct-v0.3", 250),
    ("mistral/mistral-medium", "moderate", "mistral", "mistral-medium-latest", 2_700),
    ("openai/gpt-4", "complex", "openai", "gpt-4-0613", 30_000),
)
_BASELINE_NUSD = 30_000


def records(count: int, seed: int = 5) -> Iterator[SpendRecord]:
    """So many, in the order of their times, beginning with the month."""
    rng = random.Random(seed)
    for number in range(count):
        yield _record(rng, MONTH_MS + number * APART_MS)


def _record(rng: random.Random, started_at_ms: int) -> SpendRecord:
    key = min(int(rng.expovariate(0.12)), _KEYS - 1)
    tier = rng.choices((0, 1, 2), (6, 3, 1))[0]
    name, deployment_tier, provider, model, nusd = _DEPLOYMENTS[tier]
    hit, failed = rng.random() < 0.15, rng.random() < 0.01
    inputs, outputs = rng.randrange(40, 2_500), 0 if failed else rng.randrange(10, 800)
    chain = [[each[0], each[4] * rng.randrange(300, 900), each[4] * 4096] for each in _DEPLOYMENTS[tier:]]
    return SpendRecord(
        request_id=f"chatcmpl-{started_at_ms // 1000:08x}{secrets.token_hex(8)}",  # as bootstrap.request_ids makes them
        started_at_ms=started_at_ms,
        duration_ms=rng.randrange(300, 20_000),
        first_token_ms=rng.randrange(80, 900),
        team_id=f"team-{key % _TEAMS}",
        key_id=f"key_{key:012x}",
        project_id=f"project-{key % 20}" if key % 3 else None,
        end_user=f"user-{rng.randrange(5_000)}" if key % 4 == 0 else "",
        tags=",batch,nightly," if key % 10 == 0 else "",
        alias="auto" if key % 5 else "auto-careful",
        deployment=name,
        deployment_tier=deployment_tier,
        provider_name=provider,
        request_model=model,
        response_model=model,
        reason="cache" if hit else deployment_tier,
        tier=deployment_tier,
        score=rng.random(),
        classifier="learned",
        task=_TASKS[(key + min(int(rng.expovariate(1)), 7)) % len(_TASKS)],
        status="error" if failed else "ok",
        error_code="upstream_timeout" if failed else None,
        cache="hit" if hit else "miss",
        stream=key % 2 == 0,
        attempts=0 if hit else 1,
        finish_reasons="" if failed else "stop",
        input_tokens=inputs,
        output_tokens=outputs,
        usage_source="cache" if hit else "provider",
        cost_nusd=0 if hit else nusd * (inputs + 2 * outputs),
        reserved_nusd=nusd * (inputs + 2 * 4096),
        price_effective_from="2026-01-01",
        baseline_model="gpt-4",
        baseline_price_effective_from="2024-01-25",
        estimator="2026-11",
        recounted_output_tokens=outputs,
        baseline_input_tokens=inputs,
        baseline_output_tokens=outputs,
        baseline_cost_nusd=_BASELINE_NUSD * (inputs + 2 * outputs),
        detail={"chain": chain, "signals": ["quantities", "explanation asked"][: rng.randrange(3)]},
    )
