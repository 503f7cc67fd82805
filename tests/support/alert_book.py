"""`MemoryAlertBook`: an AlertBook in a dictionary, and the clock that it shares with whoever is tested."""

from __future__ import annotations

import threading

from router.clock import Clock
from router.stores.base import AlertClaim


class MemoryAlertBook:
    """Held to what the SQL one is held to: tests/contracts/test_alert_book_contract.py."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._claims: dict[tuple[str, str, str, str], tuple[int, AlertClaim]] = {}
        self._open: set[tuple[str, str, str, str]] = set()

    def claim_alert(self, budget_id: str, window_label: str, share: str, end_user: str = "", event: str = "") -> bool:
        key = (budget_id, window_label, share, end_user)
        with self._lock:
            if key in self._claims:
                return False
            self._claims[key] = (self._now_ms(), AlertClaim(*key, event))
            if event:
                self._open.add(key)
            return True

    def confirm_alert(self, claim: AlertClaim) -> None:
        with self._lock:
            self._open.discard(_key(claim))

    def take_over_alerts(self, claimed_before_ms: int, limit: int = 100) -> tuple[AlertClaim, ...]:
        with self._lock:
            found = [(at_ms, key) for key, (at_ms, _) in self._claims.items() if key in self._open]
            taken = [key for at_ms, key in sorted(found) if at_ms < claimed_before_ms][:limit]
            for key in taken:
                self._claims[key] = (self._now_ms(), self._claims[key][1])
            return tuple(self._claims[key][1] for key in taken)

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)


def _key(claim: AlertClaim) -> tuple[str, str, str, str]:
    return (claim.budget_id, claim.window_label, claim.share, claim.end_user)
