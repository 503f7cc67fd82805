"""A request is checked as far as routing needs it; what is wrong is said exactly; repeats are recognised."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from classifiers.base import Message
from router.errors import InvalidRequest
from router.openai.requests import ChatRequest, canonical_digest, parse_chat_request

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


def parsed(**changes: Any) -> ChatRequest:
    return parse_chat_request(orjson.dumps(HELLO | changes))


def test_the_least_request() -> None:
    request = parsed()
    assert (request.model, request.stream, request.include_usage, request.choices) == ("auto", False, False, 1)
    assert (request.max_output_tokens, request.temperature, request.image_count) == (None, None, 0)
    assert request.needs == frozenset()
    assert request.prompt.messages == (Message("user", "Hello"),)
    assert request.body == HELLO
    assert request.size_bytes == len(orjson.dumps(HELLO))


def test_a_prompt_names_the_application_that_asks() -> None:
    assert parsed().prompt.application == ""
    assert parse_chat_request(orjson.dumps(HELLO), "team-1").prompt.application == "team-1"


def test_a_request_with_everything() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    request = parsed(
        messages=[
            {"role": "system", "content": None},
            {"role": "user", "content": [{"type": "text", "text": "这是"}, image, {"type": "text", "text": "什么?"}]},
            {"role": "assistant", "tool_calls": [{"id": "1"}]},
        ],
        stream=True,
        stream_options={"include_usage": True},
        n=2,
        max_completion_tokens=20,
        temperature=0,
        tools=[{"type": "function"}],
        response_format={"type": "json_schema", "json_schema": {}},
        vendor_extension={"kept": True},
    )
    assert (request.stream, request.include_usage, request.choices, request.temperature) == (True, True, 2, 0)
    assert request.max_output_tokens == 20
    assert request.needs == {"tools", "images", "json_schema"}
    assert [m.text for m in request.prompt.messages] == ["", "这是\n什么?", ""]
    assert (request.image_count, request.prompt.messages[1].image_count) == (1, 1)
    assert (request.prompt.tool_count, request.prompt.response_format) == (1, "json_schema")
    assert request.body["vendor_extension"] == {"kept": True}


def test_two_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"'max_completion_tokens' is 1 and 'max_tokens' is 16000: send one"):
        parsed(max_tokens=16_000, max_completion_tokens=1)
    assert parsed(max_tokens=5, max_completion_tokens=5).max_output_tokens == 5


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("n_predict", 4_000, "limit answers by 'max_tokens'"),
        ("best_of", 2, "use 'n'"),
        ("web_search_options", {"search_context_size": "low"}, "searches are billed"),
        ("models", ["other/model"], "decided here"),
        ("thinking_budget", 1, "beyond the limit"),
        ("chat_template", "{{ messages }}", "outgrow"),
        ("audio", {"voice": "alloy"}, "dearer"),
        ("modalities", ["text", "audio"], "no other answers have a known price"),
    ],
)
def test_what_could_cost_more_than_can_be_told_beforehand_is_refused(name: str, value: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as error:
        parsed(**{name: value})
    assert error.value.param == name
    assert parsed(**{name: None}).body[name] is None


@pytest.mark.parametrize(
    "harmless",
    [
        {"enable_thinking": False},
        {"fallbacks": []},
        {"modalities": ["text"]},
        {"tools": [{"type": "custom"}]},
        {"x": 1},
    ],
)
def test_what_costs_nothing_beyond_may_stay(harmless: dict[str, Any]) -> None:
    assert parsed(**harmless).body == HELLO | harmless


@pytest.mark.parametrize(("kind", "found"), [("web_search", "'web_search'"), (7, "a number"), ([], "an empty array")])
def test_tools_that_run_at_the_provider_are_refused(kind: Any, found: str) -> None:
    with pytest.raises(InvalidRequest, match=f"found {found}") as error:
        parsed(tools=[{"type": "function"}, {"type": kind}])
    assert error.value.param == "tools[1].type"


def test_what_is_read_besides_texts_is_measured() -> None:
    assert parsed().structure_bytes == 0
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 1_000}}
    assert parsed(tools=[tool]).structure_bytes > 1_000
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "y" * 2_000}}]}
    assert parsed(messages=[{"role": "user", "content": "hi"}, call]).structure_bytes > 2_000


def test_null_stands_for_absent() -> None:
    names = ("stream", "stream_options", "n", "max_tokens", "temperature", "tools", "response_format")
    request = parsed(**dict.fromkeys(names))
    plain = parsed()
    assert (request.stream, request.choices, request.prompt) == (plain.stream, plain.choices, plain.prompt)


@pytest.mark.parametrize(
    ("changes", "param", "allowed", "found"),
    [
        ({"model": None}, "model", "must be a non-empty string", "found nothing"),
        ({"model": ""}, "model", "must be a non-empty string", "found an empty string"),
        ({"model": 4}, "model", "must be a non-empty string", "found a number"),
        ({"messages": None}, "messages", "must be a non-empty array", "found nothing"),
        ({"messages": []}, "messages", "must be a non-empty array", "found an empty array"),
        ({"messages": "Hello"}, "messages", "must be a non-empty array", "found a string"),
        ({"messages": ["Hello"]}, "messages[0]", "must be an object", "found a string"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "must be a string", "found nothing"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content", "or an array of parts", "an object"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]", "must be an object", "a number"),
        ({"stream": "yes"}, "stream", "must be true or false", "found a string"),
        ({"stream": 1}, "stream", "must be true or false", "found 1"),
        ({"stream_options": []}, "stream_options", "must be an object", "found an empty array"),
        ({"n": 0}, "n", "an integer from 1 to 128", "found 0"),
        ({"n": 129}, "n", "an integer from 1 to 128", "found 129"),
        ({"n": True}, "n", "an integer from 1 to 128", "found True"),
        ({"max_tokens": -1}, "max_tokens", "an integer from 1 to 2147483647", "found -1"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", "an integer from 1", "found 1.5"),
        ({"temperature": "hot"}, "temperature", "a number of at least 0", "found a string"),
        ({"temperature": -0.1}, "temperature", "a number of at least 0", "found -0.1"),
        ({"tools": {}}, "tools", "must be an array", "found an object"),
        ({"response_format": {"type": "xml"}}, "response_format", "'json_object' or 'json_schema'", "found 'xml'"),
        ({"response_format": "json"}, "response_format", "'json_object' or 'json_schema'", "found a string"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_what_is_wrong_is_named_with_what_was_found_and_what_is_allowed(
    changes: dict[str, Any], param: str, allowed: str, found: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parsed(**changes)
    assert raised.value.param == param
    assert f"'{param}" in raised.value.message
    assert allowed in raised.value.message
    assert found in raised.value.message


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "The body is not valid JSON"),
        (b"{", "The body is not valid JSON"),
        (b'{"model": NaN}', "The body is not valid JSON"),
        (b'{"model": "\xff"}', "The body is not valid JSON"),
        (b"[1]", "must be a JSON object; found an array"),
        (b"null", "must be a JSON object; found nothing"),
        (b"true", "must be a JSON object; found a boolean"),
    ],
)
def test_a_body_that_is_no_object(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_chat_request(raw)


def nested(depth: int) -> bytes:
    return orjson.dumps(HELLO)[:-1] + b',"metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}"


def test_what_can_be_read_can_be_written() -> None:
    request = parse_chat_request(nested(200))
    assert len(canonical_digest(request, "s")) == 64
    assert orjson.loads(orjson.dumps(request.body)) == orjson.loads(nested(200))


@pytest.mark.parametrize("depth", [260, 900, 1_100])
def test_what_could_not_be_written_is_refused(depth: int) -> None:
    with pytest.raises(InvalidRequest, match=r"nested too deeply|depth limit"):
        parse_chat_request(nested(depth))


def test_many_objects_beside_each_other_are_not_deep() -> None:
    assert len(parsed(messages=HELLO["messages"] * 500).messages) == 500


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
EXTRAS = st.dictionaries(st.sampled_from(["seed", "stop", "top_p", "logit_bias", "x"]), VALUES, max_size=4)


def reordered(value: Any) -> Any:
    """The same JSON value with every object's keys the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def digest(body: dict[str, Any], scope: str = "team a") -> str:
    return canonical_digest(parse_chat_request(orjson.dumps(body)), scope)


