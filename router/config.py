"""The configuration: frozen pydantic models, loaded from YAML. Unknown keys are errors.

configs/parsimony.yaml is the annotated example and names every key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from classifiers.base import DEFAULT_CLASSIFIER, Tier
from policies.budget import (
    ORGANIZATION,
    SUBJECT_KINDS,
    UNITS,
    Action,
    Budget,
    SubjectKind,
    Unit,
    WhenUnavailable,
)
from policies.budget_terms import parse_limit, parse_share, window_or_default
from policies.catalog import Capability
from policies.money import parse_usd
from policies.spend import SHADOW_TAG
from router.config_hardware import HardwareUse
from router.config_ledger import LedgerConfig, SqlConfig
from router.config_reports import ReportsConfig
from router.config_shadow import ShadowConfig
from router.errors import ConfigError, InvalidRequest
from router.sections import Dollars, EnvironmentName, Name, Score, Seconds, Section, Share
from router.yaml_file import UnreadableFile, problems, read_yaml


class ServerConfig(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=256)
    max_body_bytes: int = Field(default=8_388_608, ge=1_024)
    drain_seconds: Seconds = 30


class RedisConfig(Section):
    url: str | None = None
    timeout_seconds: Seconds = 2


class LoggingConfig(Section):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    requests: bool = False
    prompts: bool = False


class ClassifierConfig(Section):
    name: str = DEFAULT_CLASSIFIER
    evidence: Path | None = None
    quality_targets: Path | None = None


class CacheConfig(Section):
    enabled: bool = True
    scope: Literal["team", "everyone"] = "team"
    ttl_seconds: int = Field(default=86_400, ge=1)
    max_entry_bytes: int = Field(default=262_144, ge=0)
    max_temperature: float = Field(default=1.0, ge=0)


class RetryConfig(Section):
    max_attempts: int = Field(default=2, ge=1, le=10)
    base_seconds: Seconds = 0.1
    max_seconds: Seconds = 5


class BreakerConfig(Section):
    failures: int = Field(default=5, ge=1)
    open_seconds: Seconds = 15


class WebhookConfig(Section):
    """Where alerts are posted. Its URL and its secret are credentials, so the environment holds them."""

    url_env: EnvironmentName
    secret_env: EnvironmentName | None = None
    format: Literal["json", "slack"] = "json"
    timeout_seconds: float = Field(default=5, gt=0, le=60)

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What keeps it from being used, or None. A secret that is not set must not make alerts go out unsigned."""
        if not environ.get(self.url_env):
            return f"{self.url_env} is not set"
        if not environ[self.url_env].startswith(("https://", "http://")):
            return f"{self.url_env} must hold a URL that begins with https:// or http://"
        if self.secret_env and not environ.get(self.secret_env):
            return f"{self.secret_env} is not set"
        return None


class AlertsConfig(Section):
    webhooks: tuple[WebhookConfig, ...] = Field(default=(), max_length=16)


