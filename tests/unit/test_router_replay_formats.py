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
    "id": "r1",
    "model": "gpt-4",
    "created": 1_760_000_000,
    "choices": [{"message": {"role": "assistant", "content": "Two metres."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 21, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 16}},
}
REQUEST = {"model": "gpt-4", "messages": MESSAGES, "temperature": 0}
TIME = "2025-10-09T08:53:20.000Z"
SPEND = {
    "request_id": "r1",
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
    "id": "r1",
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
    "correlationId": "r1",
    "operationName": "Microsoft.ApiManagement/GatewayLlmLogs",
    "properties": json.dumps({
        "modelName": "gpt-4", "deploymentName": "ours", "promptTokens": 21, "completionTokens": 4,
        "requestMessages": MESSAGES, "responseMessages": [{"role": "assistant", "content": "Two metres."}],
        "subscriptionId": "kitchen",
    }),
}  # fmt: skip
PLAIN = {
    "Model": "gpt-4", "Prompt": json.dumps(MESSAGES), "Completion": "Two metres.", "Prompt Tokens": "21",
    "completion-tokens": "4", "cached_tokens": "16", "cost_usd": "0.00087", "Timestamp": TIME,
    "team": "kitchen", "id": "r1",
}  # fmt: skip
PAIR = {"request": REQUEST, "response": RESPONSE, "cost": 0.00087, "user": "kitchen"}
STORED = {**RESPONSE, "object": "chat.completion", "messages": MESSAGES, "cost": 0.00087, "user": "kitchen"}
BATCH = {"custom_id": "a", "body": {**REQUEST, "user": "kitchen"}, "response": {"status_code": 200, "body": RESPONSE}}

EMBEDDING = {"object": "list", "data": [{"object": "embedding", "embedding": [0.5]}], "model": "text-embedding-3-small"}

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
    assert request.id == "r1"


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
        {**HELICONE, "response_status": "-3"},
        {**HELICONE, "response_body": EMBEDDING},
        {**LANGFUSE, "type": "SPAN"},
        {**LANGFUSE, "level": "ERROR"},
        {**AZURE, "resultSignature": "500"},
        {**AZURE, "properties": json.dumps({"modelName": "gpt-4", "requestMessages": MESSAGES, "sequenceNumber": 1})},
        {**PAIR, "response": {"error": {"message": "no"}}},
        {**PAIR, "response": {"status_code": 503, "body": {}}},
        {**PAIR, "response": None},
        {**PAIR, "response": EMBEDDING},
        {**BATCH, "response": {"status_code": 200, "body": EMBEDDING}},
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


# ---- how else the same is kept -------------------------------------------------------------------


@pytest.mark.parametrize("call_type", ["anthropic_messages", "aresponses", "agenerate_content", "atext_completion"])
def test_every_call_that_a_model_answers_in_words_counts(call_type: str) -> None:
    assert read_record({**SPEND, "call_type": call_type}, None).usage == TokenUsage(21, 4, 16)


def test_a_prompt_that_litellm_cut_is_none() -> None:
    cut = "Prove ... (litellm_truncated skipped 9000 chars. To increase the limit ...) ...it."
    request = read_record({**SPEND, "messages": [{"role": "user", "content": cut}], "response": cut}, None)
    assert (request.body, request.answer) == (None, None)
    assert request.usage == TokenUsage(21, 4, 16)


def test_helicones_csv_doubles_its_quotes_twice() -> None:
    row = {**HELICONE, "request_body": json.dumps(REQUEST).replace('"', '""'), "response_body": None}
    assert read_record(row, None).body == REQUEST


def test_all_that_langfuse_counts_of_a_side_is_a_part_of_it() -> None:
    counts = {"input": 5, "cache_creation_input_tokens": 9, "cache_read_input_tokens": 7, "output": 4, "total": 25}
    assert read_record({**LANGFUSE, "usageDetails": counts}, None).usage == TokenUsage(21, 4, 7)
    shown = {k: v for k, v in LANGFUSE.items() if k != "usageDetails"} | {"inputUsage": 21, "outputUsage": 4}
    assert read_record(shown, None).usage == TokenUsage(21, 4)


