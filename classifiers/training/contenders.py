"""What stands in a comparison: a classifier of ours, prompt length, LiteLLM's rules; each a text's score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from classifiers import registry
from classifiers.training.datasets import as_prompt

RULES = "heuristic"
# Without these, importing litellm reads a .env file and fetches its price list.
_LITELLM_ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A named way to rank prompts; `score` states a probability only where `is_probability` says so."""

    name: str
    score: Callable[[str], float]
    is_probability: bool = False
    note: str = ""


def classifier(name: str) -> Contender:
    """A classifier of the registry; ValueError with the known names where there is none."""
    judge = registry.create(name)
    label = "rules" if name == RULES else name
    return Contender(label, lambda text: judge.classify(as_prompt(text)).score, is_probability=True)


def length() -> Contender:
    """The prompt's length in characters: an artefact of some benchmarks, so it stands beside every result."""
    return Contender("prompt length", lambda text: float(len(text)), note="characters, longest first")


def contenders(name: str, *, with_litellm: bool) -> tuple[Contender, ...]:
    """The classifier in question first, then what it is compared with."""
    found = [classifier(name)]
    if name != RULES:
        found.append(classifier(RULES))
    if with_litellm:
        found.extend(litellm_rules())
    return (*found, length())


def litellm_rules() -> tuple[Contender, ...]:
    """LiteLLM's complexity router, both local kinds; nothing where litellm, or this part of it, is not installed."""
    os.environ.update(_LITELLM_ENVIRONMENT)
    try:
        # Imported here alone, and only when asked for: it takes seconds and is no part of training.
        from litellm.router_strategy.adaptive_router.classifier import classify_prompt
        from litellm.router_strategy.complexity_router import ComplexityRouter
        from litellm.router_strategy.complexity_router.tier_predictor import TierSuccessPredictor, resolve_tier_artifact

        label = f"LiteLLM {'.'.join(version('litellm').split('.')[:2])}"
    except (ImportError, PackageNotFoundError):
        return ()
    rules = ComplexityRouter("rules", None)
    forecaster = TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))

    def need(text: str) -> float:
        return 1.0 - float(forecaster.predict(text, classify_prompt(text)).probabilities[1])

    return (
        Contender(f"{label} rules", lambda text: float(rules.classify(text)[1]), note="complexity router's score"),
        Contender(f"{label} v2", need, note="1 - its success forecast for the lowest tier"),
    )


def score_texts(contender: Contender, texts: Iterable[str], judged: Callable[[], None]) -> Mapping[str, float]:
    """Each distinct text's score; `judged` is called after each, for whoever shows progress."""
    scores: dict[str, float] = {}
    for text in texts:
        if text not in scores:
            scores[text] = contender.score(text)
            judged()
    return scores
