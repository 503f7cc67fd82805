"""What an application may write as `model`: an alias or a deployment's own name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.catalog import Deployment
from router.errors import ModelNotAllowed, ModelNotFound
from router.stores.base import Principal


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that is routed: its candidates, and from which score on a tier begins."""

    name: str
    candidates: tuple[Deployment, ...]
    moderate_from: float
    complex_from: float
    max_fallbacks: int
    quality_target: float | None = None
    """Where it set the thresholds: both are then the same."""
    answered_by: Deployment | None = None
    """The baseline's deployment, to which everything goes where routing is only observed."""
    shadow: bool = True
    """Whether some of its requests may go to the baseline as well, to be measured."""


@dataclass(frozen=True, slots=True)
class Models:
    aliases: Mapping[str, Alias]
    deployments: Mapping[str, Deployment]

    def resolve(self, name: str) -> Alias | Deployment:
        """Raises ModelNotFound that lists what there is."""
        found = self.aliases.get(name) or self.deployments.get(name)
        if found is None:
            known = ", ".join(sorted([*self.aliases, *self.deployments]))
            raise ModelNotFound(f"There is no model {name[:128]!r}. Configured are: {known}.", param="model")
        return found


def allowed_deployments(principal: Principal, model: Alias | Deployment) -> frozenset[str] | None:
    """Which deployments may serve the key under this name; None for all.

    A key that may use an alias may use whatever the alias leads to. Raises ModelNotAllowed.
    """
    allowed = principal.allowed_models
    if allowed is None or model.name in allowed:
        return None
    candidates = model.candidates if isinstance(model, Alias) else ()
    some = frozenset(deployment.name for deployment in candidates) & allowed
    if not some:
        raise ModelNotAllowed(
            f"This key may not use {model.name!r}; it may use: {', '.join(sorted(allowed))}.", param="model"
        )
    return some
