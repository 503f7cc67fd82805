"""Hands over what a request came to: to be booked, counted against its budgets, and told of."""

from __future__ import annotations

from policies.spend import SpendRecord
from router.pipeline.budgets import Applied
from router.stores.admission import BEFORE_ANY_EPOCH, AdmissionStore, Settlement
from router.stores.counters import NO_COUNTERS, used_of
from router.stores.kept_json import kept_json
from router.telemetry import Telemetry


class Settler:
    def __init__(self, admission: AdmissionStore, telemetry: Telemetry, keep_seconds: int) -> None:
        """`keep_seconds`: for how long answers are kept that are worth repeating."""
        self._admission = admission
        self._telemetry = telemetry
        self._keep_seconds = keep_seconds

    def settle(
        self,
        record: SpendRecord,
        *,
        admitted: bool = True,
        applied: Applied | None = None,
        epoch: str = BEFORE_ANY_EPOCH,
        cache_key: str = "",
        answer: bytes = b"",
    ) -> None:
        """Returns at once: nobody waits for the books."""
        self._telemetry.observe(record)
        counters = applied.counters if applied is not None else NO_COUNTERS
        self._admission.settle(
            Settlement(
                request_id=record.request_id,
                record=kept_json(record.to_json()),
                admitted=admitted,
                started_at_ms=record.started_at_ms,
                epoch=epoch,
                counters=counters,
                amounts=tuple([used_of(counter, record) for counter in counters.all]),
                cache_key=cache_key,
                keep_seconds=self._keep_seconds if cache_key else 0,
                answer=answer,
            )
        )
