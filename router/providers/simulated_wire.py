"""OpenAI's chat-completions wire as the simulated server reads and writes it. Pure: no socket, no clock.

Source of the shapes: OpenAI's API reference, "Create chat completion" and "Streaming events".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from router.providers.simulated_personas import FAULTS, Persona, persona_of, split_faults

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
RESPONSE_FORMATS = ("text", "json_object", "json_schema")
MAX_CHOICES = 16
MAX_STOPS = 4
SEEDING_FIELDS = ("messages", "tools", "tool_choice", "response_format", "seed")


class WireError(Exception):
    """An answer with OpenAI's error body: `status` and what goes into `{"error": ...}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": {"message": message, "type": type, "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; `text` joins the text parts of its content."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class SimulatedRequest:
    """A checked request. `tools` are the tools' functions; `wire_messages` and `wire_tools` are as they came.

    `seed` is a hash of all that decides the answer, so equal requests get equal answers.
    """

    model: str
    name: str
    faults: frozenset[str]
    persona: Persona
    turns: tuple[Turn, ...]
    wire_messages: tuple[Mapping[str, Any], ...]
    wire_tools: tuple[Mapping[str, Any], ...]
    seed: int
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = "auto"
    response_format: Mapping[str, Any] = field(default_factory=lambda: {"type": "text"})

    @property
    def question(self) -> str:
        """The newest message of the user's; of anybody, where the user said nothing."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), self.turns[-1].text)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is JSON text, as on the wire."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer: text or tool calls, and why it ended."""

    content: str | None
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer, ready to be written at once or in chunks."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    input_tokens: int
    output_tokens: int


def parse_request(body: bytes) -> SimulatedRequest:
    """The body as a request; raises `WireError` (400, or 404 for an unknown fault switch) as OpenAI would."""
    data = _load(body)
    model = _model(data)
    name, faults = split_faults(model)
    stream = _typed(data, "stream", bool, False)
    return SimulatedRequest(
        model=model,
        name=name,
        faults=faults,
        persona=persona_of(model),
        turns=_turns(data),
        wire_messages=tuple(data["messages"]),
        wire_tools=tuple(data.get("tools") or ()),
        seed=_seed(name, data),
        stream=stream,
        include_usage=_include_usage(data, stream),
        max_tokens=_max_tokens(data),
        n=_bounded(data, "n", 1, MAX_CHOICES) or 1,
        stop=_stop(data),
        tools=_tools(data),
        tool_choice=data.get("tool_choice") or "auto",
        response_format=_response_format(data),
    )


