"""`sql` and `ledger`: where the ledger is, and how long it keeps its records."""

from __future__ import annotations

from pydantic import Field

from router.sections import Section


class SqlConfig(Section):
    url: str | None = None


class LedgerConfig(Section):
    """Records of the `retention_months` before the present one are kept, and those of that; None: all, for ever.

    `true` is no number of months: what is let go does not come back.
    """

    retention_months: int | None = Field(default=None, ge=1, le=1_200, strict=True)
