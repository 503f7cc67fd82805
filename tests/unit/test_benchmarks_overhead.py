"""The pure parts of the overhead benchmark: what it counts as an answer, when requests are due, what it prints."""

from __future__ import annotations

import math
from itertools import islice, pairwise

import orjson
import pytest

from tests.benchmarks.overhead import budgets
from tests.benchmarks.overhead.measure import Latency, Row, Throughput, bearable_rate, percentiles_us
from tests.benchmarks.overhead.pacer import Pacer, due_ns
from tests.benchmarks.overhead.prompts import Bodies
from tests.benchmarks.overhead.table import cells, error_text, notes, ratios
from tests.benchmarks.overhead.targets import absent_requirements
from tests.benchmarks.overhead.upstream import CHUNKS_PER_STREAM, Answers
from tests.benchmarks.overhead.wire import parse_head, status_of, stream_is_whole


@pytest.mark.parametrize("include_usage", [False, True])
def test_the_upstreams_own_stream_is_whole(include_usage: bool) -> None:
    events = list(Answers().stream("m", 900, include_usage))
    assert stream_is_whole(b"".join(events), CHUNKS_PER_STREAM)
    assert (b'"prompt_tokens"' in b"".join(events)) is include_usage


@pytest.mark.parametrize("lost", [1, 10, CHUNKS_PER_STREAM, -1])
def test_a_stream_that_lost_an_event_is_not_whole(lost: int) -> None:
    events = list(Answers().stream("m", 900, False))
    del events[lost]
    assert not stream_is_whole(b"".join(events), CHUNKS_PER_STREAM)


def test_a_stream_with_an_error_frame_is_not_whole() -> None:
    events = list(Answers().stream("m", 900, False))
    events.insert(5, b'data: {"error":{"message":"upstream"}}\n\n')
    assert not stream_is_whole(b"".join(events), CHUNKS_PER_STREAM)


def test_chunks_count_however_their_json_is_spaced() -> None:
    spaced = b"".join(Answers().stream("m", 900, False)).replace(b'"content":"', b'"content": "')
    assert stream_is_whole(spaced, CHUNKS_PER_STREAM)


def test_a_head_says_where_its_body_ends() -> None:
    head = parse_head(b"HTTP/1.1 503 Busy\r\nContent-Length: 12\r\nConnection: close")
    assert (status_of(head), head.content_length, head.chunked, head.closes) == (503, 12, False, True)
    chunked = parse_head(b"HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\nTransfer-Encoding: chunked")
    assert (chunked.content_length, chunked.chunked, chunked.closes) == (None, True, False)


def test_no_two_bodies_are_alike_and_both_languages_take_turns() -> None:
    bodies = list(islice(Bodies("auto", stream=False), 5_000))
    assert len(set(bodies)) == len(bodies)
    assert all(700 <= len(body) <= 1_300 for body in bodies)
    texts = [orjson.loads(body)["messages"][1]["content"] for body in bodies[:2]]
    assert [text.isascii() for text in texts] == [True, False]


def test_the_repeat_share_repeats() -> None:
    bodies = list(islice(Bodies("auto", stream=False, repeat_share=0.25, first_number=10_000), 4_000))
    assert len(bodies) - len(set(bodies)) == pytest.approx(1_000, abs=70)


async def test_missed_ticks_are_yielded_with_the_time_they_were_due() -> None:
    async with Pacer(rate=1_000.0) as pacer:
        due = [due async for due in _first(pacer, 5)]
    assert [later - earlier for earlier, later in pairwise(due)] == [1_000_000] * 4


async def _first(pacer: Pacer, number: int):  # type: ignore[no-untyped-def]
    async for due in pacer:
        yield due
        number -= 1
        if not number:
            return


def test_a_schedule_does_not_drift() -> None:
    assert due_ns(7, 5_000_000, 200_000) == 7 + 1_000 * 1_000_000_000


def test_percentiles_come_from_all_samples() -> None:
    assert percentiles_us([number * 1_000 for number in range(1, 102)]) == (51.0, 100.0)
    assert all(math.isnan(value) for value in percentiles_us([]))


def test_a_slow_proxy_gets_the_rate_it_can_bear() -> None:
    assert [bearable_rate(200.0, capacity) for capacity in (6_000.0, 90.0, 0.0)] == [200.0, 45.0, 1.0]


def row(key: str, per_second: float, errors: dict[str, int] | None = None) -> Row:
    measured = Throughput(per_second, cpu_us=1e6 / per_second, core_share=1.0, errors=errors or {})
    latency = Latency(200.0, 200.0, 400.0, 900.0, 2_400.0, {})
    return Row(key, key, whole=measured, answer=latency, ready_s=1.25)


def test_a_row_stands_beside_the_yardstick_and_litellm() -> None:
    rows = {each.key: each for each in (row("aiohttp", 6_000.0), row("parsimony", 4_200.0), row("litellm", 84.0))}
    whole, _, _, p50, p99, *_, ready, memory = cells(rows["parsimony"], rows, rate=200.0)
    assert [part in whole for part in ("4,200", "0.7× aiohttp", "50× LiteLLM", "238 µs")] == [True] * 4
    assert ("0.70" in p50, "2.00" in p99, ready, memory) == (True, True, "1.25", "")
    assert ratios(rows["aiohttp"], rows, lambda each: each.ready_s) == ["1× LiteLLM"]


def test_errors_and_absent_targets_are_said() -> None:
    broken = row("parsimony", 10.0, {"status 500": 3, "short stream": 20})
    absent = Row("litellm", "LiteLLM proxy", note="litellm[proxy] is not installed")
    assert "20 short stream" in cells(broken, {"parsimony": broken}, rate=200.0)[0]
    assert error_text({"a": 1, "b": 2_000}) == "2,000 b, 1 a"
    assert notes([broken, absent])[0] == "LiteLLM proxy: litellm[proxy] is not installed"


def test_an_absent_distribution_is_named() -> None:
    assert absent_requirements("no-such-distribution", "proxy") == ["no-such-distribution"]


def test_what_budgets_cost_is_the_median_of_rounds_beside_each_other() -> None:
    comparison = budgets.Comparison(
        [Throughput(per_second, 1_000.0, 1.0, {}) for per_second in (1_000.0, 500.0, 100.0)],
        [Throughput(per_second, 1_100.0, 1.0, {}) for per_second in (900.0, 400.0, 10.0)],
    )
    assert comparison.ratio == pytest.approx(0.8)
    assert comparison.cpu_ratio == pytest.approx(1_000 / 1_100)
    assert budgets.render(comparison).row_count == 2
    assert budgets.Comparison(note="not ready").ratio is None
    assert budgets.render(budgets.Comparison(note="not ready")).row_count == 1


def test_ten_budgets_are_of_ten_kinds() -> None:
    assert len(set(budgets.TEN_BUDGETS)) == 10
    assert {budget[0] for budget in budgets.TEN_BUDGETS} == {"organization", "team", "project", "key", "user", "tag"}


def test_bodies_name_their_end_user_where_there_is_one() -> None:
    assert orjson.loads(next(Bodies("auto", stream=False, user="ann")))["user"] == "ann"
    assert "user" not in orjson.loads(next(Bodies("auto", stream=False)))