class DeclaredBudget(Section):
    """A budget that the configuration holds: whose it is, one limit, and the terms of `policies.budget.Budget`."""

    organization: Literal[True] | None = None
    team: str | None = None
    project: str | None = None
    key: str | None = None
    user: str | None = None
    tag: str | None = None
    limit_usd: Dollars | None = None
    limit_tokens: int | None = Field(default=None, ge=0, strict=True)
    limit_requests: int | None = Field(default=None, ge=0, strict=True)
    limit_parallel: int | None = Field(default=None, ge=0, strict=True)
    window: str | None = None
    timezone: str = "UTC"
    model: str | None = None
    tier: Tier | None = None
    action: Action = "cache_only"
    downgrade_from: Share | None = None
    downgrade_to: Tier = "simple"
    alert_at: tuple[Share, ...] = ("80%", "100%")
    paced: bool = False
    when_unavailable: WhenUnavailable | None = None

    @property
    def subject(self) -> tuple[SubjectKind, str]:
        kind = self._only("", SUBJECT_KINDS)
        return kind, ORGANIZATION if kind == "organization" else getattr(self, kind)

    def budget(self) -> Budget:
        """Raises ValueError where it holds what no budget can."""
        kind, subject_id = self.subject
        unit: Unit = self._only("limit_", UNITS)
        window = window_or_default(self.window, unit)
        return Budget(
            subject_kind=kind,
            subject_id=subject_id,
            limit=parse_limit(getattr(self, f"limit_{unit}"), unit),
            unit=unit,
            window=window,
            timezone=self.timezone,
            model=self.model,
            tier=self.tier,
            action=self.action,
            downgrade_from=None if self.downgrade_from is None else parse_share(self.downgrade_from),
            downgrade_to=self.downgrade_to,
            alert_shares=tuple(map(parse_share, self.alert_at)),
            paced=self.paced,
            when_unavailable=self.when_unavailable,
            source="config",
        )

    def _only(self, prefix: str, names: Iterable[Any]) -> Any:
        """The one of `names` that is given. Raises ValueError."""
        keys = {name: f"{prefix}{name}" for name in names}
        given = [name for name, key in keys.items() if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(keys[name] for name in given) or "none"
            raise ValueError(f"exactly one of {', '.join(keys.values())} must be given; found {found}")
        return given[0]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.tag == SHADOW_TAG:
            raise ValueError(f"the tag {SHADOW_TAG!r} is limited by shadow.limit_usd")
        self.budget()
        return self


class BudgetsConfig(Section):
    when_unavailable: WhenUnavailable = "refuse"
    local_allowance_usd: Dollars = "1.00"
    declared: tuple[DeclaredBudget, ...] = ()

    @property
    def local_allowance_nusd(self) -> int:
        """What one process may spend on its own on each budget while Redis is away."""
        return parse_usd(self.local_allowance_usd)

    def declared_budgets(self) -> tuple[Budget, ...]:
        return tuple(declared.budget() for declared in self.declared)

    @model_validator(mode="after")
    def _once(self) -> Self:
        ids = [budget.id for budget in self.declared_budgets()]
        repeated = sorted({id_ for id_ in ids if ids.count(id_) > 1})
        if repeated:
            raise ValueError(f"declared holds {', '.join(map(repr, repeated))} more than once")
        return self


class TimeoutConfig(Section):
    connect_seconds: Seconds = 3
    first_token_seconds: Seconds = 60
    total_seconds: Seconds = 600


class DeploymentConfig(Section):
    name: Name
    provider: Literal["openai", "litellm", "simulated"] = "openai"
    provider_name: str
    model: str = Field(min_length=1)
    price: str
    tier: Tier
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    base_url_env: str | None = None
    api_key_env: str | None = None
    context_window: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    capabilities: frozenset[Capability] | None = None
    stream_usage: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    timeouts: TimeoutConfig = TimeoutConfig()
    hardware: HardwareUse | None = None

    def resolved_base_url(self, environ: Mapping[str, str]) -> str | None:
        from_env = environ.get(self.base_url_env, "") if self.base_url_env else ""
        return from_env or self.base_url

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What keeps this deployment from being used, or None."""
        if self.provider == "simulated":
            return None
        if self.api_key_env and not environ.get(self.api_key_env):
            return f"{self.api_key_env} is not set"
        if self.provider == "openai" and not self.resolved_base_url(environ):
            return f"{self.base_url_env} is not set"
        return None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.provider == "openai" and not (self.base_url or self.base_url_env):
            raise ValueError(f"deployment {self.name!r} needs base_url or base_url_env")
        return self


class AliasConfig(Section):
    """`mode` `observe` sends everything to the baseline, and records where routing would have sent it. `shadow` false:
    none of its requests is sent to the baseline as well, to be measured."""

    mode: Literal["route", "observe"] = "route"
    shadow: bool = True
    deployments: tuple[Name, ...] | None = Field(default=None, min_length=1)
    moderate_from: Score | None = None
    complex_from: Score | None = None
    quality_target: float | None = Field(default=None, gt=0, le=1)
    max_fallbacks: int = Field(default=2, ge=0, le=10)

    @model_validator(mode="after")
    def _one_way_to_set_thresholds(self) -> Self:
        beside = [key for key in ("moderate_from", "complex_from") if getattr(self, key) is not None]
        if self.quality_target is not None and beside:
            raise ValueError(
                f"quality_target {self.quality_target:g} sets both thresholds, and found beside it is "
                f"{' and '.join(beside)}; allowed is either quality_target or moderate_from and complex_from"
            )
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.moderate_from is not None and self.complex_from is not None and self.moderate_from > self.complex_from:
            raise ValueError(f"moderate_from {self.moderate_from} must not exceed complex_from {self.complex_from}")
        return self


class Config(Section):
    server: ServerConfig = ServerConfig()
    data_dir: Path = Path("data")
    redis: RedisConfig = RedisConfig()
    sql: SqlConfig = SqlConfig()
    ledger: LedgerConfig = LedgerConfig()
    logging: LoggingConfig = LoggingConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    cache: CacheConfig = CacheConfig()
    retries: RetryConfig = RetryConfig()
    breaker: BreakerConfig = BreakerConfig()
    alerts: AlertsConfig = AlertsConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    shadow: ShadowConfig = ShadowConfig()
    reports: ReportsConfig = ReportsConfig()
    prices: Path = Path("prices.yaml")
    hardware: Path = Path("hardware.yaml")
    router_hardware: HardwareUse | None = None
    baseline: str = "gpt-4"
    simulate: Literal["auto", "always", "never"] = "auto"
    deployments: tuple[DeploymentConfig, ...] = Field(min_length=1)
    aliases: dict[Name, AliasConfig]

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [deployment.name for deployment in self.deployments]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"deployments repeat the name {', '.join(map(repr, repeated))}")
        both = sorted(set(names) & set(self.aliases))
        if both:
            raise ValueError(f"{', '.join(map(repr, both))} names both an alias and a deployment")
        for alias, settings in self.aliases.items():
            unknown = sorted(set(settings.deployments or ()) - set(names))
            if unknown:
                raise ValueError(
                    f"aliases.{alias}.deployments names {', '.join(map(repr, unknown))}; "
                    f"configured are {', '.join(map(repr, sorted(names)))}"
                )
        return self

    @model_validator(mode="after")
    def _budgets_of_deployments(self) -> Self:
        for at, declared in enumerate(self.budgets.declared):
            if declared.model is not None and declared.model not in self.deployment_names:
                raise ValueError(f"budgets.declared.{at}.model: {self._no_deployment(declared.model)}")
        return self

    @model_validator(mode="after")
    def _baseline_is_deployed(self) -> Self:
        needing, known = self.needing_baseline, self.baseline_deployments
        if needing and not known:
            raise ValueError(f"{needing[0]} needs a deployment whose price is the baseline's, {self.baseline!r}")
        if self.shadow.deployment not in (None, *known):
            raise ValueError(
                f"shadow.deployment is {self.shadow.deployment!r}; it must be a deployment of the baseline "
                f"{self.baseline!r}: {', '.join(map(repr, known)) or 'there is none'}"
            )
        return self

    @property
    def needing_baseline(self) -> tuple[str, ...]:
        """The keys that ask for a deployment of the baseline's model."""
        observing = tuple(f"aliases.{name}.mode" for name, alias in self.aliases.items() if alias.mode == "observe")
        return (*observing, "shadow.share") if self.shadow.share else observing

    @property
    def baseline_deployments(self) -> tuple[str, ...]:
        """Those of the baseline's model, the one that measures first."""
        names = [deployment.name for deployment in self.deployments if deployment.price == self.baseline]
        return tuple(sorted(names, key=lambda name: name != self.shadow.deployment))

    def declared_budgets(self) -> tuple[Budget, ...]:
        """What `budgets` declares, and what limits measuring, where anything is measured."""
        return self.budgets.declared_budgets() + ((self.shadow.budget(),) if self.shadow.share else ())

    @property
    def deployment_names(self) -> tuple[str, ...]:
        return tuple(sorted(deployment.name for deployment in self.deployments))

    def _no_deployment(self, name: str) -> str:
        return f"there is no deployment {name!r}; configured are {', '.join(map(repr, self.deployment_names))}"

    def check_deployment(self, name: str | None) -> None:
        """Raises InvalidRequest where a budget would count what no deployment answers."""
        if name is not None and name not in self.deployment_names:
            raise InvalidRequest(self._no_deployment(name), param="model")

    def check_model_names(self, names: Iterable[str]) -> None:
        """Raises InvalidRequest where a key would be limited to a model that nobody can ask for."""
        known = sorted([*self.aliases, *(deployment.name for deployment in self.deployments)])
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InvalidRequest(
                f"there is no model {', '.join(map(repr, unknown))}; configured are: {', '.join(known)}",
                param="allowed_models",
            )


def default_config_path(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("PARSIMONY_CONFIG") or "configs/parsimony.yaml")


def load_config(path: Path) -> Config:
    """Reads `path`. Relative paths inside count from its folder, but `data_dir` from the working directory.

    Raises ConfigError that names the file, the key, what was found and what is allowed.
    """
    try:
        values = read_yaml(path) or {}
    except UnreadableFile as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; it must be a mapping of sections")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        hint = "; `parsimony config schema` lists the known ones"
        raise ConfigError("\n".join(f"{path}: {line}" for line in problems(error, hint))) from error
    named = {"evidence": config.classifier.evidence, "quality_targets": config.classifier.quality_targets}
    beside = {key: (path.parent / file).resolve() for key, file in named.items() if file is not None}
    return config.model_copy(
        update={
            "prices": (path.parent / config.prices).resolve(),
            "hardware": (path.parent / config.hardware).resolve(),
            "classifier": config.classifier.model_copy(update=beside),
        }
    )
