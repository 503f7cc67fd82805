"""No request takes more than its bounds say: not in any encoding, not with tools, images or what hides as one."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.catalog import IMAGE_TOKENS, Price
from policies.pricing import cost_nusd
from policies.routing import Choice
from policies.usage import TokenUsage
from router.openai.requests import ChatRequest, parse_chat_request
from router.pipeline.bounds import LEAST_TOKENS, SYSTEM_PROMPT_TOKENS, TOOLS_PROMPT_TOKENS, options_of
from router.stores.admission import Option
from router.tokenizers import ENCODING_NAMES, TokenCounter, load_encoding
from tests.support.pipeline_bench import deployment

COUNTERS: dict[str | None, TokenCounter] = {name: TokenCounter(name) for name in ENCODING_NAMES}
WINDOW = 128_000
PRICE = Price(date(2024, 1, 1), 1_000_000, 2_000_000)


def choice(tokenizer: str | None = "cl100k_base", price: Price = PRICE, **changes: Any) -> Choice:
    made = replace(deployment("small", "simple", context_window=WINDOW), tokenizer=tokenizer, **changes)
    return Choice(made, price, 1)


def request(content: Any = "Hello", **changes: Any) -> ChatRequest:
    return parse_chat_request(
        orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": content}]} | changes)
    )


def option(asked: ChatRequest, of: Choice | None = None, **keywords: Any) -> Option:
    (only,) = options_of((of or choice(),), asked, **({"attempts": 1} | keywords))
    return only


# Text as it comes, and what tokenizers stumble over: spaces, newlines, special tokens, wide and joined characters.
NASTY = st.text(max_size=200) | st.lists(
    st.sampled_from(
        [
            "\n",
            " ",
            "\t\r\n",
            "<|im_start|>",
            "<|endoftext|>",
            "𓀀",
            "é",
            "é",
            "👩‍👩‍👧‍👦",
            "\0",
            "ﷺ",
            "㍿",
            '"\\',
            "a" * 50,
            "1e15",
        ]
    ),
    max_size=40,
).map("".join)
NAMES = st.text(min_size=1, max_size=20)
PARTS = st.lists(NASTY.map(lambda text: {"type": "text", "text": text}), max_size=4)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": NAMES,
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": NAMES, "arguments": NASTY}),
        }
    ),
    max_size=3,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": NASTY | PARTS | st.none()},
        optional={"name": NAMES, "tool_calls": CALLS, "refusal": NASTY},
    ),
    min_size=1,
    max_size=5,
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | NASTY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": VALUES}), max_size=3)


@pytest.mark.parametrize("encoding", ENCODING_NAMES)
@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES, tools=TOOLS, counted=st.booleans())
def test_a_prompt_never_holds_more_tokens_than_its_bound(
    encoding: str, messages: list[Any], tools: list[Any], counted: bool
) -> None:
    asked = parse_chat_request(orjson.dumps({"model": "auto", "messages": messages, "tools": tools}))
    bound = option(asked, choice(encoding), counters=COUNTERS if counted else None).base_tokens
    assert COUNTERS[encoding].count_messages(asked.messages, tools) <= bound
    # And with a text to itself, each part by itself, as templates have them.
    encode = load_encoding(encoding).encode_ordinary
    texts = [part["text"] for m in messages if isinstance(m["content"], list) for part in m["content"]]
    texts += [m["content"] for m in messages if isinstance(m["content"], str)]
    assert sum(len(encode(text)) for text in texts) + 5 * len(messages) + SYSTEM_PROMPT_TOKENS <= bound


@settings(deadline=None)
@given(NASTY)
def test_a_tokenizer_that_normalizes_reads_no_more_bytes_than_the_bound(text: str) -> None:
    assert len(unicodedata.normalize("NFKC", text).encode()) <= option(request(text), choice(None)).base_tokens


def test_every_character_that_normalizing_lengthens_is_known() -> None:
    characters = [chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    longer = [c for c in characters if len(unicodedata.normalize("NFKC", c).encode()) > len(c.encode())]
    assert len(longer) > 900
    plain = option(request(""), choice(None)).base_tokens
    for character in longer:
        least = len(unicodedata.normalize("NFKC", character * 100).encode())
        assert option(request(character * 100), choice(None)).base_tokens - plain >= least, hex(ord(character))


def test_counting_spares_most_of_an_english_prompt() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 100
    counted = option(request(text), counters=COUNTERS).base_tokens
    assert counted <= len(request(text).body["messages"][0]["content"]) / 3
    assert option(request(text)).base_tokens >= len(text)


def test_what_cannot_be_counted_cheaply_is_bounded_by_its_bytes() -> None:
    long, unknown = request("word " * 10_000), request("word " * 100)
    assert option(long, counters=COUNTERS) == option(long)
    assert option(unknown, choice(None), counters=COUNTERS) == option(unknown, choice(None))


@settings(deadline=None)
@given(
    text=NASTY,
    cached_rate=st.none() | st.integers(0, 3_000_000),
    max_tokens=st.integers(1, 100),
    n=st.integers(1, 4),
    attempts=st.integers(1, 3),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    above=st.none() | st.integers(1, 2_000),
)
def test_no_usage_within_the_bounds_costs_more_than_is_held(
    text: str,
    cached_rate: int | None,
    max_tokens: int,
    n: int,
    attempts: int,
    parts: tuple[float, float, float, float],
    above: int | None,
) -> None:
    long = Price(date(2024, 1, 1), 2_234_567, 5_345_678, cached_rate, above_input_tokens=above or 1)
    price = Price(date(2024, 1, 1), 1_234_567, 2_345_678, cached_rate, cache_write_nusd_per_mtok=1_434_567)
    price = replace(price, tiers=(long,) if above else ())
    held = option(request(text, max_tokens=max_tokens, n=n), choice(price=price), attempts=attempts)
    assert (held.longest, held.least, held.tokens_per_token) == (max_tokens, max_tokens, n)
    input_tokens = int(held.base_tokens // attempts * parts[0])
    output_tokens = int(max_tokens * n * parts[1])
    cached = int(input_tokens * parts[2])
    written = int((input_tokens - cached) * parts[3])
    answered = TokenUsage(input_tokens, output_tokens, cached, cache_write_input_tokens=written)
    failed = cost_nusd(TokenUsage(input_tokens, 0), price) * (attempts - 1)
    assert cost_nusd(answered, price) + failed <= held.base_nusd + held.nusd_per_token * held.longest
    assert input_tokens * attempts + output_tokens <= held.base_tokens + held.tokens_per_token * held.longest


def test_every_attempt_may_bill_its_prompt() -> None:
    once, thrice = option(request()), option(request(), attempts=3)
    assert (thrice.base_nusd, thrice.base_tokens) == (3 * once.base_nusd, 3 * once.base_tokens)
    assert thrice.nusd_per_token == once.nusd_per_token == 2


def test_only_a_prompt_that_may_reach_a_tier_is_held_at_its_price() -> None:
    long = Price(PRICE.effective_from, 3_000_000, 5_000_000, above_input_tokens=2_000)
    of = choice(price=replace(PRICE, tiers=(long,)))
    short, longer = option(request(), of), option(request("x" * 2_000), of)
    assert short == option(request())
    assert (longer.base_nusd, longer.nusd_per_token) == (3 * longer.base_tokens, 5)


def test_a_window_bounds_the_prompt_and_the_answer() -> None:
    of = choice(context_window=500)
    assert option(request("x" * 50_000, max_tokens=10**9), of).base_tokens == 500
    assert option(request(max_tokens=10**9), of).longest == 500


def test_an_answer_without_a_limit_may_be_capped_to_a_paragraph() -> None:
    of = choice(max_output_tokens=4_096)
    assert (option(request(), of).longest, option(request(), of).least) == (4_096, LEAST_TOKENS)
    assert option(request(), of, least_tokens=10).least == 10
    assert option(request(), of, least_tokens=9_999).least == 4_096


def test_bounds_come_in_the_order_of_the_choices() -> None:
    large = Choice(deployment("large", "complex"), PRICE, 1)
    options = options_of((large, choice()), request(), attempts=1)
    assert [(o.deployment, o.tier, o.rank) for o in options] == [("large", "complex", 2), ("small", "simple", 0)]


# ---- what is no text -----------------------------------------------------------------------------

DATA = "data:image/png;base64," + "A" * 50_000
IMAGE = {"type": "image_url", "image_url": {"url": DATA, "detail": "high"}}


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        {"type": "image_url", "image_url": {"url": "https://images.example/1"}},
        {"type": "image_url", "image_url": "http://images.example/1"},
        {"type": "input_image", "image_url": DATA, "cache_control": {}},
    ],
)
def test_an_image_counts_as_the_model_counts_it_and_not_by_its_bytes(image: dict[str, Any]) -> None:
    text = {"type": "text", "text": "What is it?"}
    without, of = option(request([text])).base_tokens, choice(image_tokens=1_445)
    assert option(request([image, text, image]), of).base_tokens == without + 2 * 1_445
    assert option(request([image, text])).base_tokens == without + IMAGE_TOKENS


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,JVBERi0="}},
        {"type": "image_url", "image_url": {"url": "gs://bucket/film.mp4"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/1", "format": "video/mp4"}},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": {"url": DATA}, "text": "or a text?"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://films.example/1"}},
        {"type": "text", "text": "x", "file": {"file_id": "file-1"}},
    ],
)
def test_what_may_stand_for_any_length_takes_the_whole_window(part: dict[str, Any]) -> None:
    assert option(request([part])).base_tokens == WINDOW


def test_an_earlier_answer_in_speech_takes_the_whole_window() -> None:
    messages = [{"role": "assistant", "audio": {"id": "audio-1"}}, {"role": "user", "content": "Again?"}]
    assert option(request(messages=messages)).base_tokens == WINDOW


def test_speech_counts_by_its_bytes() -> None:
    speech = {"type": "input_audio", "input_audio": {"data": "A" * 4_000, "format": "mp3"}}
    assert 4_000 < option(request([speech])).base_tokens < 4_300


def test_describing_tools_adds_to_the_tools() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    added = option(request(tools=tools)).base_tokens - option(request()).base_tokens
    assert added == TOOLS_PROMPT_TOKENS + len(orjson.dumps({"tools": tools})) - 1  # a comma for two braces


def test_what_of_a_prediction_does_not_come_true_is_output() -> None:
    prediction = {"type": "content", "content": "x" * 1_000}
    plain, predicted = option(request()), option(request(prediction=prediction))
    assert predicted.base_nusd - plain.base_nusd >= 1_000 * (1 + 2)
    assert predicted.longest == plain.longest
