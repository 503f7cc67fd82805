"""Budgets as a configuration declares them, put into effect."""

from __future__ import annotations

from typing import Any

from router.config import BudgetsConfig
from router.services import AdminServices
from router.stores.administration import sync_declared


def declare(services: AdminServices, *declared: dict[str, Any]) -> None:
    """What a server does when it starts with these, and no others."""
    sync_declared(services, BudgetsConfig.model_validate({"declared": list(declared)}).declared_budgets())
