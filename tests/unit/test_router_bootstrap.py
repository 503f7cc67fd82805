"""Configuration becomes services; what cannot be served ends the start with a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from classifiers.heuristic import NAME
from classifiers.posterior import LEVELS, Fit, Level, Posterior
from classifiers.registry import CLASSIFIERS
from router.bootstrap import open_services, redis_url, request_ids, sql_url
from router.clock import SYSTEM_CLOCK, Clock
from router.config import Config, load_config
from router.errors import ConfigError, StoreUnavailable
from router.openai.requests import parse_chat_request
from router.pipeline.models import Alias
from router.stores.base import Principal
from router.stores.redis_server import embedded_url
from router.stores.sql_detail import pack_id
from tests.support.administration import write_config
from tests.support.calibrated import OWN_THRESHOLD, CalibratedRules, own_table
from tests.support.redis_server import redis_server

NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


def config(folder: Path, url: str) -> Config:
    return load_config(write_config(folder, url))


async def test_aliases_lead_to_deployments_with_their_prices(tmp_path: Path, url: str) -> None:
    async with open_services(config(tmp_path, url), simulated_url=NOBODY) as services:
        auto = services.models.resolve("auto")
        assert isinstance(auto, Alias)
        assert [(d.name, d.tier, d.simulated) for d in auto.candidates] == [
            ("small", "simple", True),
            ("large", "complex", True),
        ]
        assert (auto.moderate_from, auto.complex_from) == (0.4, 0.7)
        assert all(d.prices.prices and d.context_window > 0 for d in auto.candidates)
        assert (services.simulated, services.admission.ready) == (True, True)


async def test_a_quality_target_becomes_the_threshold_of_its_table(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, url)
    text = path.read_text(encoding="utf-8").replace("{moderate_from: 0.4, complex_from: 0.7}", "{quality_target: 0.95}")
    path.write_text(text + "classifier: {name: calibrated}\n", encoding="utf-8")
    monkeypatch.setitem(CLASSIFIERS, "calibrated", CalibratedRules)
    async with open_services(load_config(path), simulated_url=NOBODY) as services:
        auto = services.models.resolve("auto")
        assert isinstance(auto, Alias)
        assert (auto.moderate_from, auto.complex_from, auto.quality_target) == (0.52, 0.52, 0.95)


async def test_a_table_of_ones_own_beside_the_configuration_counts_first(tmp_path: Path, url: str) -> None:
    own_table(tmp_path / "targets.json")
    path = write_config(tmp_path, url)
    text = path.read_text(encoding="utf-8").replace("{moderate_from: 0.4, complex_from: 0.7}", "{quality_target: 0.95}")
    path.write_text(text + "classifier: {name: heuristic, quality_targets: targets.json}\n", encoding="utf-8")
    async with open_services(load_config(path), simulated_url=NOBODY) as services:
        auto = services.models.resolve("auto")
        assert isinstance(auto, Alias)
        assert (auto.moderate_from, auto.complex_from, auto.quality_target) == (OWN_THRESHOLD, OWN_THRESHOLD, 0.95)


async def test_evidence_moves_what_the_configured_classifier_says(tmp_path: Path, url: str) -> None:
    levels = tuple(Level(0.5, {}) for _ in LEVELS)
    posterior = Posterior(NAME, "small", 0.0, 0.0, 0.0, 1.0, 1.0, 5.0, levels)
    Fit(NAME, 0.0, 30.0, (posterior,)).write(tmp_path / "evidence.json")
    path = write_config(tmp_path, url)
    text = path.read_text(encoding="utf-8") + "classifier: {name: heuristic, evidence: evidence.json}\n"
    path.write_text(text, encoding="utf-8")
    async with open_services(load_config(path), simulated_url=NOBODY) as services:
        request = parse_chat_request(b'{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}')
        principal = Principal("key-1", "team-1", "application", None, ())
        decided = services.pipeline._decider.decide(principal, request, 1.8e9)
    assert decided.classification is not None
    assert decided.classification.classifier == f"{NAME}+evidence"


async def test_without_redis_there_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="Redis cannot be reached"):
        async with open_services(config(tmp_path, f"unix://{tmp_path}/none.sock"), simulated_url=NOBODY):
            pass


async def test_a_deployment_without_a_price_is_refused(tmp_path: Path, url: str) -> None:
    settings = config(tmp_path, url).model_copy(update={"baseline": "no-such-model"})
    with pytest.raises(ConfigError, match="no-such-model"):
        async with open_services(settings, simulated_url=NOBODY):
            pass


def test_stores_of_its_own_lie_in_the_data_folder(tmp_path: Path) -> None:
    settings = config(tmp_path, "redis://elsewhere:1")
    assert redis_url(settings) == "redis://elsewhere:1"
    assert sql_url(settings) == f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}"
    own = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": None})})
    assert redis_url(own) == embedded_url(tmp_path / "data" / "redis")


def test_request_ids_look_like_openais_and_never_meet() -> None:
    workers = [request_ids(SYSTEM_CLOCK) for _ in range(4)]
    ids = {new_id() for new_id in workers for _ in range(1_000)}
    assert len(ids) == 4_000
    assert all(pack_id(one)[:1] == b"\0" for one in ids)  # the ledger knows them for ours, and keeps their bits


def test_request_ids_are_in_the_order_of_their_seconds() -> None:
    seconds = [0.0, 9.9, 1_793_000_000.0, 2.0**32 - 1]
    wall = iter(seconds)
    new_id = request_ids(Clock(wall=lambda: next(wall)))
    ids = [new_id() for _ in seconds]
    assert ids == sorted(ids)
    assert ids[2].startswith(f"chatcmpl-{1_793_000_000:x}")


async def test_observing_and_measuring_need_the_baseline_in_use(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    wire = "provider: openai, provider_name: p, model: m, base_url: 'http://127.0.0.1:9/v1'"
    deployments = (
        f"deployments:\n  - {{name: small, {wire}, price: gpt-3.5-turbo, tier: simple}}\n"
        f"  - {{name: large, {wire}, price: gpt-4, tier: complex, api_key_env: NOT_SET}}\n"
    )
    head = write_config(tmp_path, url).read_text(encoding="utf-8").partition("simulate:")[0]
    for settings, wanted_by in (
        ("aliases: {auto: {mode: observe}}\n", "aliases.auto.mode"),
        ("aliases: {auto: {}}\nshadow: {share: 0.05}\n", "shadow.share"),
    ):
        path = tmp_path / "parsimony.yaml"
        path.write_text(head + deployments + settings, encoding="utf-8")
        with pytest.raises(ConfigError, match=f"{wanted_by}: needs a deployment of the baseline 'gpt-4'.*large"):
            async with open_services(load_config(path), simulated_url=None):
                pass


async def test_an_alias_that_observes_is_answered_by_the_baseline(tmp_path: Path, url: str) -> None:
    path = write_config(tmp_path, url)
    text = path.read_text(encoding="utf-8").replace(
        "{moderate_from: 0.4", "{mode: observe, shadow: false, moderate_from: 0.4"
    )
    path.write_text(text, encoding="utf-8")
    async with open_services(load_config(path), simulated_url=NOBODY) as services:
        auto = services.models.resolve("auto")
    assert isinstance(auto, Alias)
    assert auto.answered_by is not None
    assert (auto.answered_by.name, auto.shadow) == ("large", False)
