"""The simulated server as the official client and a plain one see it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from router.tokenizers import TokenCounter

START = "from router.providers.simulated import run_simulated; run_simulated(port=0)"
SHORT_TIMEOUT_S = 0.5

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "unit"],
        },
    },
}


def start(program: str = START, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """The server's process and its base URL."""
    env = {**os.environ, "PARSIMONY_SIMULATED_DELAY_SCALE": "0", **environment}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    process, url = start()
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(10)


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=10) as made:
        yield made


def ask(client: openai.OpenAI, text: str, model: str = "mistral-7b", **settings: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **settings)


def post(base_url: str, body: Any) -> httpx.Response:
    return httpx.post(f"{base_url}/chat/completions", content=body if isinstance(body, bytes) else json.dumps(body))


def has_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def test_every_answer_names_itself_simulated(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4", messages=[{"role": "user", "content": "Why do leaves turn red?"}]
    )
    answer = raw.parse()
    assert raw.headers["x-parsimony-simulated"] == "true"
    assert answer.choices[0].message.content.startswith("[simulated gpt-4] ")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("text", ["Explain how vaccines work.", "解释一下疫苗的原理。"])
def test_usage_is_what_tiktoken_counts(client: openai.OpenAI, text: str) -> None:
    counter = TokenCounter("cl100k_base")
    answer = ask(client, text)
    assert answer.usage.completion_tokens == counter.count_text(answer.choices[0].message.content)
    assert answer.usage.prompt_tokens == counter.count_messages([{"role": "user", "content": text}])


def test_answers_in_the_language_of_the_question(client: openai.OpenAI) -> None:
    assert has_chinese(ask(client, "为什么秋天树叶会变红？").choices[0].message.content)
    assert not has_chinese(ask(client, "Why do leaves turn red?").choices[0].message.content)


def test_equal_requests_get_equal_answers_streamed_or_not(client: openai.OpenAI) -> None:
    text = "Explain how a bicycle stays upright."
    first, second = ask(client, text), ask(client, text)
    chunks = list(ask(client, text, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert first.choices[0].message.content == second.choices[0].message.content == streamed
    assert first.id != second.id
    assert ask(client, text + " Briefly.").choices[0].message.content != streamed


def test_length_follows_the_model_and_the_question(client: openai.OpenAI) -> None:
    hard, easy = "Design a payment system that survives a region's loss.", "Answer with one word: is ice cold?"
    lengths = {
        (model, text): ask(client, text, model).usage.completion_tokens
        for model in ("flan-ul2", "gpt-4o")
        for text in (hard, easy)
    }
    assert lengths["gpt-4o", hard] > 10 * lengths["gpt-4o", easy]
    assert lengths["gpt-4o", hard] > 1.5 * lengths["flan-ul2", hard]


def test_stream_ends_with_the_usage_when_asked(client: openai.OpenAI) -> None:
    text = "Explain tides."
    plain = list(ask(client, text, stream=True))
    counted = list(ask(client, text, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in plain)
    assert len(counted) == len(plain) + 1
    assert counted[-1].choices == []
    assert counted[-1].usage == ask(client, text).usage
    assert plain[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in plain[-2:]] == [None, "stop"]


@pytest.mark.parametrize("text", ["Explain how vaccines work.", "解释一下疫苗的原理。"])
@pytest.mark.parametrize("limit", [1, 7, 40])
def test_max_tokens_cuts_and_says_so(client: openai.OpenAI, text: str, limit: int) -> None:
    whole, cut = ask(client, text), ask(client, text, max_tokens=limit)
    assert cut.choices[0].finish_reason == "length"
    assert limit - 3 <= cut.usage.completion_tokens <= limit
    assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)


def test_stop_ends_before_the_sequence(client: openai.OpenAI) -> None:
    answer = ask(client, "Explain tides.", stop=["]"])
    assert answer.choices[0].message.content == "[simulated mistral-7b"
    assert answer.choices[0].finish_reason == "stop"


def test_n_gives_different_choices_in_order(client: openai.OpenAI) -> None:
    answer = ask(client, "Explain tides.", n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    streamed = ["", "", ""]
    for chunk in ask(client, "Explain tides.", n=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == [choice.message.content for choice in answer.choices]


@pytest.mark.parametrize("text", ["What is the weather in Lyon?", "请帮我查一下杭州今天的气温"])
def test_a_fitting_question_calls_the_tool(client: openai.OpenAI, text: str) -> None:
    choice = ask(client, text, tools=[WEATHER]).choices[0]
    (call,) = choice.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert (choice.finish_reason, choice.message.content, call.function.name) == ("tool_calls", None, "get_weather")
    assert arguments.keys() == {"city", "unit"}
    jsonschema.validate(arguments, WEATHER["function"]["parameters"])


def test_a_streamed_tool_call_adds_up_to_the_whole_one(client: openai.OpenAI) -> None:
    text = "What is the weather in Lyon?"
    (call,) = ask(client, text, tools=[WEATHER]).choices[0].message.tool_calls
    chunks = list(ask(client, text, tools=[WEATHER], stream=True))
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    assert (deltas[0].id, deltas[0].function.name) == (call.id, "get_weather")
    assert "".join(delta.function.arguments for delta in deltas) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("text", "choice", "called"),
    [
        ("Tell me a joke.", "auto", False),
        ("Tell me a joke.", "required", True),
        ("Tell me a joke.", {"type": "function", "function": {"name": "get_weather"}}, True),
        ("What is the weather in Lyon?", "none", False),
    ],
)
def test_tool_choice_is_respected(client: openai.OpenAI, text: str, choice: Any, called: bool) -> None:
    message = ask(client, text, tools=[WEATHER], tool_choice=choice).choices[0].message
    assert bool(message.tool_calls) is called


def test_a_tool_result_is_answered_in_words(client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "What is the weather in Lyon?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
    ]
    answer = client.chat.completions.create(model="gpt-4", messages=turns, tools=[WEATHER])
    assert answer.choices[0].message.tool_calls is None


PERSON_OR_NULL = {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]}
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 12},
        "priority": {"enum": ["low", "high"]},
        "due": {"type": "string", "format": "date"},
        "score": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "owner": PERSON_OR_NULL,
        "steps": {"type": "array", "items": {"type": "string"}, "minItems": 2},
    },
    "required": ["title", "priority", "due", "score", "owner", "steps"],
    "additionalProperties": False,
    "$defs": {
        "person": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "manager": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
            },
            "required": ["name", "manager"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize("seed", range(8))
def test_json_schema_answers_fit_the_schema(client: openai.OpenAI, seed: int) -> None:
    chosen = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA, "strict": True}}
    answer = ask(client, "File a ticket.", response_format=chosen, seed=seed)
    jsonschema.validate(json.loads(answer.choices[0].message.content), SCHEMA)


