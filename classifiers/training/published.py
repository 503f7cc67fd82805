"""Figures that others have published, or that were measured elsewhere, for the datasets they hold for."""

from __future__ import annotations

from dataclasses import dataclass

from classifiers.training.datasets import Pair

MIXTRAL_TO_GPT4: Pair = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")

ROUTELLM = "Ong et al. 2024, arXiv:2406.18665: its best there; needs an embedding call or an 8B model a request"
TFIDF_FIVE_FOLD = "TF-IDF + ridge, five-fold by stem on the benchmark itself; measured with the data"
TFIDF_TRAIN_ONLY = "TF-IDF + ridge, trained on other sources only; measured with the data"


@dataclass(frozen=True, slots=True)
class Published:
    """What a router reached on a whole dataset, contaminated prompts left out; None where it is not stated."""

    router: str
    dataset: str
    prompts: int
    apgr: float
    source: str
    cpt50: float | None = None
    cpt80: float | None = None
    pair: Pair = MIXTRAL_TO_GPT4


# The number of prompts tells the whole benchmark from a part of it, and says that contaminated ones were dropped.
MMLU, GSM8K, MT_BENCH = ("mmlu", 14_037), ("gsm8k", 1_307), ("mt_bench", 72)

PUBLISHED = (
    Published("RouteLLM, published", *MMLU, 0.603, ROUTELLM, 0.354, 0.716),
    Published("RouteLLM, published", *GSM8K, 0.622, ROUTELLM, 0.336, 0.633),
    Published("RouteLLM, published", *MT_BENCH, 0.802, ROUTELLM, 0.134, 0.313),
    Published("TF-IDF, own kind", *MMLU, 0.677, TFIDF_FIVE_FOLD),
    Published("TF-IDF, own kind", *GSM8K, 0.623, TFIDF_FIVE_FOLD),
    Published("TF-IDF, other sources", *MMLU, 0.493, TFIDF_TRAIN_ONLY),
    Published("TF-IDF, other sources", *GSM8K, 0.531, TFIDF_TRAIN_ONLY),
)


def published(dataset: str, pair: Pair, prompts: int) -> tuple[Published, ...]:
    """What is known for exactly this dataset, pair of models and number of prompts."""
    wanted = (dataset, pair, prompts)
    return tuple(each for each in PUBLISHED if (each.dataset, each.pair, each.prompts) == wanted)
