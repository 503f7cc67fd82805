"""A chat completion request: checked as far as routing needs it, everything else left as it came."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from classifiers.base import Message, Prompt, ResponseFormat
from classifiers.records import record
from policies.catalog import Capability
from router.errors import InvalidRequest

MAX_CHOICES = 128
_NOT_THE_QUESTION = frozenset({"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"})
"""Fields that name the caller or the billing, not what is asked: two requests that differ only here are repeats."""
_ANOTHER_LIMIT = "limit answers by 'max_tokens' or 'max_completion_tokens'"
_SEARCHES = "searches are billed beside tokens, which no budget here could hold"
_ANOTHER_MODEL = "which models may answer is decided here"
_THOUGHTS = "such thoughts are billed beyond the limit of the answer"
_LONGER_PROMPT = "the prompt that is billed could outgrow the one that is sent"
_OUT_OF_BOUNDS: dict[str, str] = {
    # llama.cpp obeys n_predict rather than max_tokens; the others are what elsewhere goes by such a name.
    **dict.fromkeys(
        ("n_predict", "num_predict", "max_new_tokens", "max_output_tokens", "max_gen_len", "max_length"), _ANOTHER_LIMIT
    ),
    "best_of": "answers that are not returned would be billed, too; use 'n'",
    **dict.fromkeys(("web_search_options", "enable_search", "search_parameters", "plugins"), _SEARCHES),
    **dict.fromkeys(("models", "fallbacks"), _ANOTHER_MODEL),
    **dict.fromkeys(("enable_thinking", "thinking_budget"), _THOUGHTS),  # Alibaba Cloud, 'Deep thinking'
    **dict.fromkeys(("chat_template", "mm_processor_kwargs", "media_io_kwargs", "cached_content"), _LONGER_PROMPT),
    "audio": "speech is dearer than the text that budgets hold for",
    "extra_body": "it hides fields from the bounds that budgets hold; send them beside the others",
}
"""Fields by which some provider would bill more than was held, and why; null, false and empty ones may stay."""
_TOOL_TYPES = (None, "function", "custom")
_SURELY_WRITABLE_DEPTH = 250
"""orjson reads objects and arrays nested 1,024 deep, but writes no more than about 250 of them."""


@record()
class ChatRequest:
    """`body` is the request as parsed; the other fields are what the pipeline reads of it."""

    body: dict[str, Any]
    size_bytes: int
    model: str
    stream: bool
    include_usage: bool
    choices: int
    max_output_tokens: int | None
    temperature: float | None
    prompt: Prompt
    image_count: int
    structure_bytes: int
    """Of what the model reads besides texts: tools, tool calls, the response's schema."""
    needs: frozenset[Capability]

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages


