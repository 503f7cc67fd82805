"""A stored answer comes back as it was, under another id."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pipeline.cached import FORMAT, CachedAnswer, pack, unpack
from tests.support.spend import spend_record


@given(st.binary(max_size=200))
def test_any_body_survives(body: bytes) -> None:
    record = spend_record("chatcmpl-1", deployment="lokal/模型", response_model=None, simulated=True)
    record = replace(
        record, estimator="v1", recounted_output_tokens=70, baseline_price_effective_from="2023-03-14",
        detail={"baseline_cached_input_tokens": 9, "baseline_cache_write_input_tokens": 4},
    )  # fmt: skip
    answer = unpack(pack(record, body))
    assert answer == CachedAnswer(
        request_id="chatcmpl-1",
        deployment="lokal/模型",
        response_model=None,
        finish_reasons="stop",
        input_tokens=120,
        output_tokens=80,
        estimator="v1",
        recounted_output_tokens=70,
        baseline_price_effective_from="2023-03-14",
        baseline_cached_input_tokens=9,
        baseline_cache_write_input_tokens=4,
        baseline_input_tokens=120,
        baseline_output_tokens=80,
        baseline_cost_nusd=8_400_000,
        simulated=True,
        body=body,
    )


def test_every_event_of_a_stream_gets_the_new_id_and_the_text_keeps_the_old() -> None:
    body = (
        b'data: {"id":"chatcmpl-1","x":"a \\"id\\":\\"chatcmpl-1\\""}\n\ndata: {"id":"chatcmpl-1"}\n\ndata: [DONE]\n\n'
    )
    answer = unpack(pack(spend_record("chatcmpl-1"), body))
    expected = (
        b'data: {"id":"chatcmpl-2","x":"a \\"id\\":\\"chatcmpl-1\\""}\n\ndata: {"id":"chatcmpl-2"}\n\ndata: [DONE]\n\n'
    )
    assert answer.body_for("chatcmpl-2") == expected


def test_the_format_names_every_fact() -> None:
    names = FORMAT.split(",")
    assert sorted([*names, "body"]) == sorted(CachedAnswer.__dataclass_fields__)


@pytest.mark.parametrize("entry", [b"", b"\n", b"{}\nbody", b'{"request_id":"a","unknown":1}\nbody', b"[1]\n"])
def test_what_is_no_entry_is_an_error_that_can_be_named(entry: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        unpack(entry)
