"""What an application sees that points the official `openai` client at Parsimony."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.server import Server, deployment, serving, two_models
from tests.support.upstream import Upstream, answer, hang, page, status, stream

pytestmark = pytest.mark.e2e

_numbers = count(1)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WEATHER_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}


@dataclass(frozen=True, slots=True)
class Application:
    """A server, the scripted provider behind it, and clients of one team."""

    server: Server
    secret: str

    def client(self, secret: str = "", **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.server.url}/v1", api_key=secret or self.secret, **{"max_retries": 0, **options}
        )

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key=self.secret, max_retries=0)


@pytest.fixture(scope="module")
def application(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    config = two_models(module_upstream.base_url)
    slow = {"connect_seconds": 1, "first_token_seconds": 0.3, "total_seconds": 0.3}
    config["deployments"] += [
        deployment("flaky", module_upstream.base_url),
        deployment("slow", module_upstream.base_url, timeouts=slow),
        deployment("text-only", module_upstream.base_url, capabilities=[], context_window=1000),
    ]
    config["aliases"] = {"auto": {"deployments": ["small", "large"]}, "gpt-4": {"deployments": ["small", "large"]}}
    config["server"] = {"max_body_bytes": 200_000}
    with serving(tmp_path_factory.mktemp("client"), config) as server:
        yield Application(server, server.create_key("apps")["secret"])


@pytest.fixture
def client(application: Application, upstream: Upstream) -> openai.OpenAI:
    return application.client()


def asking(text: str = "Hello, how are you?") -> list[Any]:
    """A prompt that nobody has asked before, so that no cache answers it."""
    return [{"role": "user", "content": f"{text} ({next(_numbers)})"}]


# ---- answers --------------------------------------------------------------------------------------------------


def test_answers_whole(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = answer("Bonjour, 你好!")
    completion = client.chat.completions.create(model="auto", messages=asking())
    assert completion.choices[0].message.content == "Bonjour, 你好!"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (12, 5)
    assert completion.model == "small-0613"


def test_streams(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = stream(["一", "二", " three"])
    chunks = list(client.chat.completions.create(model="auto", messages=asking(), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "一二 three"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


async def test_answers_an_async_client(application: Application, upstream: Upstream) -> None:
    upstream.default = answer("one two three")
    async with application.async_client() as client:
        whole = await client.chat.completions.create(model="auto", messages=asking())
        streamed = await client.chat.completions.create(model="auto", messages=asking(), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in streamed])
    assert whole.choices[0].message.content == text == "one two three"


def test_a_stream_arrives_as_it_is_made(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = stream(["a", "b", "c"], pause_s=0.3)
    started_s = time.monotonic()
    chunks = iter(client.chat.completions.create(model="auto", messages=asking(), stream=True))
    next(chunks)
    first_s = time.monotonic() - started_s
    list(chunks)
    assert first_s < 0.6 <= time.monotonic() - started_s


def test_reports_usage_of_a_stream_where_asked(client: openai.OpenAI, upstream: Upstream) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="auto", messages=asking(), stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 17


def test_keeps_usage_to_itself_where_not_asked(client: openai.OpenAI, upstream: Upstream) -> None:
    chunks = list(client.chat.completions.create(model="auto", messages=asking(), stream=True))
    assert upstream.received[0].wants_usage
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert all(chunk.choices for chunk in chunks)


def test_relays_what_was_asked_unchanged(client: openai.OpenAI, upstream: Upstream) -> None:
    asked: dict[str, Any] = {
        "messages": asking(), "stop": ["END", "终"], "max_tokens": 7, "temperature": 0.25, "seed": 4, "n": 2,
        "logit_bias": {"50256": -100}, "user": "u-1",
    }  # fmt: skip
    completion = client.chat.completions.create(model="auto", **asked)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert upstream.received[0].body == {"model": "small", **asked}


def test_relays_unknown_fields_both_ways(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = answer("ok", x_provider={"queue_ms": 3}, message={"annotations": [], "mood": "calm"})
    completion = client.chat.completions.create(
        model="auto", messages=asking(), extra_body={"top_k": 5, "guided_regex": "[a-z]+"}
    )
    assert (upstream.received[0].body["top_k"], upstream.received[0].body["guided_regex"]) == (5, "[a-z]+")
    assert completion.model_extra == {"x_provider": {"queue_ms": 3}}
    assert completion.choices[0].message.model_extra == {"mood": "calm"}


def test_relays_unknown_fields_of_a_stream(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = stream([{"content": "a", "reasoning_content": "hm"}], system_note="x")
    chunks = list(client.chat.completions.create(model="auto", messages=asking(), stream=True))
    assert chunks[0].model_extra == {"system_note": "x"}
    assert chunks[0].choices[0].delta.model_extra == {"reasoning_content": "hm"}


def test_calls_tools(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = answer("", message={"content": None, "tool_calls": [WEATHER_CALL]}, finish_reason="tool_calls")
    tools: Any = [WEATHER]
    completion = client.chat.completions.create(model="auto", messages=asking("Wie ist das Wetter?"), tools=tools)
    calls: Any = completion.choices[0].message.tool_calls
    assert calls[0].function.arguments == '{"city": "北京"}'
    assert upstream.received[0].body["tools"] == [WEATHER]


def test_streams_tool_calls(client: openai.OpenAI, upstream: Upstream) -> None:
    first = {"tool_calls": [{"index": 0, **WEATHER_CALL, "function": {"name": "weather", "arguments": ""}}]}
    parts = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ('{"city": ', '"北京"}')]
    upstream.default = stream([first, *parts], finish_reason="tool_calls")
    tools: Any = [WEATHER]
    with client.chat.completions.stream(model="auto", messages=asking(), tools=tools) as events:
        final: Any = events.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"city": "北京"}'


def test_answers_by_schema(client: openai.OpenAI, upstream: Upstream) -> None:
    class City(BaseModel):
        name: str
        inhabitants: int

    upstream.default = answer('{"name": "Oslo", "inhabitants": 700000}')
    completion = client.chat.completions.parse(model="auto", messages=asking(), response_format=City)
    assert completion.choices[0].message.parsed == City(name="Oslo", inhabitants=700_000)
    assert upstream.received[0].body["response_format"]["type"] == "json_schema"


# ---- what the headers and the record say ----------------------------------------------------------------------


def test_headers_say_what_was_decided(client: openai.OpenAI, upstream: Upstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=asking())
    headers = {name: value for name, value in raw.headers.items() if name.startswith("x-parsimony")}
    assert float(headers.pop("x-parsimony-score")) < 0.35
    assert float(headers.pop("x-parsimony-baseline-cost-usd")) > 0
    assert headers == {
        "x-parsimony-request-id": raw.parse().id,
        "x-parsimony-model": "small",
        "x-parsimony-reason": "simple",
        "x-parsimony-cache": "miss",
        "x-parsimony-cost-usd": "0.0000135",  # 12 x $0.5 + 5 x $1.5, a million
    }


def test_headers_of_a_stream_come_before_its_cost_is_known(client: openai.OpenAI, upstream: Upstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=asking(), stream=True)
    assert raw.headers["x-parsimony-model"] == "small"
    assert "x-parsimony-cost-usd" not in raw.headers
    assert {chunk.id for chunk in raw.parse()} == {raw.headers["x-parsimony-request-id"]}


def test_a_repeat_is_answered_from_the_cache(client: openai.OpenAI, upstream: Upstream) -> None:
    messages = asking()
    first = client.chat.completions.create(model="auto", messages=messages)
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=messages)
    again = raw.parse()
    assert (raw.headers["x-parsimony-cache"], raw.headers["x-parsimony-cost-usd"]) == ("hit", "0.00")
    assert again.choices == first.choices
    assert again.id != first.id
    assert len(upstream.received) == 1


def test_a_streamed_repeat_is_replayed_as_a_stream(client: openai.OpenAI, upstream: Upstream) -> None:
    messages = asking()
    texts = []
    for _ in range(2):
        chunks = client.chat.completions.create(model="auto", messages=messages, stream=True)
        texts.append([chunk.choices[0].delta.content for chunk in chunks])
    assert texts[0] == texts[1]
    assert len(upstream.received) == 1


@pytest.mark.parametrize("directive", ["no-store", "no-cache"])
def test_a_request_can_forbid_the_cache(client: openai.OpenAI, upstream: Upstream, directive: str) -> None:
    messages = asking()
    for _ in range(2):
        client.chat.completions.create(model="auto", messages=messages, extra_headers={"cache-control": directive})
    assert len(upstream.received) == 2


def test_the_answers_id_finds_its_record(application: Application, client: openai.OpenAI, upstream: Upstream) -> None:
    completion = client.chat.completions.create(model="auto", messages=asking())
    record = application.server.record(completion.id)
    assert (record["status"], record["deployment"], record["cost_nusd"]) == ("ok", "small", 13_500)
    explained = application.server.command("explain", completion.id)
    assert explained.returncode == 0, explained.stderr
    assert "small" in explained.stdout
    assert "0.0000135" in explained.stdout


# ---- names ----------------------------------------------------------------------------------------------------


def test_lists_aliases_and_deployments(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert names == {"auto", "gpt-4", "small", "large", "flaky", "slow", "text-only"}
    assert client.models.retrieve("large").id == "large"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_an_applications_own_name_is_routed_too(client: openai.OpenAI, upstream: Upstream) -> None:
    client.chat.completions.create(model="gpt-4", messages=asking())
    assert upstream.received[0].model == "small"


def test_a_deployments_name_is_pinned(client: openai.OpenAI, upstream: Upstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model="large", messages=asking())
    assert (upstream.received[0].model, raw.headers["x-parsimony-reason"]) == ("large", "pinned")
    assert "x-parsimony-score" not in raw.headers


# ---- errors ---------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_an_authentication_error(application: Application) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        application.client("sk-parsimony-wrong").chat.completions.create(model="auto", messages=asking())
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=asking())
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_model_that_the_key_may_not_use_is_denied(application: Application, upstream: Upstream) -> None:
    limited = application.client(application.server.create_key("apps", models=["large"])["secret"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        limited.chat.completions.create(model="small", messages=asking())
    assert caught.value.code == "model_not_allowed"
    limited.chat.completions.create(model="large", messages=asking())
    # It may ask for an alias, which then goes to what it may use.
    assert {model.id for model in limited.models.list()} == {"auto", "gpt-4", "large"}
    limited.chat.completions.create(model="auto", messages=asking())
    assert {request.model for request in upstream.received} == {"large"}


def test_an_application_key_does_not_administer(application: Application) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        application.client().get(f"{application.server.url}/admin/v1/teams", cast_to=object)
    assert caught.value.code == "admin_required"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": {"type": "xml"}}, "response_format"),
    ],
)
def test_a_malformed_request_is_bad(client: openai.OpenAI, wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=asking(), extra_body=wrong)
    assert caught.value.param == param


def test_a_prompt_too_long_for_every_candidate_is_bad(client: openai.OpenAI, upstream: Upstream) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="text-only", messages=asking("word " * 2_000))
    assert (caught.value.code, upstream.received) == ("context_length_exceeded", [])


def test_what_no_candidate_can_do_is_bad(client: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    with pytest.raises(openai.BadRequestError, match="lacks tools"):
        client.chat.completions.create(model="text-only", messages=asking(), tools=tools)


def test_the_providers_own_rejection_goes_through(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.default = status(400, "no such voice, says the provider", code="invalid_value", param="messages")
    with pytest.raises(openai.BadRequestError, match="no such voice, says the provider") as caught:
        client.chat.completions.create(model="auto", messages=asking())
    assert (caught.value.code, len(upstream.received)) == ("invalid_value", 1)


def test_a_large_body_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="auto", messages=asking("x" * 300_000))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


def test_a_spent_budget_is_a_rate_limit_that_is_not_retried(application: Application, upstream: Upstream) -> None:
    key = application.server.create_key("poor")
    application.server.set_budget("teams", "poor", "0.0001")
    seen = application.server.booked()
    with pytest.raises(openai.RateLimitError) as caught:
        application.client(key["secret"], max_retries=2).chat.completions.create(model="auto", messages=asking())
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 31 * 86_400
    assert upstream.received == []
    (record,) = [row for row in application.server.new_records(seen, 1) if row["team_id"] == "poor"]
    assert (record["status"], record["error_code"], record["cost_nusd"]) == ("refused", "insufficient_quota", 0)


@pytest.mark.parametrize(
    ("behaviour", "status_code", "code"),
    [
        (status(500), 502, "upstream_unavailable"),
        (status(401, code="invalid_api_key"), 502, "upstream_unavailable"),
        (page(502), 502, "upstream_unavailable"),
        (status(429, headers={"retry-after": "7"}), 503, "upstream_rate_limited"),
    ],
)
def test_a_failing_provider_is_a_server_error(
    client: openai.OpenAI, upstream: Upstream, behaviour: Any, status_code: int, code: str
) -> None:
    upstream.on("flaky", behaviour)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="flaky", messages=asking())
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (status_code, code, "server_error")
    if status_code == 503:
        assert caught.value.response.headers["retry-after"] == "7"


def test_a_provider_too_slow_is_a_timeout(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.on("slow", hang())
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="slow", messages=asking())
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


def test_an_error_in_mid_stream_is_raised_by_the_client(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.on("flaky", stream(["a", "b", "c"], cut_after=2))
    chunks = client.chat.completions.create(model="flaky", messages=asking(), stream=True)
    texts = [next(chunks).choices[0].delta.content for _ in range(2)]
    with pytest.raises(openai.APIError, match="broke off"):
        next(chunks)
    assert texts == ["a", "b"]


def test_an_unknown_path_and_method_are_answered_in_the_same_form(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.get("/nowhere", cast_to=object)
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert isinstance(caught.value.body, dict)
    assert caught.value.status_code in (400, 405)
