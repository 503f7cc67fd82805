"""What a provider answered: usage, finish reasons, text, and the bytes that hold the answer's id."""

from __future__ import annotations

import re
from typing import Any

import orjson

from classifiers.records import record
from policies.usage import TokenUsage


@record()
class AnswerFacts:
    """What settling needs to know of an answer. `usage` is None where the provider reported none."""

    usage: TokenUsage | None
    response_model: str | None
    finish_reasons: str
    output_text: str


_MOST_TOKENS = 2**31 - 1
"""Of one call; a provider that reports more is mistaken."""

NOTHING_ANSWERED = AnswerFacts(None, None, "", "")


def parse_completion(raw: bytes) -> dict[str, Any] | None:
    """The chat.completion object; None for anything else, such as an error or a login page sent with 200."""
    try:
        completion = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    is_one = isinstance(completion, dict) and isinstance(completion.get("choices"), list)
    return completion if is_one else None


def completion_facts(completion: dict[str, Any]) -> AnswerFacts:
    """Reads a chat.completion object; tolerates whatever a provider leaves out."""
    texts: list[str] = []
    reasons: list[str] = []
    for choice in dicts(completion.get("choices")):
        message = choice.get("message")
        if isinstance(message, dict):
            texts.extend(message_texts(message))
        if isinstance(choice.get("finish_reason"), str):
            reasons.append(choice["finish_reason"])
    model = completion.get("model")
    return AnswerFacts(
        usage=usage_of(completion.get("usage")),
        response_model=model if isinstance(model, str) else None,
        finish_reasons=",".join(reasons),
        output_text="".join(texts),
    )


def message_texts(message: dict[str, Any]) -> list[str]:
    """All generated text of a message or delta: content, reasoning, refusal, tool calls."""
    texts = []
    for name in ("content", "reasoning_content", "refusal"):
        text = message.get(name)
        if text and isinstance(text, str):
            texts.append(text)
    if message.get("tool_calls"):
        for call in dicts(message["tool_calls"]):
            function = call.get("function")
            if isinstance(function, dict):
                texts.extend(
                    value for value in (function.get("name"), function.get("arguments")) if isinstance(value, str)
                )
    return texts


def usage_of(usage: Any) -> TokenUsage | None:
    """TokenUsage of a wire usage object; None for one that is absent or cannot be right.

    What was written into the provider's cache is no part of OpenAI's object: litellm adds it, for Anthropic's models.
    """
    if not isinstance(usage, dict):
        return None
    try:
        prompt = usage.get("prompt_tokens_details") or {}
        counts = (
            usage["prompt_tokens"],
            usage.get("completion_tokens") or 0,
            prompt.get("cached_tokens") or 0,
            (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
        )
        # Money is counted in integers: 5.0 tokens, or true, would end up in a budget.
        if any(type(count) is not int or count > _MOST_TOKENS for count in counts):
            return None
        written = prompt.get("cache_creation_tokens") or usage.get("cache_creation_input_tokens")
        # Some leave it out of their prompt's tokens: then those are all there is to go by.
        if type(written) is not int or not 0 < written <= counts[0] - counts[2]:
            written = 0
        return TokenUsage(*counts, cache_write_input_tokens=written)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def id_fragment(raw: bytes, answer_id: Any) -> bytes | None:
    """The bytes `"id":"..."` as `raw` spells them, to be replaced by ours; None if there are none.

    The fragment cannot occur inside a JSON string, where its quotes would be escaped.
    """
    if not isinstance(answer_id, str) or not answer_id:
        return None
    compact = b'"id":' + orjson.dumps(answer_id)
    if compact in raw:
        return compact
    found = re.search(rb'"id"\s*:\s*"' + re.escape(orjson.dumps(answer_id)[1:-1]) + rb'"', raw)
    return found.group() if found else None


def our_id_fragment(request_id: str) -> bytes:
    return b'"id":"' + request_id.encode() + b'"'


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON array; none where `value` is something else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