def parse_chat_request(raw: bytes, application: str = "") -> ChatRequest:
    """The request of `application`. Raises InvalidRequest: which field is wrong, what was found, what is allowed."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body must be a JSON object; found {_kind(body)}.")
    if raw.count(b"{") + raw.count(b"[") > _SURELY_WRITABLE_DEPTH:
        _check_depth(body)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(f"'model' must be a non-empty string; found {_kind(model)}.", param="model")
    messages = tuple(_message(index, message) for index, message in enumerate(_messages(body)))
    tools = _list(body, "tools")
    _check_bounded(body, tools)
    max_output_tokens = _max_output_tokens(body)
    response_format = _response_format(body)
    image_count = sum([message.image_count for message in messages])
    return ChatRequest(
        body=body,
        size_bytes=len(raw),
        model=model,
        stream=_boolean(body, "stream"),
        include_usage=_include_usage(body),
        choices=_integer(body, "n", 1, MAX_CHOICES) or 1,
        max_output_tokens=max_output_tokens,
        temperature=_temperature(body),
        prompt=Prompt(messages, len(tools), response_format, max_output_tokens, application),
        image_count=image_count,
        structure_bytes=_structure_bytes(body),
        needs=_needs(bool(tools), image_count > 0, response_format),
    )


def canonical_digest(request: ChatRequest, scope: str) -> str:
    """SHA-256 of what is asked, whatever the order of its keys, within `scope`; 64 hex digits."""
    question = {name: value for name, value in request.body.items() if name not in _NOT_THE_QUESTION}
    canonical = orjson.dumps(question, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(scope.encode() + b"\n" + canonical).hexdigest()


_NEEDS: dict[tuple[bool, bool, bool], frozenset[Capability]] = {}


def _needs(tools: bool, images: bool, response_format: ResponseFormat) -> frozenset[Capability]:
    key = (tools, images, response_format == "json_schema")
    needs = _NEEDS.get(key)
    if needs is None:
        names: tuple[Capability, ...] = ("tools", "images", "json_schema")
        needs = _NEEDS[key] = frozenset(name for name, wanted in zip(names, key, strict=True) if wanted)
    return needs


def _check_depth(body: dict[str, Any]) -> None:
    """What is read here must be written again, for the provider and for the digest."""
    try:
        orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise InvalidRequest("The body's objects and arrays are nested too deeply.") from None


def _check_bounded(body: dict[str, Any], tools: list[Any]) -> None:
    """What is asked for must not cost more than can be told from it beforehand."""
    if not _OUT_OF_BOUNDS.keys().isdisjoint(body):
        for name in [name for name in _OUT_OF_BOUNDS if body.get(name)]:
            raise InvalidRequest(f"'{name}' is not supported: {_OUT_OF_BOUNDS[name]}.", param=name)
    modalities = body.get("modalities")
    if modalities and modalities != ["text"]:
        raise InvalidRequest(
            "'modalities' must be [\"text\"]: no other answers have a known price.", param="modalities"
        )
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in _TOOL_TYPES:
            where, found = f"tools[{index}].type", repr(kind) if isinstance(kind, str) else _kind(kind)
            raise InvalidRequest(
                f"'{where}' must be 'function' or 'custom': others are billed beside tokens; found {found}.",
                param=where,
            )


def _messages(body: dict[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest(f"'messages' must be a non-empty array; found {_kind(messages)}.", param="messages")
    return messages


def _message(index: int, message: Any) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise InvalidRequest(f"'{where}' must be an object; found {_kind(message)}.", param=where)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise InvalidRequest(f"'{where}.role' must be a string; found {_kind(role)}.", param=f"{where}.role")
    content = message.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if content is None:
        return Message(role, "")
    if not isinstance(content, list):
        raise InvalidRequest(
            f"'{where}.content' must be a string or an array of parts; found {_kind(content)}.",
            param=f"{where}.content",
        )
    return _message_of_parts(where, role, content)


def _message_of_parts(where: str, role: str, parts: list[Any]) -> Message:
    texts: list[str] = []
    image_count = 0
    for index, part in enumerate(parts):
        if not isinstance(part, dict):
            param = f"{where}.content[{index}]"
            raise InvalidRequest(f"'{param}' must be an object; found {_kind(part)}.", param=param)
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") in ("image_url", "input_image", "image"):
            image_count += 1
    return Message(role, "\n".join(texts), image_count)


def _structure_bytes(body: dict[str, Any]) -> int:
    size = sum([len(orjson.dumps(body[name])) for name in ("tools", "functions", "response_format") if body.get(name)])
    for message in body["messages"]:
        for name in ("tool_calls", "function_call"):
            if name in message:
                size += len(orjson.dumps(message[name]))
    return size


def _max_output_tokens(body: dict[str, Any]) -> int | None:
    newer = _integer(body, "max_completion_tokens", 1, 2**31 - 1)
    older = _integer(body, "max_tokens", 1, 2**31 - 1)
    if newer is not None and older is not None and newer != older:
        # A provider obeys one of them, and a budget could be held to the other.
        raise InvalidRequest(
            f"'max_completion_tokens' is {newer} and 'max_tokens' is {older}: send one of them.",
            param="max_completion_tokens",
        )
    return newer if newer is not None else older


def _response_format(body: dict[str, Any]) -> ResponseFormat:
    value = body.get("response_format")
    if value is None:
        return "text"
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_schema":
        return "json_schema"
    if kind == "json_object":
        return "json_object"
    if kind == "text":
        return "text"
    found = (repr(kind) if isinstance(kind, str) else _kind(kind)) if isinstance(value, dict) else _kind(value)
    raise InvalidRequest(
        f"'response_format.type' must be 'text', 'json_object' or 'json_schema'; found {found}.",
        param="response_format",
    )


def _temperature(body: dict[str, Any]) -> float | None:
    value = body.get("temperature")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise InvalidRequest(
            f"'temperature' must be a number of at least 0; found {_shown(value)}.", param="temperature"
        )
    return value


def _include_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest(f"'stream_options' must be an object; found {_kind(options)}.", param="stream_options")
    return options.get("include_usage") is True


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return value is True
    raise InvalidRequest(f"'{name}' must be true or false; found {_shown(value)}.", param=name)


def _integer(body: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequest(f"'{name}' must be an integer from {least} to {most}; found {_shown(value)}.", param=name)
    return value


def _list(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"'{name}' must be an array; found {_kind(value)}.", param=name)
    return value


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float, bool)) else _kind(value)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return "an empty array" if value == [] else "an empty string" if value == "" else names[type(value)]
