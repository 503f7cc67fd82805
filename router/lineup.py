"""Which of the configured deployments serve, what they take, and from which scores on the stronger ones do."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from classifiers import registry
from classifiers.adapted import adapt
from classifiers.artifact import ArtifactError, ArtifactMissing
from classifiers.base import FALLBACK_CLASSIFIER, TIERS, Classifier
from classifiers.calibration import CalibrationError, scores_of
from classifiers.calibration import read as read_own_table
from classifiers.posterior import PosteriorError
from classifiers.posterior import read as read_fit
from classifiers.quality import CalibratedThreshold, QualityTargets, quality_targets_of
from policies.catalog import Deployment
from router.config import AliasConfig, Config, DeploymentConfig
from router.errors import ConfigError
from router.prices import PriceBook

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lineup:
    """Which configured deployments serve, and why the others do not.

    Either all are real or all are simulated: mixing them would pass invented answers off as real ones.
    """

    active: tuple[DeploymentConfig, ...]
    disabled: tuple[tuple[str, str], ...]
    simulated: bool


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on a tier begins for an alias. `quality_target` is the share of quality that they keep."""

    moderate_from: float
    complex_from: float
    quality_target: float | None = None


def thresholds(name: str, alias: AliasConfig, classifier: Classifier, table: QualityTargets | None) -> Thresholds:
    """Those configured for the alias, else the classifier's own; or the one of its quality target, from the table.

    From a quality target's threshold on, the tier is complex at once: it parts the small model from the baseline, and
    says nothing of models in between. Raises ConfigError where the two are out of order, or no table keeps the target.
    """
    if alias.quality_target is None:
        return _tiers(name, alias, classifier)
    threshold = _calibrated(name, alias.quality_target, table).threshold
    return Thresholds(threshold, threshold, alias.quality_target)


def _tiers(name: str, alias: AliasConfig, classifier: Classifier) -> Thresholds:
    moderate_from = classifier.moderate_from if alias.moderate_from is None else alias.moderate_from
    complex_from = classifier.complex_from if alias.complex_from is None else alias.complex_from
    if moderate_from > complex_from:
        raise ConfigError(
            f"aliases.{name}: moderate_from {moderate_from} must not exceed complex_from {complex_from}; "
            "of the two, what is left out is the classifier's own"
        )
    return Thresholds(moderate_from, complex_from)


def _calibrated(name: str, quality_target: float, table: QualityTargets | None) -> CalibratedThreshold:
    """The entry of the table that keeps the alias's target. Raises ConfigError where none does."""
    found = f"aliases.{name}.quality_target: found {quality_target:g}"
    if table is None:
        raise ConfigError(
            f"{found}, but the configured classifier has no calibrated thresholds; allowed: moderate_from and "
            "complex_from, a classifier that was calibrated, or classifier.quality_targets with a table of your own"
        )
    try:
        return table.threshold_for(quality_target)
    except ValueError as error:
        raise ConfigError(f"{found}: {error}") from None


def choose_classifier(config: Config) -> Classifier:
    """The configured classifier, with the evidence on the smallest deployed model that has some.

    Without a trained model the rules do, and a warning says so. Raises ConfigError where a trained model or the file
    of evidence is there and cannot be used, and ValueError for a classifier that does not exist.
    """
    classifier = construct_classifier(config.classifier.name)
    path = config.classifier.evidence
    if path is None:
        return classifier
    try:
        return adapt(classifier, read_fit(path), _small_first(config))
    except PosteriorError as error:
        raise ConfigError(f"classifier.evidence: {error}") from None
    except ValueError as error:
        raise ConfigError(f"classifier.evidence: {path}: {error}") from None


