"""Configuration -> Services: the one place that chooses concrete classes."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import redis

from classifiers.base import Classifier
from classifiers.quality import QualityTargets
from policies.baseline import Baseline
from policies.catalog import Deployment
from router.answer_lengths import answer_lengths_beside
from router.clock import SYSTEM_CLOCK, Clock
from router.config import Config, DeploymentConfig, load_config
from router.errors import ConfigError
from router.lineup import baseline_of, choose_classifier, deployment_of, line_up, quality_table, thresholds
from router.pipeline.accounts import Accountant
from router.pipeline.authenticate import Authenticator
from router.pipeline.chat import CachePolicy, ChatPipeline
from router.pipeline.circuit import Circuit
from router.pipeline.decide import Decider
from router.pipeline.dispatch import Dispatcher, RetryPolicy, Target, Timeouts
from router.pipeline.models import Alias, Models
from router.pipeline.respond import Responder
from router.pipeline.settle import Settler
from router.pipeline.shadow import CLOSE_SECONDS, Shadower
from router.pipeline.shadow_call import ShadowCall
from router.prices import PriceBook, load_prices
from router.providers.base import Provider
from router.providers.litellm_provider import LiteLLMEndpoint, LiteLLMProvider
from router.providers.openai_wire import Endpoint, OpenAIWireProvider
from router.services import AdminServices, Services
from router.stores.local_admission import LocalAdmissionStore
from router.stores.redis_admission import SCRIPTS, RedisAdmissionStore
from router.stores.redis_budgets import RedisBudgets
from router.stores.redis_connection import RedisConnection
from router.stores.redis_server import embedded_url
from router.stores.spool import Spool
from router.stores.sql_directory import SqlDirectory
from router.stores.sql_engine import create_ledger_engine
from router.stores.sql_ledger import SqlLedger
from router.telemetry import Gauges, Telemetry
from router.tokenizers import TokenCounter, load_encoding

SIMULATED_KEY = "simulated"


def redis_url(config: Config) -> str:
    return config.redis.url or embedded_url(config.data_dir / "redis")


def sql_url(config: Config) -> str:
    return config.sql.url or f"sqlite:///{(config.data_dir / 'ledger.sqlite').resolve()}"


def redis_client(config: Config) -> redis.Redis:
    """redis-py, for everything off the hot path."""
    timeout_s = config.redis.timeout_seconds
    return redis.Redis.from_url(redis_url(config), socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def admin_services(config: Config) -> AdminServices:
    engine = create_ledger_engine(sql_url(config))
    return AdminServices(
        config=config,
        engine=engine,
        directory=SqlDirectory(engine),
        ledger=SqlLedger(engine),
        budgets=RedisBudgets(redis_client(config)),
        baseline_deployments=config.baseline_deployments,
    )


def open_admin(config_path: Path) -> AdminServices:
    """For the command line: works beside a running server, or without one."""
    return admin_services(load_config(config_path))


def rebuild_counters(admin: AdminServices, now: datetime) -> bool:
    """Takes the budget counters from the ledger, for a Redis that is new or lost its data.

    False where something was settled meanwhile: try again.
    """
    return admin.budgets.rebuild(admin.directory.list_budgets(), admin.used_in, now)


@asynccontextmanager
async def open_services(
    config: Config, *, simulated_url: str | None, worker_id: str | None = None, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[Services]:
    """A worker's services; on leaving, settlements are flushed. Raises ConfigError and StoreUnavailable.

    `simulated_url` is where the simulated models listen, None where real ones serve.
    """
    lineup = line_up(config)
    prices = load_prices(config.prices)
    await _load_tokenizer(prices, config.baseline)
    deployments = {d.name: deployment_of(d, prices, lineup.simulated) for d in lineup.active}
    admin = admin_services(config)
    connection = await RedisConnection.open(redis_url(config), timeout_s=config.redis.timeout_seconds, scripts=SCRIPTS)
    worker_id = worker_id or secrets.token_hex(8)
    store = RedisAdmissionStore(connection, worker_id)
    spool = Spool(config.data_dir, worker_id)
    budgets = config.budgets
    admission = LocalAdmissionStore(
        store, spool, when_unavailable=budgets.when_unavailable, allowance_nusd=budgets.local_allowance_nusd
    )
    await store.start()
    targets = {d.name: _target(d, deployments[d.name], config, simulated_url) for d in lineup.active}
    # Windows are told by the clock of Redis, alike for all workers, whatever their machines' clocks say.
    shared_clock = Clock(lambda: clock.wall() + store.clock_offset_s, clock.monotonic)
    services = _services(config, shared_clock, prices, deployments, admin, admission, targets, lineup.simulated)
    try:
        yield services
    finally:
        await services.pipeline.close(min(CLOSE_SECONDS, config.server.drain_seconds))
        await store.drain(config.server.drain_seconds)
        await store.close()
        spool.close()
        for target in targets.values():
            await target.provider.close()
        admin.engine.dispose()


async def _load_tokenizer(prices: PriceBook, baseline: str) -> None:
    """Every request is counted with it: the first must not wait until it is loaded."""
    tokenizer = prices.model(baseline).tokenizer
    if tokenizer is not None:
        await asyncio.to_thread(load_encoding, tokenizer)


def _services(
    config: Config,
    clock: Clock,
    prices: PriceBook,
    deployments: Mapping[str, Deployment],
    admin: AdminServices,
    admission: LocalAdmissionStore,
    targets: Mapping[str, Target],
    simulated: bool,
) -> Services:
    classifier = choose_classifier(config)
    table = quality_table(config, classifier)
    models = Models(_aliases(config, deployments, classifier, table), deployments)
    accountant = _accountant(config, prices, deployments)
    retries = config.retries
    dispatcher = Dispatcher(
        targets, RetryPolicy(retries.max_attempts, retries.base_seconds, retries.max_seconds), clock
    )
    logs = config.logging
    shadows_lost: Counter[str] = Counter()
    telemetry = Telemetry(logs.requests, lambda: _gauges(admission, dispatcher, shadows_lost), log_prompts=logs.prompts)
    responder = Responder(accountant, targets, clock, config.cache.max_entry_bytes)
    settler = Settler(admission, telemetry, config.cache.ttl_seconds)
    new_request_id = request_ids(clock)

    def shadow_call(target: Target) -> ShadowCall:
        return ShadowCall(
            budget=config.shadow.budget(),
            target=target,
            accountant=accountant,
            responder=responder,
            admission=admission,
            settler=settler,
            clock=clock,
            new_request_id=new_request_id,
        )

    authenticator = Authenticator(admin.directory.principal_by_hash, clock)
    pipeline = ChatPipeline(
        authenticator=authenticator,
        decider=Decider(models, classifier, dispatcher.unavailable),
        dispatcher=dispatcher,
        responder=responder,
        accountant=accountant,
        admission=admission,
        settler=settler,
        cache=_cache_policy(config),
        telemetry=telemetry,
        clock=clock,
        new_request_id=new_request_id,
        shadower=_shadower(config, models, targets, shadow_call, shadows_lost) if config.shadow.share else None,
    )
    return Services(config, pipeline, authenticator, models, dispatcher, admission, telemetry, admin, simulated)


def _shadower(
    config: Config,
    models: Models,
    targets: Mapping[str, Target],
    call_of: Callable[[Target], ShadowCall],
    losses: Counter[str],
) -> Shadower:
    deployment = models.deployments[baseline_of(config, models.deployments, "shadow.share")]
    return Shadower(
        share=config.shadow.share,
        deployment=deployment,
        models=models,
        call=call_of(targets[deployment.name]),
        losses=losses,
    )


def _gauges(admission: LocalAdmissionStore, dispatcher: Dispatcher, shadows_lost: Counter[str]) -> Gauges:
    circuits_open = {name: state == "open" for name, state in dispatcher.circuit_states().items()}
    return Gauges(admission.unsettled, circuits_open, admission.used_nusd, shadows_lost)


def request_ids(clock: Clock) -> Callable[[], str]:
    """Ids of the second, in 32 bits, and 64 random bits, for which the kernel is asked once for many.

    In the order of their time, since the ledger's index by id is then written at its end, and not all over: a fifth of
    what it takes to book a record.
    """
    pool: list[str] = []

    def new_request_id() -> str:
        if not pool:
            digits = os.urandom(8 * 256).hex()
            pool.extend(digits[at : at + 16] for at in range(0, len(digits), 16))
        return f"chatcmpl-{int(clock.wall()) & 0xFFFFFFFF:08x}{pool.pop()}"

    return new_request_id


def _cache_policy(config: Config) -> CachePolicy:
    cache = config.cache
    return CachePolicy(
        enabled=cache.enabled,
        per_team=cache.scope == "team",
        ttl_seconds=cache.ttl_seconds,
        max_entry_bytes=cache.max_entry_bytes,
        max_temperature=cache.max_temperature,
    )


def _accountant(config: Config, prices: PriceBook, deployments: Mapping[str, Deployment]) -> Accountant:
    info = prices.model(config.baseline)
    names = {info.tokenizer, *(deployment.tokenizer for deployment in deployments.values())}
    counters = {name: TokenCounter(name) for name in names}
    lengths = answer_lengths_beside(config.prices)
    return Accountant(Baseline(config.baseline, info.prices, info.tokenizer, lengths), counters)


def _aliases(
    config: Config, deployments: Mapping[str, Deployment], classifier: Classifier, table: QualityTargets | None
) -> dict[str, Alias]:
    aliases = {}
    for name, settings in config.aliases.items():
        wanted = settings.deployments or tuple(deployments)
        candidates = tuple(deployments[wanted_name] for wanted_name in wanted if wanted_name in deployments)
        if not candidates:
            raise ConfigError(f"aliases.{name}: none of its deployments can be used: {', '.join(wanted)}")
        limits = thresholds(name, settings, classifier, table)
        observes = settings.mode == "observe"
        aliases[name] = Alias(
            name,
            candidates,
            limits.moderate_from,
            limits.complex_from,
            settings.max_fallbacks,
            limits.quality_target,
            answered_by=deployments[baseline_of(config, deployments, f"aliases.{name}.mode")] if observes else None,
            shadow=settings.shadow,
        )
    return aliases


def _target(settings: DeploymentConfig, deployment: Deployment, config: Config, simulated_url: str | None) -> Target:
    timeouts = settings.timeouts
    return Target(
        name=settings.name,
        provider=_provider(settings, simulated_url),
        circuit=Circuit(config.breaker.failures, config.breaker.open_seconds),
        timeouts=Timeouts(timeouts.first_token_seconds, timeouts.total_seconds),
        model=deployment.model,
        stream_usage=settings.stream_usage,
        max_tokens_field=settings.max_tokens_field,
    )


def _provider(settings: DeploymentConfig, simulated_url: str | None) -> Provider:
    timeouts = settings.timeouts
    if simulated_url is not None:
        return OpenAIWireProvider(Endpoint(settings.name, simulated_url, SIMULATED_KEY, timeouts.connect_seconds))
    api_key = os.environ.get(settings.api_key_env) if settings.api_key_env else None
    base_url = settings.resolved_base_url(os.environ)
    if settings.provider == "litellm":
        return LiteLLMProvider(
            LiteLLMEndpoint(settings.name, api_key, base_url, timeouts.connect_seconds, timeouts.total_seconds)
        )
    assert base_url is not None  # line_up left out what has none
    return OpenAIWireProvider(Endpoint(settings.name, base_url, api_key, timeouts.connect_seconds))
