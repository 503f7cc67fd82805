"""Logs of gateways: LiteLLM's spend logs, and exports of Helicone.

Sources: the model `LiteLLM_SpendLogs` in litellm's schema.prisma, and docs.litellm.ai, "Getting Started with UI Logs"
(prompts are kept only where `store_prompts_in_spend_logs` is set; what was sent may lie in `proxy_server_request`).
Helicone's export tool (examples/export/typescript) and docs.helicone.ai, `POST /v1/request/query-clickhouse`.
"""

from __future__ import annotations

from typing import Any

import orjson

from policies.usage import TokenUsage
from router.replay.chat import answer_text, chat_body, chat_usage, request_body, responses_body, wrote_nothing
from router.replay.fields import Fields, cost_of, first, instant_ms, is_failure, mapping, text_of, tokens, usage_of
from router.replay.rows import BadRow, LoggedRequest, NoCall

_FAILED = frozenset({"failure", "failed", "error"})
_ANSWERING = ("completion", "responses", "anthropic_messages", "generate_content")
"""In the names of calls (`CallTypes` in litellm's types) that a model answers in words."""
_CUT = b"litellm_truncated"
"""Stands in each text of which LiteLLM left out the middle, as it does beyond 2,048 characters unless told otherwise
(MAX_STRING_LENGTH_PROMPT_IN_DB): what is left does not say how hard the whole was, or how long."""


def is_litellm(record: Fields) -> bool:
    return "spend" in record and ("startTime" in record or "call_type" in record or "custom_llm_provider" in record)


def read_litellm(record: Fields) -> LoggedRequest:
    """Raises BadRow and NoCall: for failures, and for calls such as embeddings, whose answers no model wrote."""
    kind = text_of(record.get("call_type"))
    if text_of(record.get("status")) in _FAILED or (kind and not any(name in kind for name in _ANSWERING)):
        raise NoCall
    model = text_of(record.get("model"))
    if not model:
        raise BadRow("no model", "model: found none; it must name the model that answered")
    sent = mapping(record.get("proxy_server_request"))
    return LoggedRequest(
        model=model,
        # The whole request, which holds its parameters, too, or else its messages alone.
        body=_uncut(request_body(sent) or responses_body(sent) or chat_body(model, record.get("messages"))),
        answer=_uncut(answer_text(record.get("response"))),
        usage=_litellm_usage(record),
        at_ms=instant_ms(record.get("startTime")),
        cost_nusd=cost_of(record.get("spend")),
        application=text_of(first(record, "team_id", "user", "api_key")),
        id=text_of(record.get("request_id")),
    )


def _uncut(found: Any) -> Any:
    return None if _CUT in orjson.dumps(found) else found


def _litellm_usage(record: Fields) -> TokenUsage | None:
    """A gateway's own cache is told by `cache_hit`; a provider's by the usage that `metadata` repeats."""
    usage = mapping(mapping(record.get("metadata")).get("usage_object"))
    within = mapping(usage.get("prompt_tokens_details"))
    return usage_of(
        record.get("prompt_tokens"),
        record.get("completion_tokens"),
        tokens(within.get("cached_tokens"), "cached_tokens"),
    )


def is_helicone(record: Fields) -> bool:
    if "request_body" in record or "response_body" in record:
        return True
    return "response_created_at" in record or ("costUSD" in record and "provider" in record)


def read_helicone(record: Fields) -> LoggedRequest:
    """Raises BadRow and NoCall. Bodies that were left out of the export make a row without text."""
    asked, answered = mapping(record.get("request_body")), mapping(record.get("response_body"))
    if is_failure(record.get("response_status")) or wrote_nothing(answered):
        raise NoCall
    model = text_of(
        first(record, "response_model", "model", "request_model", "model_override") or first(answered, "model")
        or first(asked, "model")
    )  # fmt: skip
    if not model:
        raise BadRow("no model", "model: found none; it must name the model that answered")
    counted = usage_of(
        record.get("prompt_tokens"), record.get("completion_tokens"), record.get("prompt_cache_read_tokens")
    )
    return LoggedRequest(
        model=model,
        body=request_body(asked) or responses_body(asked),
        answer=answer_text(answered),
        usage=counted or chat_usage(answered),
        at_ms=instant_ms(first(record, "request_created_at", "created_at", "response_created_at")),
        cost_nusd=cost_of(first(record, "costUSD", "cost_usd", "cost")),
        application=text_of(first(record, "request_user_id", "user_id", "user")),
        id=text_of(first(record, "request_id", "response_id")),
    )