def quality_table(config: Config, classifier: Classifier) -> QualityTargets | None:
    """The operator's own table of quality targets where one is configured, else the one that the classifier brings.

    `classifier` is the one that `choose_classifier` chose. Raises ConfigError where the file cannot be used, or holds
    for other scores.
    """
    path = config.classifier.quality_targets
    if path is None:
        return quality_targets_of(classifier)
    try:
        own = read_own_table(path)
    except CalibrationError as error:
        raise ConfigError(f"classifier.quality_targets: {error}") from None
    scores = scores_of(classifier, sha256_of(config.classifier.evidence))
    if own.scores != scores:
        raise ConfigError(
            f"classifier.quality_targets: {path}: was calibrated for the scores of {own.scores}; allowed are those of "
            f"the configured {scores}: calibrate anew"
        )
    return own.table


def sha256_of(path: Path | None) -> str:
    """Of a file's bytes; of no file, the empty text. Raises ConfigError where it cannot be read."""
    try:
        return "" if path is None else sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None


def construct_classifier(name: str) -> Classifier:
    """By name, without evidence; raises as `choose_classifier` does."""
    try:
        return registry.create(name)
    except ArtifactMissing as error:
        logger.warning("the rules judge in place of the classifier %s: %s", name, error)
        return registry.create(FALLBACK_CLASSIFIER)
    except ArtifactError as error:
        raise ConfigError(f"classifier.name: {name}: {error}") from None


def _small_first(config: Config) -> list[str]:
    """The names by which evidence may call a deployed model: the deployment's own, the wire's, the price's."""
    ordered = sorted(config.deployments, key=lambda deployment: TIERS.index(deployment.tier))
    # Beside the most capable, some are small; where all are alike, each may be.
    small = [deployment for deployment in ordered if deployment.tier != ordered[-1].tier] or ordered
    return list(dict.fromkeys(name for each in small for name in (each.name, each.model, each.price)))


def line_up(config: Config, environ: Mapping[str, str] = os.environ) -> Lineup:
    """Raises ConfigError where `simulate: never` leaves nothing to serve with."""
    gaps = {deployment.name: deployment.missing(environ) for deployment in config.deployments}
    disabled = tuple((name, gap) for name, gap in gaps.items() if gap is not None)
    active = tuple(deployment for deployment in config.deployments if gaps[deployment.name] is None)
    real = [deployment for deployment in active if deployment.provider != "simulated"]
    if config.simulate == "always" or (not real and config.simulate == "auto"):
        return Lineup(config.deployments, (), simulated=True)
    if not real:
        missing = "; ".join(f"{name}: {gap}" for name, gap in disabled)
        raise ConfigError(f"no deployment can be used, and simulate is 'never': {missing}")
    return Lineup(tuple(real), disabled, simulated=False)


def baseline_of(config: Config, active: Container[str], wanted_by: str) -> str:
    """The name of the deployment that answers as everything would have been answered; `wanted_by` is the key that asks.

    Raises ConfigError where none is among the `active`.
    """
    for name in config.baseline_deployments:
        if name in active:
            return name
    raise ConfigError(
        f"{wanted_by}: needs a deployment of the baseline {config.baseline!r} that can be used; configured are: "
        f"{', '.join(config.baseline_deployments)}"
    )


def deployment_of(settings: DeploymentConfig, prices: PriceBook, simulated: bool = False) -> Deployment:
    """As configured; what is left open there is as the price file has it. Raises UnknownModel."""
    info = prices.model(settings.price)
    context_window = settings.context_window or info.context_window
    max_output_tokens = settings.max_output_tokens or info.max_output_tokens
    told = settings.max_output_tokens is not None or settings.max_tokens_field is not None
    return Deployment(
        name=settings.name,
        provider_name=settings.provider_name,
        model=settings.price if simulated else settings.model,
        tier=settings.tier,
        context_window=context_window,
        max_output_tokens=max_output_tokens,
        limits_output=told and max_output_tokens < context_window,
        capabilities=info.capabilities if settings.capabilities is None else settings.capabilities,
        prices=info.prices,
        tokenizer=info.tokenizer,
        simulated=simulated,
        image_tokens=info.image_tokens,
    )
