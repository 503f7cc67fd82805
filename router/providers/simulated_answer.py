"""A checked request to a whole answer: deterministic, counted, cut where the request says so. Pure."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from router.providers.simulated_schema import fitting
from router.providers.simulated_text import STOP_WORDS, compose, target_tokens
from router.providers.simulated_wire import Choice, Completion, SimulatedRequest, ToolCall

CountTokens = Callable[[str], int]

# OpenAI's published recipe for cl100k chat models: three tokens frame each message, three begin the answer.
TOKENS_PER_MESSAGE = 3
TOKENS_OF_PRIMING = 3
TOKENS_PER_TOOL_CALL = 4

ACTION_WORDS = re.compile(
    r"\b(look up|check|get|find|fetch|search|book|create|open|schedule|cancel|send|call|run|convert|track)\b"
    r"|查一下|查询|查找|搜索|预订|预约|创建|新建|安排|取消|发送|调用|运行|换算|跟踪",
    re.IGNORECASE,
)


def complete(request: SimulatedRequest, *, id: str, created: int, count: CountTokens) -> Completion:
    """The answer. Equal requests get equal choices, streamed or not; only `id` and `created` differ."""
    input_tokens = count_input(request, count)
    choices = tuple(_choice(request, index, count) for index in range(request.n))
    return Completion(
        id=id,
        created=created,
        model=request.model,
        choices=choices,
        input_tokens=input_tokens,
        output_tokens=sum(count_output(choice, count) for choice in choices),
    )


def count_input(request: SimulatedRequest, count: CountTokens) -> int:
    """Tokens of the prompt, by OpenAI's recipe for messages; tools are counted as their JSON."""
    turns = sum(TOKENS_PER_MESSAGE + count(turn.role) + count(turn.text) for turn in request.turns)
    tools = count(orjson.dumps(request.tools).decode()) if request.tools else 0
    return turns + tools + TOKENS_OF_PRIMING


def count_output(choice: Choice, count: CountTokens) -> int:
    calls = sum(TOKENS_PER_TOOL_CALL + count(call.name) + count(call.arguments) for call in choice.tool_calls)
    return calls + (count(choice.content) if choice.content else 0)


def _choice(request: SimulatedRequest, index: int, count: CountTokens) -> Choice:
    rng = random.Random(request.seed + index)
    tool = _called_tool(request)
    if tool is not None:
        return Choice(None, (_tool_call(request, tool, rng),), "tool_calls")
    text = _until_stop(_text(request, rng, count), request.stop)
    kept = _within(text, request.max_tokens, count)
    return Choice(kept, (), "stop" if kept == text else "length")


def _text(request: SimulatedRequest, rng: random.Random, count: CountTokens) -> str:
    mark = f"[simulated {request.name}]"
    match request.response_format["type"]:
        case "json_schema":
            schema = request.response_format["json_schema"]["schema"]
            return orjson.dumps(fitting(schema, mark, rng)).decode()
        case "json_object":
            return orjson.dumps({"answer": mark, "items": [rng.randint(1, 9), rng.randint(1, 9)]}).decode()
        case _:
            question = request.question
            tokens = target_tokens(question, count(question), request.persona.wordiness, rng)
            return f"{mark} {compose(question, tokens, rng)}"


def _until_stop(text: str, stops: tuple[str, ...]) -> str:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(found)] if found else text


def _within(text: str, max_tokens: int | None, count: CountTokens) -> str:
    """The longest beginning of `text` that is no more than `max_tokens` tokens."""
    if max_tokens is None or count(text) <= max_tokens:
        return text
    end = bisect_right(range(1, len(text)), max_tokens, key=lambda length: count(text[:length]))
    return text[:end]


def _called_tool(request: SimulatedRequest) -> Mapping[str, Any] | None:
    """The tool that the request insists on, or the first that its question has words in common with."""
    chosen = request.tool_choice
    if not request.tools or chosen == "none":
        return None
    if isinstance(chosen, dict):
        name = (chosen.get("function") or {}).get("name")
        return next((tool for tool in request.tools if tool["name"] == name), request.tools[0])
    if chosen == "required":
        return request.tools[0]
    if request.turns[-1].role in ("tool", "function"):
        return None
    asked = _stems(request.question)
    related = next((tool for tool in request.tools if asked & _stems(_described(tool))), None)
    return related or (request.tools[0] if ACTION_WORDS.search(request.question) else None)


def _described(tool: Mapping[str, Any]) -> str:
    return f"{tool['name'].replace('_', ' ')} {tool.get('description') or ''}"


def _stems(text: str) -> frozenset[str]:
    """Beginnings of English words and pairs of Chinese characters, for a rough comparison of two texts."""
    words = {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower()) if word not in STOP_WORDS}
    spans = re.findall(r"[\u4e00-\u9fff]+", text)
    return frozenset(words | {span[at : at + 2] for span in spans for at in range(len(span) - 1)})


def _tool_call(request: SimulatedRequest, tool: Mapping[str, Any], rng: random.Random) -> ToolCall:
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    arguments = fitting(parameters, f"[simulated {request.name}]", rng, required_only=True)
    return ToolCall(f"call_{rng.getrandbits(96):024x}", tool["name"], orjson.dumps(arguments).decode())
