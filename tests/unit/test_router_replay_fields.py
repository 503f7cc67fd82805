"""Values of logs: what is read, and what is refused with which word."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.usage import TokenUsage
from router.replay.fields import cost_of, instant_ms, mapping, tokens, usage_of
from router.replay.rows import BadRow


def kind_of(call: object, *values: object) -> str:
    with pytest.raises(BadRow) as caught:
        call(*values)  # type: ignore[operator]
    return caught.value.kind


@pytest.mark.parametrize(
    ("value", "expected"), [(12, 12), ("12", 12), (12.0, 12), (" 7 ", 7), ("", None), (None, None)]
)
def test_tokens_are_read_as_logs_write_them(value: object, expected: int | None) -> None:
    assert tokens(value, "t") == expected


@pytest.mark.parametrize("value", ["many", 1.5, "1.5", True, float("inf"), float("nan"), 10**12, "1e400", "9e9999999"])
def test_what_is_no_count_of_tokens_is_refused(value: object) -> None:
    assert kind_of(tokens, value, "t") == "implausible tokens"


def test_negative_tokens_have_a_word_of_their_own() -> None:
    assert kind_of(tokens, -1, "t") == kind_of(tokens, "-3", "t") == "negative tokens"


def test_usage_needs_both_sides() -> None:
    assert usage_of(3, 4) == TokenUsage(3, 4)
    assert usage_of(3, None) is usage_of(None, 4) is usage_of(0, 0) is None
    assert kind_of(usage_of, 3, 4, 5) == "contradictory tokens"


@pytest.mark.parametrize(
    ("value", "nusd"),
    [
        (0.000135, 135_000),
        ("$0.03", 30_000_000),
        (1.35e-05, 13_500),
        ("0", 0),
        (0, 0),
        ("", None),
        (1e-10, 0),
        (2, 2 * 10**9),
    ],
)
def test_costs_are_nano_dollars_of_what_was_written(value: object, nusd: int | None) -> None:
    assert cost_of(value) == nusd


@pytest.mark.parametrize("value", [-0.1, "free", 1_001, "nan", True, [1]])
def test_what_is_no_cost_is_refused(value: object) -> None:
    assert kind_of(cost_of, value) == "bad cost"


@pytest.mark.parametrize(
    "value",
    ["2025-10-09T08:53:20Z", "2025-10-09 08:53:20", "2025-10-09T10:53:20+02:00", "2025-10-09 08:53:20.000 UTC",
     1_760_000_000, "1760000000", 1_760_000_000_000, 1_760_000_000_000_000, 1_760_000_000_000_000_000],
)  # fmt: skip
def test_one_instant_has_many_spellings(value: object) -> None:
    assert instant_ms(value) == 1_760_000_000_000


@pytest.mark.parametrize(
    "value", ["yesterday", -5, [2025], "2025-13-01", "inf", float("inf"), float("nan"), 10**30, True, 0, "20251009"]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    assert kind_of(instant_ms, value) == "bad time"


def test_an_object_may_be_written_as_text() -> None:
    assert mapping('{"a": 1}') == mapping({"a": 1}) == {"a": 1}
    assert mapping('{""a"": ""b"", ""c"": """"}') == {"a": "b", "c": ""}  # as Helicone's tool writes it into CSV
    assert mapping("[1]") == mapping("{broken") == mapping(None) == {}


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.text()))
def test_whatever_stands_in_a_log_is_read_or_refused(value: object) -> None:
    for read in (lambda found: tokens(found, "t"), cost_of, instant_ms):
        with suppress(BadRow):
            read(value)


@pytest.mark.parametrize("read", [lambda found: tokens(found, "t"), cost_of, instant_ms])
def test_a_refusal_quotes_no_text(read: Callable[[object], object]) -> None:
    """Where columns are shifted, it may be a prompt's."""
    with pytest.raises(BadRow) as caught:
        read("my secret is 12")
    assert "secret" not in str(caught.value)


def test_a_refusal_shows_the_order_of_figures_but_none_of_them() -> None:
    with pytest.raises(BadRow, match=r"text like '9,99'"):
        cost_of("0,03")
    with pytest.raises(BadRow, match=r"text like '99/9/9999 9:99'"):
        instant_ms("10/9/2025 8:53")
