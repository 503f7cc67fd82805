"""`hardware`: what machine serves a deployment, from when to when, and how much it can."""

from __future__ import annotations

from pydantic import Field

from router.sections import Name, Section


class HardwareUse(Section):
    """So many machines of one kind, by its name in configs/hardware.yaml."""

    name: Name
    count: int = Field(default=1, ge=1)
