"""`Budget`, and its state in the current window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SubjectKind = Literal["team", "key"]
BudgetWindow = Literal["month"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit in nano-USD on what one team or key may spend in a window.

    Months are calendar months in `timezone` (an IANA name).
    """

    id: str
    subject_kind: SubjectKind
    subject_id: str
    limit_nusd: int
    window: BudgetWindow = "month"
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its current window: `spent` is settled, `reserved` is held for requests under way."""

    budget: Budget
    window_label: str
    spent_nusd: int
    reserved_nusd: int

    @property
    def available_nusd(self) -> int:
        return max(self.budget.limit_nusd - self.spent_nusd - self.reserved_nusd, 0)
