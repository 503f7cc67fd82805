"""`shadow`: the sample of requests that also go to the baseline, to measure what they would have cost there."""

from __future__ import annotations

from pydantic import Field

from router.sections import Dollars, Name, Section


class ShadowConfig(Section):
    """`share` of the routed requests go to `deployment` (the baseline's, where none is named), within `limit_usd` a
    month. A share of nothing measures nothing."""

    share: float = Field(default=0, ge=0, le=1)
    deployment: Name | None = None
    limit_usd: Dollars = "10.00"
