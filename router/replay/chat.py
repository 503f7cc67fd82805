"""Prompts and answers as logs keep them, in OpenAI's wire form: what is judged, and what is counted."""

from __future__ import annotations

from typing import Any

from policies.usage import TokenUsage
from router.replay.fields import Fields, first, mapping, parsed, tokens, usage_of

_PARAMETERS = (
    "max_tokens", "max_completion_tokens", "temperature", "response_format", "tools", "tool_choice", "n", "stop", "seed"
)  # fmt: skip


def chat_body(model: str, prompt: Any, parameters: Any = None) -> dict[str, Any] | None:
    """A request of what a log holds as its prompt: messages, an object with messages, or bare text. Else None.

    `parameters` are those beside the prompt in formats that part them; of unknown ones nothing is made.
    """
    if isinstance(prompt, str):
        prompt = parsed(prompt)
    beside = mapping(parameters)
    if isinstance(prompt, dict):
        beside, prompt = {**beside, **prompt}, prompt.get("messages")
    if isinstance(prompt, str) and prompt.strip():
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not prompt or not all(map(_is_message, prompt)):
        return None
    known = {name: beside[name] for name in _PARAMETERS if beside.get(name) is not None}
    return {"model": model, "messages": prompt, **known}


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str)


def request_body(value: Any) -> dict[str, Any] | None:
    """A whole request in OpenAI's wire form, as it was sent; None where it holds no messages."""
    body = mapping(value)
    messages = body.get("messages")
    return body if isinstance(messages, list) and messages else None


def chat_usage(response: Fields) -> TokenUsage | None:
    """`usage` of a chat completion, or of a response in the newer wire's names. Raises BadRow."""
    usage = mapping(response.get("usage"))
    within = mapping(first(usage, "prompt_tokens_details", "input_tokens_details"))
    without = mapping(first(usage, "completion_tokens_details", "output_tokens_details"))
    return usage_of(
        first(usage, "prompt_tokens", "input_tokens"),
        first(usage, "completion_tokens", "output_tokens"),
        tokens(within.get("cached_tokens"), "cached_tokens"),
        tokens(without.get("reasoning_tokens"), "reasoning_tokens"),
    )


def answer_text(value: Any) -> str | None:
    """The text of an answer: of a chat completion, of a message, or bare; None where the log keeps none."""
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, str):
        return value or None
    if isinstance(value, list):
        texts = [text for text in map(answer_text, value) if text]
        return "\n".join(texts) or None
    if not isinstance(value, dict):
        return None
    for name in ("choices", "message", "content", "text", "output", "completion"):
        if value.get(name):
            return answer_text(value[name])
    return None
