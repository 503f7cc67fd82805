"""Ids as bytes, and `detail` without its numbers: whatever goes in comes out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.stores.sql_detail import join_detail, pack_id, split_detail

OURS = "chatcmpl-0123456789abcdef01234567"

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, max_size=5))
@example({})
@example({"007": "1\x1a2", "a": [0, -0.0, 1e300, "12f3"]})
def test_a_detail_comes_back(detail: dict[str, Any]) -> None:
    template, numbers = split_detail(detail)
    assert orjson.dumps(join_detail(template, numbers)) == orjson.dumps(detail)


def test_details_that_differ_in_numbers_alone_share_their_text() -> None:
    one, other = ({"chain": [["mistral-7b", cost, 2 * cost]]} for cost in (36_613, 9))
    assert split_detail(one)[0] == split_detail(other)[0]
    assert len(split_detail(one)[1]) == 7


OTHERS = [OURS.upper(), OURS[:-1], OURS + "0", OURS[:-1] + "g", OURS[:-2] + " 0", "", "é"]


@pytest.mark.parametrize("request_id", [OURS, *OTHERS])
def test_only_an_id_as_parsimony_makes_them_is_packed(request_id: str) -> None:
    packed = pack_id(request_id)
    assert (packed[:1] == b"\0") == (request_id == OURS)
    assert len(packed) == 13 if request_id == OURS else packed.decode() == request_id


def test_no_other_id_is_taken_for_a_packed_one() -> None:
    assert pack_id("\0" + "a" * 12)[:1] != b"\0"
