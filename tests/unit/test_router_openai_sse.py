"""A stream passes on under our id, the same however its bytes were cut; nothing else of it changes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.usage import TokenUsage
from router.openai.sse import (
    DONE,
    MAX_EVENT_BYTES,
    EventSplitter,
    EventTooLarge,
    StreamRelay,
    begins_like_events,
    error_event,
)

THEIRS = "chatcmpl-abc/+1"
OURS = "chatcmpl-ours"
TRICKY = f'a "id":"{THEIRS}" b\n\ndata: {{"x":1}}\n\n'


def event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def chunk(text: str | None = None, **changes: Any) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": THEIRS, "object": "chat.completion.chunk", "model": "m-1", "choices": choices} | changes


def last(reason: str = "stop") -> dict[str, Any]:
    return chunk(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])


def usage(output_tokens: int = 5) -> dict[str, Any]:
    return chunk(usage={"prompt_tokens": 3, "completion_tokens": output_tokens})


def relayed(pieces: list[bytes], *, drop_usage: bool = False) -> tuple[bytes, StreamRelay]:
    relay = StreamRelay(OURS, drop_usage=drop_usage)
    return b"".join([relay.feed(piece) for piece in pieces]) + relay.finish(), relay


def payloads(stream: bytes) -> list[Any]:
    """An independent reading of a stream: the data of each event, as JSON where it is."""
    found: list[Any] = []
    for block in stream.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if lines:
            try:
                found.append(json.loads("\n".join(lines)))
            except ValueError:
                found.append("\n".join(lines))
    return found


# generated streams

TEXTS = (
    st.sampled_from(["Hello", "", " wörld", "你好,世界", "👋🏽", "\r\n", TRICKY, '"id":"x"', "\\", "data: [DONE]"])
    | st.text()
)


@st.composite
def wire_events(draw: st.DrawFn, spaced: bool) -> bytes:
    """One event or what stands between events, its lines ended by line feeds.

    One serializer writes a whole stream: `spaced` over several lines, or compactly.
    """
    kind = draw(st.sampled_from(["chunk", "chunk", "chunk", "comment", "usage", "blank", "garbage"]))
    if kind == "comment":
        return b": keep-alive\n\n"
    if kind == "blank":
        return b"\n" * draw(st.integers(1, 3))
    if kind == "garbage":
        return draw(st.sampled_from([b"data: {not json\n\n", b"event: x\nretry: 3\n\n", b"data\n\n", b"data: 7\n\n"]))
    if kind == "usage":
        payload = usage(draw(st.integers(0, 9)))
    else:
        payload = chunk(draw(TEXTS), logprobs=draw(st.none() | st.floats(0, 1)), vendor={"a": [1, None]})
    if not spaced:
        return event(payload)
    lines = json.dumps(payload, indent=1).encode().split(b"\n")
    return b"event: message\n" + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    events = draw(st.lists(wire_events(spaced=draw(st.booleans())), max_size=6))
    whole = b"".join(events) + draw(
        st.sampled_from([DONE, b"data:[DONE]\n\n", b"data: [DONE]\n", b"data: [DONE]", b""])
    )
    return whole.replace(b"\n", draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))


@given(streams(), st.booleans())
def test_every_cut_gives_the_same_bytes_and_facts(stream: bytes, drop_usage: bool) -> None:
    whole, relay = relayed([stream], drop_usage=drop_usage)
    for at in range(len(stream) + 1):
        out, cut = relayed([stream[:at], stream[at:]], drop_usage=drop_usage)
        assert out == whole, f"cut at {at}"
        assert (cut.facts(), cut.done, cut.error) == (relay.facts(), relay.done, relay.error)


@given(streams(), st.lists(st.integers(1, 40), min_size=1, max_size=30), st.booleans())
def test_any_number_of_cuts_gives_the_same_bytes(stream: bytes, sizes: list[int], drop_usage: bool) -> None:
    pieces, at = [], 0
    for size in [*sizes, len(stream)]:
        pieces.append(stream[at : at + size])
        at += size
    assert relayed(pieces, drop_usage=drop_usage)[0] == relayed([stream], drop_usage=drop_usage)[0]
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert relayed(single, drop_usage=drop_usage)[0] == relayed([stream], drop_usage=drop_usage)[0]


@given(streams())
def test_what_is_passed_on_says_the_same_under_our_id(stream: bytes) -> None:
    out, _ = relayed([stream])
    expected = [
        payload | {"id": OURS} if isinstance(payload, dict) and "id" in payload else payload
        for payload in payloads(stream)
    ]
    assert payloads(out) == expected


@given(streams())
def test_usage_events_are_dropped_and_nothing_else(stream: bytes) -> None:
    kept, _ = relayed([stream])
    dropped, relay = relayed([stream], drop_usage=True)
    is_usage = [isinstance(payload, dict) and "usage" in payload for payload in payloads(kept)]
    assert payloads(dropped) == [p for p, drop in zip(payloads(kept), is_usage, strict=True) if not drop]
    assert (relay.facts().usage is not None) == any(is_usage)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_are_too_odd_to_pass_on(pieces: list[bytes]) -> None:
    out, _ = relayed(pieces)
    assert out == relayed([b"".join(pieces)])[0]


# single behaviours


def test_a_stream_as_it_comes() -> None:
    relay = StreamRelay(OURS, drop_usage=True)
    begun = event(chunk("Hel"))
    assert relay.feed(begun[:10]) == b""
    assert relay.feed(begun[10:]) == begun.replace(THEIRS.encode(), OURS.encode())
    assert relay.feed(event(chunk("lo")) + event(last()) + event(usage()) + DONE).endswith(DONE)
    assert relay.finish() == b""
    facts = relay.facts()
    assert (facts.output_text, facts.finish_reasons, facts.response_model) == ("Hello", "stop", "m-1")
    assert facts.usage == TokenUsage(3, 5)
    assert (relay.done, relay.error) == (True, None)


def test_bytes_that_mean_nothing_to_us_go_through_untouched() -> None:
    odd = b'event: x\nid: 7\ndata: {"id":"%s", "model":"m","b":1.50,"a":1e2,"choices":[],"x":"\\u00e4"}\n\n: hi\n\n'
    stream = odd % THEIRS.encode()
    assert relayed([stream])[0] == stream.replace(b'"%s"' % THEIRS.encode(), b'"%s"' % OURS.encode())


def test_an_id_inside_the_text_is_left_alone() -> None:
    out, relay = relayed([event(chunk(TRICKY))])
    assert payloads(out)[0]["choices"][0]["delta"]["content"] == TRICKY
    assert relay.facts().output_text == TRICKY


@pytest.mark.parametrize("first", [{"id": "", "model": "", "choices": []}, {"choices": []}, {"model": "m-1"}])
def test_a_first_chunk_without_an_id_hides_none_that_follow(first: dict[str, Any]) -> None:
    """Azure OpenAI begins so, with the results of its prompt filter."""
    out, relay = relayed([event(first), event(chunk("a")), event(chunk("b"))])
    assert [payload.get("id") for payload in payloads(out)] == [first.get("id"), OURS, OURS]
    assert relay.facts().response_model == "m-1"


def test_usage_beside_choices_is_read_and_kept() -> None:
    """vLLM's continuous_usage_stats sends so; Mistral, too, in the last chunk."""
    out, relay = relayed([event(last() | {"usage": {"prompt_tokens": 9, "completion_tokens": 1}})], drop_usage=True)
    assert payloads(out)[0]["usage"] == {"prompt_tokens": 9, "completion_tokens": 1}
    assert relay.facts().usage == TokenUsage(9, 1)


