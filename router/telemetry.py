"""Metrics for Prometheus and logging. Nothing here ever holds a key; prompts only when configured."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from policies.spend import SpendRecord

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_USD = 1e-9


class Telemetry:
    """One worker's metrics. Every series is summed up from settled records, so they agree with the ledger."""

    def __init__(self, log_requests: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._log_requests = log_requests
        labels = ["team", "deployment", "reason", "status", "cache"]
        self._requests = Counter("parsimony_requests", "Settled requests", labels, registry=self.registry)
        self._cost = Counter("parsimony_cost_usd", "Realised cost", ["team", "deployment"], registry=self.registry)
        self._baseline = Counter(
            "parsimony_baseline_cost_usd", "Counterfactual cost on the baseline", ["team"], registry=self.registry
        )
        self._tokens = Counter("parsimony_tokens", "Tokens", ["deployment", "direction"], registry=self.registry)
        self._duration = Histogram(
            "parsimony_request_duration_seconds", "From acceptance to the last byte", ["deployment", "cache"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._first_token = Histogram(
            "parsimony_first_token_seconds", "From acceptance to the provider's first bytes", ["deployment"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.unsettled = Gauge(
            "parsimony_unsettled_requests", "Settlements that Redis has not acknowledged", registry=self.registry
        )
        self.circuits = Gauge(
            "parsimony_circuit_open", "1 while a deployment's circuit lets nothing through", ["deployment"],
            registry=self.registry,
        )  # fmt: skip
        self._children: dict[tuple[str, ...], _Children] = {}

    def observe(self, record: SpendRecord) -> None:
        deployment = record.deployment or "none"
        key = (record.team_id, deployment, record.reason, record.status, record.cache)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = _Children(self, key)
        children.observe(record)
        if self._log_requests:
            logging.getLogger("parsimony.requests").info("request", extra={"fields": summary(record)})

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Children:
    """The metrics of one combination of labels: looking them up anew costs more than adding to them."""

    def __init__(self, telemetry: Telemetry, key: tuple[str, ...]) -> None:
        team, deployment, _, _, cache = key
        self._requests = telemetry._requests.labels(*key)
        self._cost = telemetry._cost.labels(team, deployment)
        self._baseline = telemetry._baseline.labels(team)
        self._input = telemetry._tokens.labels(deployment, "input")
        self._output = telemetry._tokens.labels(deployment, "output")
        self._duration = telemetry._duration.labels(deployment, cache)
        self._first_token = telemetry._first_token.labels(deployment)

    def observe(self, record: SpendRecord) -> None:
        self._requests.inc()
        self._cost.inc(record.cost_nusd * _USD)
        self._baseline.inc(record.baseline_cost_nusd * _USD)
        if record.cache != "hit":
            self._input.inc(record.input_tokens)
            self._output.inc(record.output_tokens)
        self._duration.observe(record.duration_ms / 1000)
        if record.first_token_ms is not None:
            self._first_token.observe(record.first_token_ms / 1000)


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
    logging.getLogger("httpx").setLevel(logging.WARNING)
