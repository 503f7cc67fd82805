"""Tokens are counted offline, exactly, in bounded time, and remembered in bounded memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.tokenizers import (
    _MAX_PIECE_CHARS,
    ENCODING_NAMES,
    TOKENS_PER_IMAGE,
    TOKENS_PER_LOW_DETAIL_IMAGE,
    EncodingUnavailable,
    TokenCounter,
    _Memo,
    _pieces,
    encoding_folder,
    encoding_for_model,
    estimate_tokens,
    load_encoding,
)

ROOT = Path(__file__).parents[2]
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
CL100K = TokenCounter("cl100k_base")


# ---- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tokens"), [("cl100k_base", [15339, 1917]), ("o200k_base", [24912, 2375]), ("p50k_base", [31373, 995])]
)
def test_the_encodings_are_the_real_ones(name: str, tokens: list[int]) -> None:
    assert load_encoding(name).encode_ordinary("hello world") == tokens


def test_an_encoding_is_loaded_once_and_leaves_the_environment_alone() -> None:
    before = dict(os.environ)
    assert load_encoding("cl100k_base") is load_encoding("cl100k_base")
    assert dict(os.environ) == before


def test_every_encoding_loads_with_the_network_forbidden() -> None:
    """The interpreter itself refuses to resolve or connect, whoever asks."""
    program = (
        "import sys\n"
        "def refuse(event, args):\n"
        "    if event.startswith('socket.'): raise RuntimeError('network: ' + event)\n"
        "sys.addaudithook(refuse)\n"
        "from router.tokenizers import ENCODING_NAMES, TokenCounter\n"
        "print([TokenCounter(name).count_text('hello world') for name in ENCODING_NAMES])\n"
        "assert 'litellm' not in sys.modules\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "TIKTOKEN_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[2, 2, 2]", "")


def test_an_unknown_encoding_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(EncodingUnavailable, match="'gpt2' is not an available encoding; there are cl100k_base"):
        load_encoding("gpt2")
    with pytest.raises(EncodingUnavailable, match="'gpt2' is not an available encoding"):
        TokenCounter("gpt2")


def test_a_missing_file_is_an_error_and_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(EncodingUnavailable, match=r"the file of cl100k_base cannot be read: .*No such file"):
        load_encoding.__wrapped__("cl100k_base")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_an_error_and_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
    shutil.copy(encoding_folder() / copy.name, copy)
    with copy.open("ab") as file:
        file.write(b"\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(EncodingUnavailable, match="the file of cl100k_base is damaged"):
        load_encoding.__wrapped__("cl100k_base")
    assert copy.exists()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4", "cl100k_base"),
        ("azure/gpt-4o-mini", "o200k_base"),
        ("text-davinci-003", "p50k_base"),
        ("mistral-medium", None),
        ("davinci", None),  # r50k_base, whose file the wheel does not carry
    ],
)
def test_encoding_of_a_model(model: str, name: str | None) -> None:
    assert encoding_for_model(model) == name


# ---- texts ---------------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_any_text_counts_within_the_byte_bound(text: str) -> None:
    """Lone surrogates included."""
    count = CL100K.count_text(text)
    assert 0 <= count <= len(text.encode("utf-8", "surrogatepass"))  # a byte-level token covers a byte or more
    assert (count == 0) == (text == "")


def test_special_tokens_are_plain_text() -> None:
    assert CL100K.count_text("<|endoftext|>") == 7
    assert CL100K.count_text("<|im_start|>system") > 3


@pytest.mark.parametrize(
    ("name", "unit"),
    [("o200k_base", unit) for unit in ("a", " ", "\n", "的", "aA", "e\u0301", "!", "7", "\u3000", "\ud800")]
    + [("cl100k_base", " "), ("p50k_base", " ")],
)
def test_a_million_characters_without_a_word_are_counted(name: str, unit: str) -> None:
    """tiktoken alone panics on a million blanks (o200k_base), with what no `except Exception` catches."""
    text = unit * (1_000_000 // len(unit))
    assert 0 < TokenCounter(name).count_text(text) <= len(text.encode("utf-8", "surrogatepass"))


@given(st.text(" ab\n的", max_size=400), st.integers(min_value=0, max_value=3))
def test_pieces_join_to_the_text_and_are_bounded(text: str, repeats: int) -> None:
    text *= 400 * repeats
    pieces = list(_pieces(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= _MAX_PIECE_CHARS


def test_cutting_long_prose_leaves_the_count_as_it_was() -> None:
    prose = "The router sends each request to the cheapest model that answers it well. " * 3_000
    assert len(prose) > 6 * _MAX_PIECE_CHARS
    assert CL100K.count_text(prose) == len(load_encoding("cl100k_base").encode_ordinary(prose))


# ---- requests ------------------------------------------------------------------------------------


def test_overhead_of_a_chat_request() -> None:
    """13 prompt tokens, as OpenAI's API reports for this system message alone: 3 + role 1 + text 6 + reply 3."""
    assert CL100K.count_messages([{"role": "system", "content": "You are a helpful assistant."}]) == 13
    assert CL100K.count_messages([]) == 3


