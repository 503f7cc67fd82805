"""Metrics for Prometheus and logging. Nothing here ever holds a key; prompts only when configured."""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from policies.spend import SpendRecord

_LABELS = ["team", "deployment", "reason", "status", "cache"]
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_USD = 1e-9
_SPARING_MS = 60_000

logger = logging.getLogger(__name__)


class Telemetry(Collector):
    """One worker's metrics. All are sums over settled records, so they agree with the ledger.

    Settling adds plain numbers, and series are made of them when Prometheus asks: its client's own
    counters lock and look up labels, which costs ten times as much on every request.
    """

    def __init__(
        self,
        log_requests: bool = False,
        gauges: Callable[[], Gauges] | None = None,
        *,
        log_prompts: bool = False,
    ) -> None:
        self._log_requests = log_requests
        self._log_prompts = log_requests and log_prompts
        self._gauges = gauges
        self._sums: dict[tuple[str, ...], _Sums] = {}
        self._mismatches: Counter[str] = Counter()
        self._sparing = _SparingLog()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def accepted(self, request_id: str, newest_message: str) -> None:
        """Logs a prompt, where that is configured."""
        if self._log_prompts:
            fields = {"request_id": request_id, "prompt": newest_message}
            logging.getLogger("parsimony.prompts").info("prompt", extra={"fields": fields})

    def observe(self, record: SpendRecord) -> None:
        key = (record.team_id, record.deployment or "none", record.reason, record.status, record.cache)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = _Sums()
        sums.add(record)
        if "usage_check" in record.detail or record.cost_nusd > record.reserved_nusd > 0:
            self._doubt(record)
        if self._log_requests:
            logging.getLogger("parsimony.requests").info("request", extra={"fields": summary(record)})

    def _doubt(self, record: SpendRecord) -> None:
        """Tells of a provider's report that our count does not bear out, or that no reservation could carry."""
        deployment = record.deployment or "none"
        now_ms = record.started_at_ms + record.duration_ms
        check = record.detail.get("usage_check")
        if check is not None:
            self._mismatches[deployment] += 1
            text = f"{deployment} reports {check['reported']} tokens of input and output, we count {check['counted']}"
            self._sparing.warn(("usage", deployment), now_ms, f"request {record.request_id}: {text}")
        if record.cost_nusd > record.reserved_nusd:
            text = f"{deployment} took {record.cost_nusd} nano-USD, and {record.reserved_nusd} were held for it"
            self._sparing.warn(("cost", deployment), now_ms, f"request {record.request_id}: {text}")

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        sums = self._sums
        yield _counter("parsimony_requests", "Settled requests", _LABELS, sums, lambda one: one.count)
        cost, baseline = "parsimony_cost_usd", "parsimony_baseline_cost_usd"
        yield _counter(cost, "Realised cost", _LABELS, sums, lambda one: one.cost_nusd * _USD)
        yield _counter(baseline, "Counterfactual cost", _LABELS, sums, lambda one: one.baseline_cost_nusd * _USD)
        yield _counter("parsimony_input_tokens", "Billed input", _LABELS, sums, lambda one: one.input_tokens)
        yield _counter("parsimony_output_tokens", "Billed output", _LABELS, sums, lambda one: one.output_tokens)
        mismatches = CounterMetricFamily(
            "parsimony_usage_mismatches", "Reported usage that our count does not bear out", labels=["deployment"]
        )
        for name, count in list(self._mismatches.items()):
            mismatches.add_metric([name], count)
        yield mismatches
        whole, first = "parsimony_request_duration_seconds", "parsimony_first_token_seconds"
        yield _histogram(whole, "From acceptance to the last byte", sums, lambda one: one.duration)
        yield _histogram(first, "From acceptance to the provider's first bytes", sums, lambda one: one.first_token)
        if self._gauges is not None:
            gauges = self._gauges()
            yield GaugeMetricFamily(
                "parsimony_unsettled_requests", "Settlements that Redis has not acknowledged", value=gauges.unsettled
            )
            yield GaugeMetricFamily(
                "parsimony_local_allowance_used_usd",
                "Spent or held without Redis, of the allowance of which most is used",
                value=gauges.local_allowance_used_nusd * _USD,
            )
            circuits = GaugeMetricFamily(
                "parsimony_circuit_open", "1 while nothing is sent to a deployment", labels=["deployment"]
            )
            for name, is_open in gauges.circuits_open.items():
                circuits.add_metric([name], is_open)
            yield circuits
            lost = CounterMetricFamily(
                "parsimony_shadows_lost", "Requests drawn to be measured on the baseline that were not", labels=["why"]
            )
            for why, count in list(gauges.shadows_lost.items()):
                lost.add_metric([why], count)
            yield lost


