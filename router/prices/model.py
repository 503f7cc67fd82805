"""`ModelInfo`: what is known of a model before anyone deploys it."""

from __future__ import annotations

from dataclasses import dataclass

from policies.catalog import IMAGE_TOKENS, Capability, PriceSchedule


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model before anyone deploys it. `origin` names the list it comes from."""

    name: str
    prices: PriceSchedule
    context_window: int
    max_output_tokens: int
    tokenizer: str | None
    capabilities: frozenset[Capability]
    origin: str
    note: str = ""
    image_tokens: int = IMAGE_TOKENS
    """The most that one image comes to."""
