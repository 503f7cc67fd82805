"""GET /v1/models and /v1/models/{id}: aliases and deployments, as OpenAI lists models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends

from policies.catalog import Deployment
from router.errors import ModelNotFound
from router.pipeline.models import Alias, Models
from router.stores.base import Principal


def models_router(models: Models, authenticated: Callable[..., Any]) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/v1/models")
    async def list_models(principal: Principal = Depends(authenticated)) -> dict[str, Any]:
        """The models that the key may use."""
        everything: list[Alias | Deployment] = [*models.aliases.values(), *models.deployments.values()]
        return {"object": "list", "data": [_wire(model) for model in everything if _may_use(principal, model)]}

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str, principal: Principal = Depends(authenticated)) -> dict[str, Any]:
        model = models.resolve(name)
        if not _may_use(principal, model):
            raise ModelNotFound(f"There is no model {name[:128]!r} for this key.", param="model")
        return _wire(model)

    return router


def _may_use(principal: Principal, model: Alias | Deployment) -> bool:
    names = {model.name, *(d.name for d in model.candidates)} if isinstance(model, Alias) else {model.name}
    return principal.allowed_models is None or bool(names & principal.allowed_models)


def _wire(model: Alias | Deployment) -> dict[str, Any]:
    wire: dict[str, Any] = {"id": model.name, "object": "model", "created": 0}
    if isinstance(model, Alias):
        simulated = any(deployment.simulated for deployment in model.candidates)
        return wire | {
            "owned_by": "parsimony",
            "parsimony": {"routes_to": [d.name for d in model.candidates], "simulated": simulated},
        }
    return wire | {
        "owned_by": model.provider_name,
        "parsimony": {
            "tier": model.tier,
            "context_window": model.context_window,
            "capabilities": sorted(model.capabilities),
            "simulated": model.simulated,
        },
    }
