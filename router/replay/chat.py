"""Prompts and answers as logs keep them, in OpenAI's wire form: what is judged, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
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


def responses_body(request: Fields) -> dict[str, Any] | None:
    """A request of the Responses API in the form of chat; None where its `input` is more than text and messages."""
    found = chat_body(str(request.get("model")), request.get("input"), request)
    if found is None:
        return None
    instructions = request.get("instructions")
    before = [{"role": "system", "content": instructions}] if isinstance(instructions, str) and instructions else []
    found["messages"] = before + [
        {**message, "content": _parts(message.get("content"))} for message in found["messages"]
    ]
    if request.get("max_output_tokens") is not None:
        found["max_completion_tokens"] = request["max_output_tokens"]
    return found


def _parts(content: Any) -> Any:
    """Parts of a message, of which text is called otherwise there."""
    if not isinstance(content, list):
        return content
    return [{"type": "text", "text": part.get("text")} if _is_text(part) else part for part in content]


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("input_text", "output_text")


def response_of(value: Any) -> dict[str, Any]:
    """A response however it was kept: its body, the chunks of its stream (in a list, or as they came), or bare text."""
    if isinstance(value, str):
        value = _events(value) or parsed(value)
    if isinstance(value, list):
        return _assembled([chunk for chunk in value if isinstance(chunk, dict)])
    if isinstance(value, str) and value:
        return {"choices": [{"message": {"content": value}}]}
    return value if isinstance(value, dict) else {}


def _events(text: str) -> list[Any]:
    """The data of server-sent events; none where the text is something else."""
    if not text.startswith(("data:", "event:")):
        return []
    return [parsed(line.removeprefix("data:").strip()) for line in text.splitlines() if line.startswith("data:")]


def _assembled(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One response of all chunks: of chat completions, or of the Responses API, whose last event holds the whole."""
    for chunk in chunks:
        if chunk.get("type") == "response.completed":
            return mapping(chunk.get("response"))
    merged: dict[str, Any] = {}
    texts: list[str] = []
    for chunk in chunks:
        merged |= {name: value for name, value in chunk.items() if value is not None}
        texts += [mapping(choice.get("delta")).get("content") or "" for choice in chunk.get("choices") or ()]
    return {**merged, "choices": [{"message": {"content": "".join(texts)}}]}


def wrote_nothing(response: Fields) -> bool:
    """Of embeddings, images and verdicts of moderation, which are no answers."""
    return "choices" not in response and (isinstance(response.get("data"), list) or "results" in response)


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
        held = parsed(value)
        if isinstance(held, str) or not held:
            return value if held else None
        return answer_text(held) or value  # JSON that holds no answer is one: what was asked for was JSON
    if isinstance(value, list):
        texts = [text for text in map(answer_text, value) if text]
        return "\n".join(texts) or None
    if not isinstance(value, dict):
        return None
    for name in ("choices", "message", "content", "text", "output", "completion"):
        if value.get(name):
            return answer_text(value[name])
    return None
