"""`shadow`: the sample of requests that also go to the baseline, to measure what they would have cost there."""

from __future__ import annotations

from pydantic import Field

from policies.budget import Budget
from policies.money import parse_usd
from policies.spend import SHADOW_TAG
from router.sections import Dollars, Name, Section


class ShadowConfig(Section):
    """`share` of the routed requests go to `deployment` (the baseline's, where none is named), within `limit_usd` a
    month. A share of nothing measures nothing; `true` is none."""

    share: float = Field(default=0, ge=0, le=1, strict=True)
    deployment: Name | None = None
    limit_usd: Dollars = "10.00"

    def budget(self) -> Budget:
        """A budget like every other, so that it is held, counted, recounted, listed and told of like every other.

        While Redis is away nothing is measured, whatever budgets do that requests depend on.
        """
        return Budget(
            subject_kind="tag",
            subject_id=SHADOW_TAG,
            limit=parse_usd(self.limit_usd),
            action="reject",
            when_unavailable="refuse",
            source="config",
        )