def test_json_object_answers_are_json_and_say_simulated(client: openai.OpenAI) -> None:
    answer = ask(client, "Give me JSON.", response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content)["answer"] == "[simulated mistral-7b]"


def test_models_and_health(client: openai.OpenAI, base_url: str) -> None:
    assert {"mistral-7b", "gpt-4", "gpt-4o-mini"} <= {model.id for model in client.models.list()}
    assert httpx.get(base_url.removesuffix("/v1") + "/health").json() == {"status": "ok", "simulated": True}


USER = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        ([], 400, None),
        ({"messages": USER}, 400, "model"),
        ({"model": "m", "messages": []}, 400, "messages"),
        ({"model": "m", "messages": [{"role": "king", "content": ""}]}, 400, "messages[0]"),
        ({"model": "m", "messages": [{"role": "user", "content": 5}]}, 400, "messages[0]"),
        ({"model": "m", "messages": USER, "max_tokens": 0}, 400, "max_tokens"),
        ({"model": "m", "messages": USER, "max_tokens": True}, 400, "max_tokens"),
        ({"model": "m", "messages": USER, "n": 99}, 400, "n"),
        ({"model": "m", "messages": USER, "stop": ["a"] * 5}, 400, "stop"),
        ({"model": "m", "messages": USER, "stream": "yes"}, 400, "stream"),
        ({"model": "m", "messages": USER, "stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"model": "m", "messages": USER, "tools": [{"type": "function"}]}, 400, "tools[0]"),
        ({"model": "m", "messages": USER, "response_format": {"type": "xml"}}, 400, "response_format.type"),
        (
            {"model": "m", "messages": USER, "response_format": {"type": "json_schema"}},
            400,
            "response_format.json_schema",
        ),
        ({"model": "m+nosuchfault", "messages": USER}, 404, "model"),
    ],
)
def test_bad_requests_get_openai_shaped_errors(base_url: str, body: Any, status: int, param: str | None) -> None:
    answer = post(base_url, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error")
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-parsimony-simulated"] == "true"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/chat/completions", 405), ("POST", "/nothing", 404)])
def test_unknown_urls_and_methods(base_url: str, method: str, path: str, status: int) -> None:
    assert httpx.request(method, base_url + path).status_code == status


def test_error500_and_rate429(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        ask(client, "hi", "gpt-4+error500")
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client, "hi", "gpt-4+rate429")
    assert refused.value.response.headers["retry-after"] == "1"
    assert refused.value.code == "rate_limit_exceeded"


def test_hang_never_answers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        ask(client, "hi", "gpt-4+hang", timeout=SHORT_TIMEOUT_S)


def test_cut_breaks_off_whole_answers_and_streams(client: openai.OpenAI, base_url: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        ask(client, "Explain tides.", "gpt-4+cut")
    received = []
    body = {"model": "gpt-4+cut", "messages": USER, "stream": True}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{base_url}/chat/completions", json=body) as answer,
    ):
        received.extend(answer.iter_lines())
    assert any("content" in line for line in received)
    assert "data: [DONE]" not in received


def test_slow_outlasts_a_short_patience() -> None:
    process, url = start(PARSIMONY_SIMULATED_DELAY_SCALE="1")
    try:
        with (
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as hasty,
            pytest.raises(openai.APITimeoutError),
        ):
            ask(hasty, "hi", "phi-2+slow", timeout=SHORT_TIMEOUT_S)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def test_serves_an_inherited_socket_and_ends_with_its_parent() -> None:
    serve = (
        "import sys; from router.providers.simulated import run_simulated\n"
        "run_simulated(fd=int(sys.argv[1]), parent_pid=int(sys.argv[2]))"
    )
    parent = (
        "import os, socket, subprocess, sys\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print(f'simulated models on http://127.0.0.1:{listener.getsockname()[1]}/v1', flush=True)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {serve!r}, str(listener.fileno()), str(os.getpid())],\n"
        "    pass_fds=[listener.fileno()])\n"
        "child.wait()\n"
    )
    process, url = start(parent)
    health = url.removesuffix("/v1") + "/health"
    assert httpx.get(health).status_code == 200
    process.kill()
    process.wait(10)
    assert _gone(health)


def _gone(health: str) -> bool:
    for _ in range(100):
        try:
            httpx.get(health, timeout=SHORT_TIMEOUT_S)
        except httpx.TransportError:
            return True
        time.sleep(0.1)
    return False
