"""A classifier and what the operator's traffic has taught about it, as one classifier."""

from __future__ import annotations

from collections.abc import Sequence

from classifiers.base import COMPLEX_FROM, MODERATE_FROM, Classification, Classifier, Prompt, tier_of
from classifiers.fingerprint import fingerprint
from classifiers.posterior import Estimate, Fit, Posterior

SUFFIX = "+evidence"
_NAMES = {"task": "kind", "application": "application", "opening": "template", "clause": "template"}


class AdaptedClassifier:
    """Says what `inner` says, with the score moved by the evidence on the request's task."""

    def __init__(
        self,
        inner: Classifier,
        posterior: Posterior,
        moderate_from: float = MODERATE_FROM,
        complex_from: float = COMPLEX_FROM,
    ) -> None:
        self.inner = inner
        self.posterior = posterior
        self.moderate_from = moderate_from
        self.complex_from = complex_from

    def classify(self, prompt: Prompt) -> Classification:
        """The inner classification with another score, its standard deviation, and how often its task was judged."""
        prior = self.inner.classify(prompt)
        mark = prior.fingerprint or fingerprint(prompt)
        estimate = self.posterior.estimate(prior.score, prior.task, mark)
        return Classification(
            estimate.score,
            tier_of(estimate.score, self.moderate_from, self.complex_from),
            _signals(estimate, prior.signals),
            prior.classifier + SUFFIX,
            estimate.sd,
            prior.output_length,
            mark,
            prior.task,
            prior.score,
        )


def name_of(classifier: Classifier) -> str:
    """How a classifier signs what it says, version included."""
    return classifier.classify(Prompt(())).classifier


def adapt(inner: Classifier, fit: Fit, small_models: Sequence[str]) -> AdaptedClassifier:
    """The classifier with the evidence on the first of `small_models` that has some.

    ValueError where there is none, or where the fit was made for another classifier's scores: the sentence says what
    to do.
    """
    name = name_of(inner)
    if fit.prior != name:
        raise ValueError(f"was fitted to the scores of {fit.prior}, not of {name}: fit anew")
    posterior = fit.for_any_of(small_models)
    if posterior is None:
        raise ValueError(
            f"holds evidence on {', '.join(fit.small_models) or 'no small model'}; "
            f"deployed are {', '.join(small_models) or 'none'}"
        )
    return AdaptedClassifier(inner, posterior, inner.moderate_from, inner.complex_from)


def _signals(estimate: Estimate, others: tuple[str, ...]) -> tuple[str, ...]:
    if not estimate.known_by:
        return ("never judged", *others)
    times = round(estimate.judged)
    return (f"{_NAMES[estimate.known_by]} judged {times} time{'' if times == 1 else 's'}", *others)
