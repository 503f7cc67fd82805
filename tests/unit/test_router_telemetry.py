"""Metrics are sums over records; logs are lines that hold no more than they say."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry import Gauges, Telemetry, configure_logging, summary
from tests.support.spend import spend_record


def samples(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for f in families for sample in f.samples}


def total(telemetry: Telemetry, name: str, **labels: str) -> float:
    return sum(
        value
        for (found, having), value in samples(telemetry).items()
        if found == name and labels.items() <= set(having)
    )


def test_every_record_counts_where_it_belongs() -> None:
    telemetry = Telemetry()
    for record in (
        spend_record("a", cost_nusd=1_000_000_000),
        spend_record("b", cost_nusd=500_000_000, team_id="sales"),
        spend_record("c", cost_nusd=0, cache="hit", reason="cache"),
        spend_record("d", deployment=None, status="refused", cost_nusd=0, input_tokens=0, output_tokens=0),
    ):
        telemetry.observe(record)
    assert total(telemetry, "parsimony_requests_total") == 4
    assert total(telemetry, "parsimony_requests_total", cache="hit") == 1
    assert total(telemetry, "parsimony_requests_total", deployment="none", status="refused") == 1
    assert total(telemetry, "parsimony_cost_usd_total", team="sales") == pytest.approx(0.5)
    assert total(telemetry, "parsimony_cost_usd_total") == pytest.approx(1.5)
    assert total(telemetry, "parsimony_input_tokens_total") == 240  # a repeat is billed nothing
    assert total(telemetry, "parsimony_output_tokens_total") == 160


DOUBTED = {"usage_check": {"reported": [120, 300], "counted": [118, 80]}}


def test_reports_that_our_count_does_not_bear_out_are_counted_and_told_of_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    telemetry = Telemetry()
    for index, seconds in enumerate((0, 1, 59, 60, 61)):
        telemetry.observe(spend_record(f"r{index}", detail=DOUBTED, started_at_ms=seconds * 1000))
    telemetry.observe(spend_record("other", detail=DOUBTED, started_at_ms=61_000, deployment="gpt-4o"))
    assert total(telemetry, "parsimony_usage_mismatches_total", deployment="mistral-7b") == 5
    assert total(telemetry, "parsimony_usage_mismatches_total", deployment="gpt-4o") == 1
    text = "mistral-7b reports [120, 300] tokens of input and output, we count [118, 80]"
    assert caplog.messages == [
        f"request r0: {text}",
        f"request r3: {text} (2 such were not logged since the last)",
        "request other: gpt-4o reports [120, 300] tokens of input and output, we count [118, 80]",
    ]


def test_a_cost_that_no_reservation_carried_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    telemetry.observe(spend_record("r0", cost_nusd=5, reserved_nusd=5))
    telemetry.observe(spend_record("r1", cost_nusd=6, reserved_nusd=5))
    assert caplog.messages == ["request r1: mistral-7b took 6 nano-USD, and 5 were held for it"]
    assert total(telemetry, "parsimony_usage_mismatches_total") == 0


def test_durations_fall_into_buckets() -> None:
    telemetry = Telemetry()
    for milliseconds in (0, 5, 6, 60_000, 400_000):
        telemetry.observe(spend_record(duration_ms=milliseconds, first_token_ms=None))
    name = "parsimony_request_duration_seconds"
    assert total(telemetry, f"{name}_bucket", le="0.005") == 2
    assert total(telemetry, f"{name}_bucket", le="0.01") == 3
    assert total(telemetry, f"{name}_bucket", le="60") == 4
    assert total(telemetry, f"{name}_bucket", le="+Inf") == total(telemetry, f"{name}_count") == 5
    assert total(telemetry, f"{name}_sum") == pytest.approx(460.011)
    assert total(telemetry, "parsimony_first_token_seconds_count") == 0


def test_a_shadow_counts_and_costs_but_is_no_time_that_anybody_waited() -> None:
    telemetry = Telemetry()
    telemetry.observe(spend_record(deployment="gpt-4", duration_ms=100))
    telemetry.observe(
        spend_record(deployment="gpt-4", duration_ms=90_000, kind="shadow", parent_id="a", reason="shadow", cost_nusd=7)
    )
    assert total(telemetry, "parsimony_requests_total", deployment="gpt-4", reason="shadow") == 1
    assert total(telemetry, "parsimony_cost_usd_total", reason="shadow") == pytest.approx(7e-9)
    assert total(telemetry, "parsimony_request_duration_seconds_count", deployment="gpt-4") == 1
    assert total(telemetry, "parsimony_request_duration_seconds_sum", deployment="gpt-4") == pytest.approx(0.1)


def test_what_is_so_at_the_moment_is_asked_for_at_the_moment() -> None:
    now = Gauges(3, {"small": True, "large": False}, local_allowance_used_nusd=250_000_000)
    telemetry = Telemetry(gauges=lambda: now)
    assert total(telemetry, "parsimony_unsettled_requests") == 3
    assert total(telemetry, "parsimony_circuit_open", deployment="small") == 1
    assert total(telemetry, "parsimony_circuit_open", deployment="large") == 0
    assert total(telemetry, "parsimony_local_allowance_used_usd") == 0.25
    now = Gauges(0, {})
    assert total(telemetry, "parsimony_unsettled_requests") == 0


def test_before_the_first_request_there_is_something_to_read() -> None:
    assert b"# TYPE parsimony_requests_total counter" in Telemetry().exposition()


def test_a_team_may_be_called_anything() -> None:
    telemetry = Telemetry()
    telemetry.observe(spend_record(team_id='研发 "a"\\\n'))
    assert total(telemetry, "parsimony_requests_total", team='研发 "a"\\\n') == 1


# logging


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was before once the test is over."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_a_json_log_is_lines_of_json(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    Telemetry(log_requests=True).observe(spend_record("r1"))
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        root.exception("it %s", "failed")
    root.debug("unseen")
    captured = capsys.readouterr()
    first, second = (json.loads(line) for line in captured.err.splitlines())
    assert (first["message"], first["request_id"], first["cost_nusd"]) == ("request", "r1", 840_000)
    assert (second["level"], second["message"]) == ("error", "it failed")
    assert "ValueError: bad\nthing" in second["exception"]
    assert captured.out == ""


def test_a_console_log_shows_the_fields(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", "info")
    Telemetry(log_requests=True).observe(spend_record("r1", error_code=None))
    (line,) = capsys.readouterr().err.splitlines()
    assert "request_id=r1" in line
    assert "error_code" not in line


def test_requests_are_logged_only_where_configured(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", "debug")
    Telemetry().observe(spend_record())
    assert capsys.readouterr().err == ""


def test_the_summary_holds_no_text_of_the_request() -> None:
    assert "detail" not in summary(spend_record())
