"""The headers say what was decided, and costs only where they are known."""

from __future__ import annotations

from router.pipeline.headers import Told, of, of_record
from tests.support.spend import spend_record

BARE = Told("r1", stream=False, deployment="small", reason="simple", cache="miss", score=None, simulated=False)


def test_what_is_not_known_is_not_said() -> None:
    assert of(BARE) == [
        (b"content-type", b"application/json"),
        (b"x-parsimony-request-id", b"r1"),
        (b"x-parsimony-model", b"small"),
        (b"x-parsimony-reason", b"simple"),
        (b"x-parsimony-cache", b"miss"),
    ]


def test_what_is_known_is() -> None:
    told = Told("r1", False, "small", "simple", "miss", 0.12345, True, cost_nusd=14, baseline_cost_nusd=1_500_000_000)
    headers = dict(of(told))
    assert headers[b"x-parsimony-score"] == b"0.123"
    assert headers[b"x-parsimony-cost-usd"] == b"0.000000014"
    assert headers[b"x-parsimony-baseline-cost-usd"] == b"1.50"
    assert headers[b"x-parsimony-simulated"] == b"true"


def test_a_stream_is_kept_from_buffers() -> None:
    headers = dict(of_record(spend_record(stream=True)))
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"]) == (b"no-cache", b"no")


def test_each_answer_has_headers_of_its_own() -> None:
    first = of(BARE)
    first.append((b"content-length", b"1"))
    assert (b"content-length", b"1") not in of(BARE)
