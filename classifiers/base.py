"""What a classifier sees and says: `Prompt` in, `Classification` out."""

from __future__ import annotations

from typing import Literal, Protocol

from classifiers.records import record

Tier = Literal["simple", "moderate", "complex"]
TIERS: tuple[Tier, ...] = ("simple", "moderate", "complex")

MODERATE_FROM = 0.35
"""The score from which on a request counts as moderate, unless configuration says otherwise."""
COMPLEX_FROM = 0.65
"""And from which on as complex."""

DEFAULT_CLASSIFIER, FALLBACK_CLASSIFIER = "learned", "heuristic"
"""By name: what judges unless configuration says otherwise, and what does where no trained model is there."""

ResponseFormat = Literal["text", "json_object", "json_schema"]


@record()
class Message:
    """One turn of the conversation; `text` joins the text parts of its content."""

    role: str
    text: str
    image_count: int = 0


@record()
class Prompt:
    """The whole request as a classifier may look at it; the newest message comes last.

    `application` names who asks (the team or the key): the same words from another may be another task.
    """

    messages: tuple[Message, ...]
    tool_count: int = 0
    response_format: ResponseFormat = "text"
    max_output_tokens: int | None = None
    application: str = ""


@record()
class OutputLength:
    """How long the small model's answer is likely to be, in tokens: the mean, and what 95 of 100 do not exceed."""

    expected_tokens: int
    p95_tokens: int


@record()
class Classification:
    """How hard a request is.

    `score` in [0, 1] estimates the probability that the small model's answer falls short of the
    baseline's. `signals` names what moved the score, strongest first, for people to read. `score_sd` is the
    standard deviation of that estimate, `fingerprint` the id of the request's stable part and `task` the model's own
    name for the kind of request it is; each is None where the classifier does not know it. `prior_score` is the
    score before the operator's evidence moved it, None where none did.
    """

    score: float
    tier: Tier
    signals: tuple[str, ...]
    classifier: str
    score_sd: float | None = None
    output_length: OutputLength | None = None
    fingerprint: str | None = None
    task: str | None = None
    prior_score: float | None = None


class Classifier(Protocol):
    """Judges a prompt. Never raises, whatever the text; takes a fraction of a millisecond.

    Its tiers begin at its own thresholds, since the scores of two classifiers are spread differently.
    """

    moderate_from: float
    complex_from: float

    def classify(self, prompt: Prompt) -> Classification: ...


def tier_of(score: float, moderate_from: float, complex_from: float) -> Tier:
    """The tier of a score; each threshold belongs to the tier it opens."""
    if score >= complex_from:
        return "complex"
    return "moderate" if score >= moderate_from else "simple"