def _load(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(400, f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(data, dict):
        raise WireError(400, "The body of the request must be a JSON object.")
    return data


def _model(data: Mapping[str, Any]) -> str:
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise WireError(400, "you must provide a model parameter", param="model")
    unknown = split_faults(model)[1] - FAULTS.keys()
    if unknown:
        message = f"The model `{model}` does not exist: the simulated server's switches are {', '.join(FAULTS)}."
        raise WireError(404, message, param="model", code="model_not_found")
    return model


def _typed(data: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise WireError(400, f"Invalid type for '{name}': expected {kind.__name__}.", param=name, code="invalid_type")
    return value


def _bounded(data: Mapping[str, Any], name: str, low: int, high: int | None) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise WireError(400, f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type")
    if value < low or (high is not None and value > high):
        allowed = f">= {low}" if high is None else f"between {low} and {high}"
        message = f"Invalid '{name}': expected a value {allowed}, but got {value}."
        raise WireError(400, message, param=name, code="invalid_value")
    return value


def _max_tokens(data: Mapping[str, Any]) -> int | None:
    limits = [_bounded(data, name, 1, None) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if limit is not None), None)


def _turns(data: Mapping[str, Any]) -> tuple[Turn, ...]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise WireError(400, "Invalid 'messages': expected a list of at least one message.", param="messages")
    return tuple(_turn(index, message) for index, message in enumerate(messages))


def _turn(index: int, message: Any) -> Turn:
    param = f"messages[{index}]"
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        roles = ", ".join(sorted(ROLES))
        raise WireError(400, f"Invalid '{param}': expected an object whose role is one of {roles}.", param=param)
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return Turn("assistant", "")
    if isinstance(content, str):
        return Turn(message["role"], content)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise WireError(400, f"Invalid '{param}.content': expected a string or a list of parts.", param=param)
    texts = [part["text"] for part in content if isinstance(part.get("text"), str)]
    return Turn(message["role"], "\n".join(texts))


def _seed(name: str, data: Mapping[str, Any]) -> int:
    deciding = [name, {key: data[key] for key in SEEDING_FIELDS if data.get(key) is not None}]
    canonical = orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(hashlib.sha256(canonical).digest()[:8], "big")


def _include_usage(data: Mapping[str, Any], stream: bool) -> bool:
    options = _typed(data, "stream_options", dict, None)
    if options is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise WireError(400, message, param="stream_options")
    return bool(_typed(options, "include_usage", bool, False))


def _stop(data: Mapping[str, Any]) -> tuple[str, ...]:
    stop = data.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise WireError(400, f"Invalid 'stop': expected a string or up to {MAX_STOPS} strings.", param="stop")
    return tuple(stops)


def _tools(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The `function` objects of the tools."""
    functions = []
    for index, tool in enumerate(_typed(data, "tools", list, [])):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise WireError(400, f"Invalid 'tools[{index}]': expected a function with a name.", param=f"tools[{index}]")
        functions.append(function)
    return tuple(functions)


def _response_format(data: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = _typed(data, "response_format", dict, {"type": "text"})
    if chosen.get("type") not in RESPONSE_FORMATS:
        message = f"Invalid 'response_format.type': expected one of {', '.join(RESPONSE_FORMATS)}."
        raise WireError(400, message, param="response_format.type")
    schema = chosen.get("json_schema")
    if chosen["type"] == "json_schema" and not (isinstance(schema, dict) and isinstance(schema.get("schema"), dict)):
        message = "Missing required parameter: 'response_format.json_schema.schema'."
        raise WireError(400, message, param="response_format.json_schema")
    return chosen


def completion_body(completion: Completion) -> bytes:
    """The `chat.completion` object."""
    choices = [
        {
            "index": index,
            "message": _message(choice),
            "logprobs": None,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(completion.choices)
    ]
    head = _head(completion, "chat.completion")
    return orjson.dumps({**head, "choices": choices, "usage": _usage(completion)})


def _head(completion: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": completion.id,
        "object": kind,
        "created": completion.created,
        "model": completion.model,
        "system_fingerprint": "fp_simulated",
    }


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": None}
    if choice.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in choice.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.input_tokens,
        "completion_tokens": completion.output_tokens,
        "total_tokens": completion.input_tokens + completion.output_tokens,
    }


def completion_frames(completion: Completion, include_usage: bool) -> Iterator[bytes]:
    """The stream: one `data:` frame a chunk, the usage where asked for, and `[DONE]`."""
    head = _head(completion, "chat.completion.chunk")
    blank_usage = {"usage": None} if include_usage else {}
    for index, choice in enumerate(completion.choices):
        for delta, finish_reason in _deltas(choice):
            wire_choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            yield _frame({**head, "choices": [wire_choice], **blank_usage})
    if include_usage:
        yield _frame({**head, "choices": [], "usage": _usage(completion)})
    yield b"data: [DONE]\n\n"


def _frame(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _deltas(choice: Choice) -> Iterator[tuple[dict[str, Any], str | None]]:
    yield {"role": "assistant", "content": None if choice.tool_calls else "", "refusal": None}, None
    for piece in pieces(choice.content or ""):
        yield {"content": piece}, None
    for index, call in enumerate(choice.tool_calls):
        opening = _tool_call(ToolCall(call.id, call.name, ""))
        yield {"tool_calls": [{"index": index, **opening}]}, None
        for piece in pieces(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
    yield {}, choice.finish_reason


def pieces(text: str) -> Iterator[str]:
    """The text in bites of about a token: words with the blank before them, Chinese two characters at a time."""
    start = 0
    for end in range(1, len(text)):
        word_begins = text[end] in " \n" and text[end - 1] not in " \n"
        if word_begins or (text[end - 1] >= "\u2e80" and end - start >= 2) or end - start >= 12:
            yield text[start:end]
            start = end
    if start < len(text):
        yield text[start:]
