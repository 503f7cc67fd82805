"""What an answer says is read as far as it can be right; its id is found as it is spelt."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.usage import TokenUsage
from router.openai.responses import completion_facts, id_fragment, message_texts, our_id_fragment, usage_of


def test_a_whole_answer() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    facts = completion_facts(
        {
            "id": "chatcmpl-1",
            "model": "gpt-4-0613",
            "choices": [
                {"message": {"content": "Yes. ", "reasoning_content": "Hm. "}, "finish_reason": "stop"},
                {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"},
            ],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        }
    )
    assert facts.usage == TokenUsage(10, 5, 4, 2)
    assert facts.response_model == "gpt-4-0613"
    assert facts.finish_reasons == "stop,tool_calls"
    assert facts.output_text == 'Yes. Hm. look{"a":1}'


@pytest.mark.parametrize("completion", [{}, {"choices": None}, {"choices": [None, {"message": "x"}]}, {"model": 4}])
def test_what_is_left_out_is_nothing(completion: dict[str, Any]) -> None:
    facts = completion_facts(completion)
    assert (facts.usage, facts.response_model, facts.finish_reasons, facts.output_text) == (None, None, "", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(JSON, JSON, JSON)
def test_no_answer_is_too_odd_to_read(choices: Any, usage: Any, message: Any) -> None:
    completion_facts({"choices": choices, "usage": usage, "model": usage})
    completion_facts({"choices": [{"message": message, "finish_reason": choices}]})
    message_texts({"content": message, "tool_calls": choices})


@given(
    st.fixed_dictionaries(
        {"prompt_tokens": JSON},
        optional={"completion_tokens": JSON, "prompt_tokens_details": JSON, "completion_tokens_details": JSON},
    )
)
def test_usage_is_whole_numbers_or_nothing(usage: dict[str, Any]) -> None:
    found = usage_of(usage)
    if found is not None:
        counts = (found.input_tokens, found.output_tokens, found.cached_input_tokens, found.reasoning_tokens)
        assert all(type(count) is int and 0 <= count < 2**31 for count in counts)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": -1},
        {"prompt_tokens": 5.0},
        {"prompt_tokens": True},
        {"prompt_tokens": "5"},
        {"prompt_tokens": 2**63},
        {"prompt_tokens": 5, "completion_tokens": 1.5},
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}},
        {"prompt_tokens": 5, "prompt_tokens_details": [6]},
    ],
    ids=str,
)
def test_usage_that_cannot_be_right_is_none(usage: Any) -> None:
    assert usage_of(usage) is None


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 6}},
        {"prompt_tokens_details": {"cached_tokens": 4}, "cache_creation_input_tokens": 6},
    ],
)
def test_what_went_into_the_providers_cache_is_read(told: dict[str, Any]) -> None:
    assert usage_of({"prompt_tokens": 10, "completion_tokens": 5, **told}) == TokenUsage(10, 5, 4, 0, 6)


@pytest.mark.parametrize("written", [None, -1, 7, 2.0, True, "6"])
def test_cache_writes_that_cannot_be_part_of_the_prompt_are_left_out(written: Any) -> None:
    details = {"cached_tokens": 4, "cache_creation_tokens": written}
    assert usage_of({"prompt_tokens": 10, "prompt_tokens_details": details}) == TokenUsage(10, 0, 4)


def test_null_details_are_none() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": None}
    assert usage_of(usage) == TokenUsage(5, 0)


@pytest.mark.parametrize(
    "raw", [b'{"id":"a.b","x":1}', b'{"id": "a.b"}', b'{\n  "id" :\t"a.b"\n}', b'{"q":"\\"id\\":\\"a.b\\"","id":"a.b"}']
)
def test_the_id_is_found_as_it_is_spelt(raw: bytes) -> None:
    fragment = id_fragment(raw, "a.b")
    assert fragment is not None
    replaced = orjson.loads(raw.replace(fragment, our_id_fragment("ours")))
    assert replaced == orjson.loads(raw) | {"id": "ours"}


@pytest.mark.parametrize("answer_id", [None, "", 7, ["a"]])
def test_what_is_no_id_is_not_looked_for(answer_id: Any) -> None:
    assert id_fragment(b'{"id":""}', answer_id) is None


def test_an_id_that_is_written_otherwise_is_left() -> None:
    assert id_fragment(b'{"id":"\\u0061"}', "a") is None
