"""A circuit breaker for each deployment: no calls to one that keeps failing, save a probe now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(slots=True)
class Circuit:
    """Opens after `failures` in a row; after `open_s` lets one probe through, whose outcome decides.

    Times are monotonic seconds, handed over by the caller.
    """

    failures: int
    open_s: float
    _failed: int = 0
    _opened_at_s: float | None = None
    _probe_at_s: float | None = None

    def state(self, now_s: float) -> State:
        if self._opened_at_s is None:
            return "closed"
        return "open" if now_s - self._opened_at_s < self.open_s else "half_open"

    def admits(self, now_s: float) -> bool:
        """Whether a call may go out now; asking changes nothing."""
        state = self.state(now_s)
        return state == "closed" or (state == "half_open" and not self._probing(now_s))

    def begin(self, now_s: float) -> None:
        """A call goes out; in a half-open circuit it is the probe."""
        if self._opened_at_s is not None:
            self._probe_at_s = now_s

    def succeeded(self) -> None:
        self._failed = 0
        self._opened_at_s = self._probe_at_s = None

    def failed(self, now_s: float) -> None:
        self._failed += 1
        self._probe_at_s = None
        if self._failed >= self.failures:
            self._opened_at_s = now_s

    def _probing(self, now_s: float) -> bool:
        """A probe that never came back must not keep the circuit open for ever."""
        return self._probe_at_s is not None and now_s - self._probe_at_s < self.open_s
