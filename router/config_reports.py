"""`reports`: which are made by themselves, when, and where they go."""

from __future__ import annotations

from router.sections import Section


class ReportsConfig(Section):
    """Reports that are made without being asked for."""