class _SparingLog:
    """One line of a kind in a minute, by the records' own time; the next says how many were left out."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        """When it was told last, and how often not since."""

    def warn(self, kind: tuple[str, str], now_ms: int, text: str) -> None:
        last_ms, left_out = self._told.get(kind, (None, 0))
        if last_ms is not None and 0 <= now_ms - last_ms < _SPARING_MS:
            self._told[kind] = (last_ms, left_out + 1)
            return
        self._told[kind] = (now_ms, 0)
        logger.warning("%s", f"{text} ({left_out} such were not logged since the last)" if left_out else text)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is so at the moment."""

    unsettled: int
    circuits_open: Mapping[str, bool]
    local_allowance_used_nusd: int = 0
    shadows_lost: Mapping[str, int] = field(default_factory=dict)
    """By why: since the start, and so a sum rather than a gauge."""


class _Distribution:
    """Counts by bucket, and their sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.sum_s = 0.0

    def add(self, milliseconds: int) -> None:
        seconds = milliseconds / 1000
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.sum_s += seconds


class _Sums:
    __slots__ = (
        "baseline_cost_nusd", "cost_nusd", "count", "duration", "first_token", "input_tokens", "output_tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = self.cost_nusd = self.baseline_cost_nusd = self.input_tokens = self.output_tokens = 0
        self.duration = _Distribution()
        self.first_token = _Distribution()

    def add(self, record: SpendRecord) -> None:
        self.count += 1
        self.cost_nusd += record.cost_nusd
        self.baseline_cost_nusd += record.baseline_cost_nusd
        if record.cache != "hit":  # a repeat's tokens were billed once
            self.input_tokens += record.input_tokens
            self.output_tokens += record.output_tokens
        if record.kind == "request":  # nobody waited for a shadow
            self.duration.add(record.duration_ms)
        if record.first_token_ms is not None:
            self.first_token.add(record.first_token_ms)


_Sum = dict[tuple[str, ...], _Sums]


def _counter(name: str, text: str, labels: list[str], sums: _Sum, value: Callable[[_Sums], float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, one in list(sums.items()):
        family.add_metric(key, value(one))
    return family


def _histogram(name: str, text: str, sums: _Sum, part: Callable[[_Sums], _Distribution]) -> Metric:
    """By deployment and cache; the other labels would multiply the buckets."""
    family = HistogramMetricFamily(name, text, labels=["deployment", "cache"])
    merged: dict[tuple[str, str], list[_Distribution]] = {}
    for key, one in list(sums.items()):
        merged.setdefault((key[1], key[4]), []).append(part(one))
    for labels, distributions in merged.items():
        counts = accumulate(map(sum, zip(*[one.counts for one in distributions], strict=True)))
        bounds = [*map(str, _SECONDS), "+Inf"]
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), sum(one.sum_s for one in distributions))
    return family


def summary(record: SpendRecord) -> dict[str, object]:
    """One request in a log line."""
    names = ("request_id", "team_id", "key_id", "alias", "deployment", "reason", "status", "error_code", "cache",
             "duration_ms", "input_tokens", "output_tokens", "cost_nusd", "baseline_cost_nusd")  # fmt: skip
    return {name: getattr(record, name) for name in names}


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return f"{super().format(record)} {shown}".rstrip()


def configure_logging(style: Literal["console", "json"], level: str) -> None:
    """Logs go to stderr: stdout belongs to what a command prints."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if style == "json" else _ConsoleFormatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
