"""What a replay reckons with: the deployments, the prices, the settings to be compared. Workers get a copy each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from classifiers.adapted import name_of
from classifiers.base import Classifier
from classifiers.quality import QualityTargets
from policies.answer_lengths import VERSION, AnswerLengths
from policies.baseline import Baseline
from policies.catalog import Deployment
from router.answer_lengths import FILE_NAME, answer_lengths_beside
from router.config import AliasConfig, CacheConfig, Config
from router.errors import ConfigError
from router.lineup import choose_classifier, deployment_of, quality_table, thresholds
from router.prices import PriceBook, load_prices
from router.replay.batches import BatchInputs


@dataclass(frozen=True, slots=True)
class Setting:
    """From which scores on a stronger tier answers; `quality_target` is the one that asks for them, if any."""

    name: str
    moderate_from: float
    complex_from: float
    quality_target: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`models` maps names in the log to names of the price list, `columns` what is read to its name in the log.

    `now_ms` is when the replay began: what a log says happened later is a mistake.
    """

    config: Config
    alias: str
    candidates: tuple[Deployment, ...]
    max_fallbacks: int
    baseline: Baseline
    settings: tuple[Setting, ...]
    classifier: str
    calibrated_on: str
    now_ms: int
    format: str | None
    columns: Mapping[str, str]
    models: Mapping[str, str]
    lengths: AnswerLengths
    batches: BatchInputs

    @property
    def cache(self) -> CacheConfig:
        return self.config.cache

    def digest(self) -> str:
        """Of everything that the result depends on, but for the logs and the time."""
        said = {
            "alias": self.alias,
            "candidates": self.candidates,
            "fallbacks": self.max_fallbacks,
            "baseline": self.baseline,
            "settings": self.settings,
            "classifier": self.classifier,
            "cache": self.cache.model_dump(mode="json"),
            "format": self.format,
            "columns": dict(self.columns),
            "models": dict(self.models),
            "prices": _sha256(self.config.prices),
            "lengths": [VERSION, _sha256(self.config.prices.with_name(FILE_NAME))],
        }
        return sha256(orjson.dumps(said, _as_json, orjson.OPT_SORT_KEYS)).hexdigest()


def make_plan(
    config: Config,
    alias: str | None,
    targets: Sequence[float] | None,
    now_ms: int,
    log_format: str | None = None,
    columns: Mapping[str, str] | None = None,
    models: Mapping[str, str] | None = None,
    batches: BatchInputs = BatchInputs(),  # noqa: B008 - frozen
) -> Plan:
    """What a server with this configuration would decide with. Without `targets`, all that are calibrated.

    Raises ConfigError.
    """
    prices = load_prices(config.prices)
    classifier = choose_classifier(config)
    table = quality_table(config, classifier)
    name, settings = _alias(config, alias)
    wanted = table.allowed() if targets is None and table is not None else targets or ()
    compared = [Setting(f"{name}, as configured", *_configured(name, settings, classifier, table))]
    for target in sorted(set(wanted)):
        found = thresholds(name, AliasConfig(quality_target=target), classifier, table)
        compared.append(Setting(f"{target:g}", found.moderate_from, found.complex_from, target))
    info = prices.model(config.baseline)
    return Plan(
        config=config,
        alias=name,
        candidates=_candidates(config, settings, prices),
        max_fallbacks=settings.max_fallbacks,
        baseline=Baseline(config.baseline, info.prices, info.tokenizer, answer_lengths_beside(config.prices)),
        settings=tuple(compared),
        classifier=name_of(classifier),
        calibrated_on=table.calibrated_on if table is not None else "",
        now_ms=now_ms,
        format=log_format,
        columns=columns or {},
        models=_known(models or {}, prices),
        lengths=answer_lengths_beside(config.prices),
        batches=batches,
    )


def _configured(
    name: str, alias: AliasConfig, classifier: Classifier, table: QualityTargets | None
) -> tuple[float, float, float | None]:
    found = thresholds(name, alias, classifier, table)
    return found.moderate_from, found.complex_from, found.quality_target


def _alias(config: Config, name: str | None) -> tuple[str, AliasConfig]:
    if not config.aliases:
        raise ConfigError("aliases: found none; a replay needs one, whose deployments it routes to")
    wanted = name or next(iter(config.aliases))
    if wanted not in config.aliases:
        raise ConfigError(f"--alias: found {wanted!r}; configured are {', '.join(sorted(config.aliases))}")
    return wanted, config.aliases[wanted]


def _candidates(config: Config, alias: AliasConfig, prices: PriceBook) -> tuple[Deployment, ...]:
    """All deployments of the alias, also those whose credentials are not set here: nothing is called."""
    wanted = alias.deployments or tuple(deployment.name for deployment in config.deployments)
    by_name = {deployment.name: deployment for deployment in config.deployments}
    return tuple([deployment_of(by_name[name], prices) for name in wanted])


def _known(models: Mapping[str, str], prices: PriceBook) -> Mapping[str, str]:
    for name in models.values():
        prices.model(name)
    return models


def _as_json(value: Any) -> Any:
    """Sets in an order, which their own differs from process to process."""
    return sorted(value) if isinstance(value, frozenset) else repr(value)


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.exists() else ""
