"""What a shadow says of its request is what the request says."""

from __future__ import annotations

from dataclasses import replace

from router.reports.measurements import unlike
from tests.support.spend import spend_record

REQUEST = spend_record(
    "plain",
    deployment="small",
    baseline_input_tokens=900,
    baseline_output_tokens=400,
    detail={"baseline_cached_input_tokens": 450},
)
SHADOW = replace(
    REQUEST,
    request_id="shadow",
    kind="shadow",
    deployment="large",
    detail={"measured_deployment": "small", "measured_usage": [900, 400, 450, 0]},
)


def test_a_shadow_keeps_the_tokens_that_a_discount_was_reckoned_from() -> None:
    assert list(unlike(SHADOW, REQUEST)) == []
    undiscounted = replace(REQUEST, detail={})
    assert list(unlike(SHADOW, undiscounted)) == [("detail.measured_usage", [900, 400, 450, 0], None)]
    assert list(unlike(replace(SHADOW, detail={"measured_deployment": "small"}), undiscounted)) == []


def test_what_another_shadow_measured_is_not_its_own() -> None:
    longer = replace(REQUEST, baseline_output_tokens=401, detail={"baseline_cache_write_input_tokens": 7})
    assert list(unlike(SHADOW, longer)) == [("detail.measured_usage", [900, 400, 450, 0], [900, 401, 0, 7])]
    assert [column for column, *_ in unlike(SHADOW, replace(REQUEST, deployment="medium", task="other"))] == [
        "task",
        "detail.measured_deployment",
    ]


def test_a_shadow_whose_process_died_kept_nothing() -> None:
    assert list(unlike(replace(SHADOW, status="abandoned", detail={}), REQUEST)) == []
    assert [column for column, *_ in unlike(replace(SHADOW, status="error", detail={}), REQUEST)] != []


def test_a_judge_has_no_counterfactual_to_keep() -> None:
    assert list(unlike(replace(SHADOW, kind="judge", detail={}), REQUEST)) == []
