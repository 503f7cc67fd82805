"""Every format: recognised by its names, and read into the same request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.usage import TokenUsage
from router.replay.formats import FORMATS, read_record, recognise
from router.replay.rows import BadRow, LoggedRequest, NoCall
from tests.support.logs import pair

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How high is the gate?"}]
RESPONSE = {
    "id": "chatcmpl-1",
    "model": "gpt-4",
    "created": 1_760_000_000,
    "choices": [{"message": {"role": "assistant", "content": "Two metres."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 21, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 16}},
}
REQUEST = {"model": "gpt-4", "messages": MESSAGES, "temperature": 0}
TIME = "2025-10-09T08:53:20.000Z"
SPEND = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "spend": 0.00087,
    "prompt_tokens": 21,
    "completion_tokens": 4,
    "startTime": TIME,
    "model": "gpt-4",
    "team_id": "kitchen",
    "status": "success",
    "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 16}}},
    "messages": MESSAGES,
    "response": RESPONSE,
}
HELICONE = {
    "response_id": "r1",
    "response_status": 200,
    "request_created_at": TIME,
    "request_body": REQUEST,
    "response_body": RESPONSE,
    "request_user_id": "kitchen",
    "provider": "OPENAI",
    "model": "gpt-4",
    "prompt_tokens": 21,
    "completion_tokens": 4,
    "prompt_cache_read_tokens": 16,
    "costUSD": 0.00087,
}
LANGFUSE = {
    "id": "o1",
    "traceId": "t1",
    "type": "GENERATION",
    "model": "gpt-4",
    "startTime": TIME,
    "input": MESSAGES,
    "output": {"role": "assistant", "content": "Two metres."},
    "usageDetails": {"input": 5, "input_cached_tokens": 16, "output": 4, "total": 25},
    "costDetails": {"total": 0.00087},
    "modelParameters": {"temperature": 0, "colour": "blue"},
    "userId": "kitchen",
}
AZURE = {
    "time": TIME,
    "category": "GatewayLlmLogs",
    "operationName": "Microsoft.ApiManagement/GatewayLlmLogs",
    "properties": json.dumps({
        "modelName": "gpt-4", "deploymentName": "ours", "promptTokens": 21, "completionTokens": 4,
        "requestMessages": MESSAGES, "responseMessages": [{"role": "assistant", "content": "Two metres."}],
        "subscriptionId": "kitchen",
    }),
}  # fmt: skip
PLAIN = {
    "Model": "gpt-4", "Prompt": json.dumps(MESSAGES), "Completion": "Two metres.", "Prompt Tokens": "21",
    "completion-tokens": "4", "cached_tokens": "16", "cost_usd": "0.00087", "Timestamp": TIME, "team": "kitchen",
}  # fmt: skip
PAIR = {"request": REQUEST, "response": RESPONSE, "cost": 0.00087, "user": "kitchen"}
STORED = {**RESPONSE, "object": "chat.completion", "messages": MESSAGES, "cost": 0.00087, "user": "kitchen"}
BATCH = {"custom_id": "a", "body": {**REQUEST, "user": "kitchen"}, "response": {"status_code": 200, "body": RESPONSE}}

SAMPLES = {
    "litellm": SPEND, "helicone": HELICONE, "langfuse": LANGFUSE, "azure": AZURE, "plain": PLAIN, "openai": PAIR,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_tells_its_format(name: str) -> None:
    found = recognise(SAMPLES[name])
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("record", [*SAMPLES.values(), STORED, BATCH], ids=[*SAMPLES, "stored", "batch"])
def test_every_format_says_the_same(record: dict[str, Any]) -> None:
    request = read_record(record, None)
    assert request.model == "gpt-4"
    assert request.body is not None
    assert request.body["messages"] == MESSAGES
    assert request.answer == "Two metres."
    assert request.usage in (TokenUsage(21, 4, 16), TokenUsage(21, 4))  # the gateway of Azure counts no cached input
    assert request.at_ms == 1_760_000_000_000
    assert request.cost_nusd == (870_000 if record not in (AZURE, BATCH) else None)
    assert request.application == "kitchen"
    assert request.batch is (record is BATCH)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "azure"])
def test_nested_fields_may_be_text_as_in_csv(name: str) -> None:
    flat = {k: json.dumps(v) if isinstance(v, (dict, list)) else str(v) for k, v in SAMPLES[name].items()}
    assert read_record(flat, None) == read_record(SAMPLES[name], None)


def without_text(request: LoggedRequest) -> bool:
    return request.body is None and request.usage == TokenUsage(21, 4, 16)


def test_logs_that_keep_no_prompts_are_read_without() -> None:
    """LiteLLM writes empty objects where prompts are not stored."""
    assert without_text(read_record({**SPEND, "messages": {}, "response": {}}, None))
    assert without_text(read_record({k: v for k, v in HELICONE.items() if not k.endswith("_body")}, "helicone"))
    assert without_text(read_record({**LANGFUSE, "input": None, "output": None}, None))


def test_litellm_keeps_the_whole_request_elsewhere() -> None:
    stored = {**SPEND, "messages": {}, "proxy_server_request": json.dumps({**REQUEST, "max_tokens": 50})}
    body = read_record(stored, None).body
    assert body is not None
    assert (body["messages"], body["max_tokens"]) == (MESSAGES, 50)


def test_known_parameters_beside_the_prompt_are_kept() -> None:
    body = read_record(LANGFUSE, None).body
    assert body == {"model": "gpt-4", "messages": MESSAGES, "temperature": 0}


@pytest.mark.parametrize(
    "record",
    [
        {**SPEND, "status": "failure"},
        {**SPEND, "call_type": "aembedding"},
        {**HELICONE, "response_status": 429},
        {**LANGFUSE, "type": "SPAN"},
        {**LANGFUSE, "level": "ERROR"},
        {**AZURE, "resultSignature": "500"},
        {**PAIR, "response": {"error": {"message": "no"}}},
        {**PAIR, "response": {"status_code": 503, "body": {}}},
        {"custom_id": "a", "response": None, "error": {"code": "expired"}},
    ],
)
def test_what_was_not_answered_is_passed_over(record: dict[str, Any]) -> None:
    with pytest.raises(NoCall):
        read_record(record, None)


@pytest.mark.parametrize("record", [
    {**SPEND, "model": ""}, {k: v for k, v in LANGFUSE.items() if k != "model"}, {**PLAIN, "Model": None},
])  # fmt: skip
def test_a_row_without_a_model_says_so(record: dict[str, Any]) -> None:
    with pytest.raises(BadRow) as caught:
        read_record(record, "plain" if "Model" in record else None)
    assert caught.value.kind == "no model"


def test_a_record_of_no_format_is_refused_without_quoting_it() -> None:
    """The names of columns may be a prompt, where a file has no first line of names."""
    with pytest.raises(BadRow) as caught:
        read_record({"What is my secret?": "x"}, None)
    assert caught.value.kind == "unknown format"
    assert "secret" not in str(caught.value)


def test_azures_own_records_count_no_tokens() -> None:
    properties = json.dumps({"modelName": "gpt-4", "requestLength": 300, "responseLength": 900})
    with pytest.raises(BadRow, match="GatewayLlmLogs") as caught:
        read_record({"time": TIME, "category": "RequestResponse", "properties": properties}, None)
    assert caught.value.kind == "missing usage"


def test_a_part_of_a_message_is_no_prompt() -> None:
    """Azure splits long ones: what a part says is not how hard the whole is."""
    properties = json.loads(AZURE["properties"])
    properties["requestMessages"] = [{**MESSAGES[1], "sequenceNumber": 1}]
    assert read_record({**AZURE, "properties": properties}, None).body is None


def test_what_belongs_to_the_answer_is_no_part_of_the_request() -> None:
    """Else no two stored completions would be repeats of each other."""
    body = read_record(STORED, None).body
    assert body is not None
    assert not {"id", "usage", "choices", "created", "cost"} & body.keys()


def test_a_pair_may_hold_headers_around_its_bodies() -> None:
    wrapped = {"request": {"method": "POST", "body": REQUEST}, "response": {"status_code": 200, "body": RESPONSE}}
    assert read_record(wrapped, None).body == REQUEST
    assert read_record(pair("Hi"), None).usage == TokenUsage(10, 120)