def test_a_name_costs_itself_and_one() -> None:
    plain = [{"role": "user", "content": "hello world"}]
    named = [{"role": "user", "content": "hello world", "name": "Bob"}]
    assert CL100K.count_messages(named) - CL100K.count_messages(plain) == 1 + CL100K.count_text("Bob")


def test_parts_count_like_their_text_and_images_as_a_constant() -> None:
    def with_parts(*parts: object) -> int:
        return CL100K.count_messages([{"role": "user", "content": list(parts)}])

    text = {"type": "text", "text": "hello world"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    small = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    assert with_parts(text) == CL100K.count_messages([{"role": "user", "content": "hello world"}])
    assert with_parts(text, image) - with_parts(text) == TOKENS_PER_IMAGE
    assert with_parts(text, small) - with_parts(text) == TOKENS_PER_LOW_DETAIL_IMAGE
    asked = [{"role": "user", "content": [text, image, small]}]
    assert CL100K.count_messages(asked, image_tokens=258) - with_parts(text) == 2 * 258


def test_tool_calls_and_tools_are_counted() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    silent = {"role": "assistant", "content": None}
    calling = CL100K.count_messages([silent | {"tool_calls": [call]}]) - CL100K.count_messages([silent])
    assert calling == 3 + CL100K.count_text("weather") + CL100K.count_text('{"city": "Oslo"}')
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    compact = '[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]'
    assert CL100K.count_messages([], tools) == 3 + CL100K.count_text(compact)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["role", "content", "name", "text", "image_url", "tool_calls", "function", "arguments"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_json_holds_is_counted_without_an_error(value: object) -> None:
    assert CL100K.count_messages([value], [value]) >= 3


def test_tools_nested_beyond_reason_do_not_raise() -> None:
    nested: dict[str, object] = {}
    for _ in range(100_000):
        nested = {"properties": nested}
    assert CL100K.count_messages([], [nested]) >= 3


# ---- memory --------------------------------------------------------------------------------------


def test_a_remembered_count_is_the_same() -> None:
    counter = TokenCounter("cl100k_base")
    for text in ("hello world", "hello world " * 1_000):
        assert counter.count_text(text) == counter.count_text(text) == CL100K.count_text(text)


@given(st.lists(st.text(max_size=60), max_size=200), st.sampled_from([20, 1_000]))
def test_the_memo_is_bounded_by_entries_and_bytes(keys: list[str], max_entries: int) -> None:
    memo = _Memo(max_entries, max_bytes=400)
    for key in keys:
        memo.put(key, len(key))
        assert memo.get(key) in (len(key), None)
        assert len(memo) <= max_entries
        held = [*memo._young, *memo._old]
        assert sum(len(key) if key.isascii() else 4 * len(key) for key in held) <= 400


def test_what_is_used_outlives_what_is_not() -> None:
    memo = _Memo(max_entries=20, max_bytes=10_000)
    memo.put("used", 1)
    memo.put("unused", 2)
    for number in range(100):
        assert memo.get("used") == 1
        memo.put(f"other {number}", 3)
    assert memo.get("unused") is None


def test_long_texts_are_not_retained() -> None:
    counter = TokenCounter("cl100k_base")
    counter.count_text("word " * 10_000)
    assert [len(key) for key in counter._memo._young] == [16]


# ---- the estimate --------------------------------------------------------------------------------


def test_without_an_encoding_the_estimate_counts() -> None:
    counter = TokenCounter(None)
    assert counter.count_text("hello world") == estimate_tokens("hello world") == 3


@pytest.mark.parametrize("name", ENCODING_NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "The cheapest model that answers the question well enough is the one to use, and the ledger shows why.",
        "A bus leaves at nine and another one an hour later; when will the second one have caught up with the first?",
        "请用三句话说明为什么小模型也能回答大多数简单的问题，并举一个例子。",
        "明天上海的天气怎么样？如果下雨，我应该带什么东西出门？",
    ],
)
def test_the_estimate_is_near_the_count_in_both_languages(name: str, text: str) -> None:
    count = TokenCounter(name).count_text(text)
    assert abs(estimate_tokens(text, name) - count) <= 0.4 * count


@given(ANY_TEXT)
def test_the_estimate_never_raises_and_is_zero_for_nothing_only(text: str) -> None:
    assert (estimate_tokens(text) == 0) == (text == "")