def test_every_usage_event_of_one_piece_is_dropped() -> None:
    out, relay = relayed(
        [event(chunk("a")) + event(usage(1)) + event(usage(1)) + event(usage(2)) + DONE], drop_usage=True
    )
    assert len(payloads(out)) == 2
    assert relay.facts().usage == TokenUsage(3, 2)


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        ({"message": "overloaded", "code": 529}, {"message": "overloaded", "code": 529}),
        ("broken", {"message": "broken"}),
    ],
)
def test_an_error_frame_is_noticed_and_passed_on(error: Any, noted: dict[str, Any]) -> None:
    out, relay = relayed([event(chunk("a")), event({"error": error})])
    assert relay.error == noted
    assert payloads(out)[1] == {"error": error}


def test_a_null_error_is_none() -> None:
    assert relayed([event(usage() | {"error": None})])[1].error is None


def test_reasoning_and_tool_calls_count_as_text() -> None:
    call = {"index": 0, "function": {"name": "look", "arguments": "{}"}}
    deltas = [{"reasoning_content": "Hm. "}, {"tool_calls": [call]}, {"content": None}, "odd", {"refusal": "No."}]
    _, relay = relayed([event(chunk(choices=[{"delta": delta} for delta in deltas]))])
    assert relay.facts().output_text == "Hm. look{}No."


def test_a_last_event_without_its_blank_line_is_an_event() -> None:
    out, relay = relayed([event(chunk("a")), b"data: [DONE]"])
    assert relay.done
    assert out.endswith(DONE)


def test_an_event_without_end_is_given_up() -> None:
    splitter = EventSplitter()
    splitter.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 6))
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")


def test_a_long_line_in_many_pieces_is_one_event() -> None:
    splitter = EventSplitter()
    line = b"data: " + b"x" * 1_000_000
    pieces = [line[at : at + 10] for at in range(0, len(line), 10)]
    assert b"".join([splitter.feed(piece) for piece in pieces]) == b""
    assert splitter.feed(b"y\r\n\r\n") + splitter.rest() == line + b"y\n\n"


def test_an_event_is_passed_on_as_soon_as_it_is_whole() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: x\r\r") == b""  # a line feed may follow
    assert splitter.feed(b"data: y") == b"data: x\n\n"
    assert splitter.feed(b"\r\n\r\n") == b"data: y\n\n"


def test_many_events_may_be_larger_than_one() -> None:
    block = event(chunk("x" * 1_000))
    splitter = EventSplitter()
    assert sum(len(splitter.feed(block)) for _ in range(MAX_EVENT_BYTES // 1_000 + 1)) > MAX_EVENT_BYTES


def test_our_own_error_event() -> None:
    assert payloads(error_event(b'{"error":{"message":"m"}}')) == [{"error": {"message": "m"}}]


@pytest.mark.parametrize(
    ("data", "may"),
    [
        (b"data: {}", True),
        (b"da", True),
        (b": comment", True),
        (b"event: message\n", True),
        (b"\xef\xbb\xbfdata:", True),
        (b"\r\n\n", True),
        (b"", True),
        (b"<html>", False),
        (b'{"id"', False),
        (b"dating", False),
    ],
)
def test_the_first_bytes_tell_an_event_stream_from_a_page(data: bytes, may: bool) -> None:
    assert begins_like_events(data) is may
