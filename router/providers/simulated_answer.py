"""A checked request to a whole answer: deterministic, counted, cut where the request says so. Pure."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import orjson

from router.providers.simulated_schema import fitting
from router.providers.simulated_text import STOP_WORDS, compose, target_tokens
from router.providers.simulated_wire import Choice, Completion, SimulatedRequest, ToolCall
from router.tokenizers import TokenCounter

# A guess at the frame around a call in an answer: OpenAI publishes no figure.
TOKENS_PER_TOOL_CALL = 4

ACTION_WORDS = re.compile(
    r"\b(look up|check|get|find|fetch|search|book|create|open|schedule|cancel|send|call|run|convert|track)\b"
    r"|查一下|查询|查找|搜索|预订|预约|创建|新建|安排|取消|发送|调用|运行|换算|跟踪",
    re.IGNORECASE,
)


def complete(request: SimulatedRequest, *, id: str, created: int, counter: TokenCounter) -> Completion:
    """The answer. Equal requests get equal choices, streamed or not; only `id` and `created` differ."""
    choices = tuple(_choice(request, index, counter) for index in range(request.n))
    return Completion(
        id=id,
        created=created,
        model=request.model,
        choices=choices,
        input_tokens=counter.count_messages(request.wire_messages, request.wire_tools),
        output_tokens=sum(_count_output(choice, counter) for choice in choices),
    )


def _count_output(choice: Choice, counter: TokenCounter) -> int:
    texts = [choice.content or "", *(text for call in choice.tool_calls for text in (call.name, call.arguments))]
    return sum(map(counter.count_text, texts)) + TOKENS_PER_TOOL_CALL * len(choice.tool_calls)


def _choice(request: SimulatedRequest, index: int, counter: TokenCounter) -> Choice:
    rng = random.Random(request.seed + index)
    tool = _called_tool(request)
    if tool is not None:
        return Choice(None, (_tool_call(request, tool, rng),), "tool_calls")
    text = _until_stop(_text(request, rng, counter), request.stop)
    kept = _within(text, request.max_tokens, counter)
    return Choice(kept, (), "stop" if kept == text else "length")


def _text(request: SimulatedRequest, rng: random.Random, counter: TokenCounter) -> str:
    mark = f"[simulated {request.name}]"
    match request.response_format["type"]:
        case "json_schema":
            schema = request.response_format["json_schema"]["schema"]
            return orjson.dumps(fitting(schema, mark, rng)).decode()
        case "json_object":
            return orjson.dumps({"answer": mark, "items": [rng.randint(1, 9), rng.randint(1, 9)]}).decode()
        case _:
            question = request.question
            tokens = target_tokens(question, counter.count_text(question), request.persona.wordiness, rng)
            return f"{mark} {compose(question, tokens, rng)}"


def _until_stop(text: str, stops: tuple[str, ...]) -> str:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(found)] if found else text


def _within(text: str, max_tokens: int | None, counter: TokenCounter) -> str:
    """The longest beginning of `text` that is no more than `max_tokens` tokens."""
    if max_tokens is None or counter.count_text(text) <= max_tokens:
        return text
    end = bisect_right(range(1, len(text)), max_tokens, key=lambda length: counter.count_text(text[:length]))
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