@given(EXTRAS)
def test_the_order_of_keys_does_not_matter_at_any_depth(extras: dict[str, Any]) -> None:
    assert digest(HELLO | extras) == digest(reordered(HELLO | extras))


@given(EXTRAS, EXTRAS)
def test_what_is_asked_does(one: dict[str, Any], other: dict[str, Any]) -> None:
    assume(orjson.dumps(one, option=orjson.OPT_SORT_KEYS) != orjson.dumps(other, option=orjson.OPT_SORT_KEYS))
    assert digest(HELLO | one) != digest(HELLO | other)


@given(
    st.dictionaries(
        st.sampled_from(["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"]),
        VALUES,
        min_size=1,
    )
)
def test_who_asks_does_not(labels: dict[str, Any]) -> None:
    assert digest(HELLO | labels) == digest(HELLO)


def test_the_order_of_messages_the_stream_and_the_scope_do() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    digests = [
        digest(HELLO),
        digest(HELLO, "team b"),
        digest(HELLO | {"stream": True}),
        digest(HELLO | {"model": "gpt-4"}),
        digest(HELLO | {"messages": turns}),
        digest(HELLO | {"messages": turns[::-1]}),
        digest(HELLO | {"temperature": 0}),
    ]
    assert len(set(digests)) == len(digests)


def test_white_space_and_escapes_do_not() -> None:
    raw = b'{ "messages":[{"content":"Hell\\u006f","role":"user"}],\n"model":"auto"}'
    assert canonical_digest(parse_chat_request(raw), "team a") == digest(HELLO)
