"""A classifier and what the operator's traffic has taught about it, as one classifier."""

from __future__ import annotations

from collections.abc import Sequence

from classifiers.base import COMPLEX_FROM, MODERATE_FROM, Classification, Classifier, Prompt, tier_of
from classifiers.fingerprint import fingerprint
from classifiers.forest import Measuring
from classifiers.posterior import Estimate, Fit, Posterior

SUFFIX = "+evidence"
_NAMES = {"task": "kind", "application": "application", "opening": "template", "clause": "template"}
_MOVED_FROM = 0.05


class AdaptedClassifier:
    """Says what `inner` says, with the score moved by the evidence on the request's task.

    ValueError where the evidence holds a forest for other measurements than `inner` makes.
    """

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
        self._measuring = _measuring(inner, posterior)

    def classify(self, prompt: Prompt) -> Classification:
        """The inner classification with another score, its standard deviation, and how often its task was judged."""
        prior, stacked = self._stacked(prompt)
        mark = prior.fingerprint or fingerprint(prompt)
        estimate = self.posterior.estimate(stacked, prior.task, mark)
        like = ("like judged prompts",) if abs(stacked - prior.score) >= _MOVED_FROM else ()
        return Classification(
            estimate.score,
            tier_of(estimate.score, self.moderate_from, self.complex_from),
            _signals(estimate, like + prior.signals),
            prior.classifier + SUFFIX,
            estimate.sd,
            prior.output_length,
            mark,
            prior.task,
            prior.score,
        )

    def _stacked(self, prompt: Prompt) -> tuple[Classification, float]:
        """What `inner` says, and its score with that of the judged prompts, where there is a forest of them."""
        if self._measuring is None:
            prior = self.inner.classify(prompt)
            return prior, prior.score
        prior, measured = self._measuring.examine(prompt)
        return prior, self.posterior.stacked(prior.score, measured)


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


def _measuring(inner: Classifier, posterior: Posterior) -> Measuring | None:
    if posterior.stack is None:
        return None
    needed = posterior.stack.forest.width
    if not isinstance(inner, Measuring) or inner.measured_width != needed:
        found = inner.measured_width if isinstance(inner, Measuring) else 0
        raise ValueError(f"holds a forest over {needed} measurements, the classifier makes {found}: fit anew")
    return inner


def _signals(estimate: Estimate, others: tuple[str, ...]) -> tuple[str, ...]:
    if not estimate.known_by:
        return ("never judged", *others)
    times = round(estimate.judged)
    return (f"{_NAMES[estimate.known_by]} judged {times} time{'' if times == 1 else 's'}", *others)