def test_azures_records_are_known_by_the_names_of_log_analytics_too() -> None:
    row = {
        "TimeGenerated": TIME,
        "Category": "GatewayLlmLogs",
        "CorrelationId": "r1",
        "properties_s": AZURE["properties"],
    }
    assert read_record(row, None) == read_record(AZURE, None)


CHUNKS = [
    {
        "id": "r1",
        "model": "gpt-4",
        "created": 1_760_000_000,
        "choices": [{"delta": {"role": "assistant", "content": None}}],
    },
    {"model": "gpt-4", "choices": [{"delta": {"content": "Two "}}], "usage": None},
    {"model": "gpt-4", "choices": [{"delta": {"content": "metres."}, "finish_reason": "stop"}]},
    {"model": "gpt-4", "choices": [], "usage": RESPONSE["usage"]},
]
EVENTS = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    "streamed", [CHUNKS, EVENTS, {"status_code": 200, "body": EVENTS}], ids=["list", "text", "body"]
)
def test_a_streamed_answer_is_put_together(streamed: object) -> None:
    assert read_record({**PAIR, "response": streamed}, None) == read_record(PAIR, None)


def test_an_answer_may_be_bare_text() -> None:
    request = read_record({"request": REQUEST, "response": "Two metres."}, None)
    assert (request.model, request.answer, request.usage) == ("gpt-4", "Two metres.", None)


def test_columns_called_request_and_response_hold_plain_text_too() -> None:
    row = {"model": "gpt-4", "request": "How high?", "response": "Two metres.", "input_tokens": 3, "output_tokens": 4}
    request = read_record(row, None)
    assert request.body == {"model": "gpt-4", "messages": [{"role": "user", "content": "How high?"}]}


RESPONDED = {
    "object": "response",
    "created_at": 1_760_000_000,
    "model": "gpt-4",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Two metres."}]}],
    "usage": {"input_tokens": 21, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 16}},
}
COMPLETED = f"event: response.completed\ndata: {json.dumps({'type': 'response.completed', 'response': RESPONDED})}\n\n"


@pytest.mark.parametrize("response", [RESPONDED, COMPLETED], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "asked",
    ["How high is the gate?", [{"role": "user", "content": [{"type": "input_text", "text": "How high is the gate?"}]}]],
)
def test_the_responses_api_is_read_as_chat(asked: object, response: object) -> None:
    request = {"model": "gpt-4", "instructions": "Be brief.", "input": asked, "max_output_tokens": 50}
    found = read_record({"request": request, "response": response}, None)
    assert found.body is not None
    system, user = found.body["messages"]
    assert system == MESSAGES[0]
    assert user["content"] in (MESSAGES[1]["content"], [{"type": "text", "text": MESSAGES[1]["content"]}])
    assert found.body["max_completion_tokens"] == 50
    assert (found.answer, found.usage) == ("Two metres.", TokenUsage(21, 4, 16))


def test_a_request_of_a_batch_that_was_not_joined_says_so() -> None:
    with pytest.raises(BadRow, match="plain, not packed"):
        read_record({"custom_id": "a", "body": REQUEST}, None)


def test_prompts_and_answers_may_be_json_themselves() -> None:
    row = {"model": "gpt-4", "prompt": '{"task": "measure the gate"}', "answer": '{"metres": 2}'}
    request = read_record(row, None)
    assert request.body == {"model": "gpt-4", "messages": [{"role": "user", "content": row["prompt"]}]}
    assert request.answer == row["answer"]
    empty = read_record({"model": "gpt-4", "prompt": "{}", "answer": "[]"}, None)
    assert (empty.body, empty.answer) == (None, None)
