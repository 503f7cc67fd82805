"""The files of deploy/ agree with the code and with each other; no container is built here."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from router.config import Config, load_config
from router.prices import load_prices
from router.providers.simulated_personas import persona_of
from router.stores.sql_engine import create_ledger_engine
from router.telemetry import Gauges, Telemetry

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def container_config() -> Config:
    return load_config(DEPLOY / "parsimony.yaml")


def environment_names() -> set[str]:
    return set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "example.env").read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_containers_configuration_loads_and_has_prices() -> None:
    config = container_config()
    prices = load_prices(config.prices)
    assert [prices.model(name).name for name in (config.baseline, *(item.price for item in config.deployments))]
    assert config.server.host == "0.0.0.0"
    assert config.simulate == "never"


def test_the_container_serves_what_the_example_serves() -> None:
    """Under the same names and at the same prices: a ledger or a key moves from one to the other."""
    assert container_config().deployments == load_config(ROOT / "configs" / "parsimony.yaml").deployments


def test_no_model_that_follows_a_name_is_booked_at_the_price_of_its_first_bearer() -> None:
    """`mistral-medium` is the price of the model of December 2023, `-latest` is the newest."""
    for config in (container_config(), load_config(ROOT / "configs" / "parsimony.yaml")):
        prices = {deployment.model: deployment.price for deployment in config.deployments}
        assert prices["mistral-medium-latest"] == "mistral-medium-3"


def test_every_price_in_use_has_a_persona_that_simulates_it() -> None:
    families = {deployment.price: persona_of(deployment.price).family for deployment in container_config().deployments}
    assert families == {"mistral-7b": "mistral-7b", "mistral-medium-3": "mistral-medium", "gpt-4": "gpt-4"}


def test_the_configuration_reaches_the_services_of_the_compose_file() -> None:
    config = container_config()
    assert config.redis.url is not None
    assert config.sql.url is not None
    engine = create_ledger_engine(config.sql.url)
    assert {config.redis.url.split("//")[1].split(":")[0], engine.url.host} == set(COMPOSE["services"]) - {"parsimony"}
    assert engine.url.username == COMPOSE["services"]["postgres"]["environment"]["POSTGRES_USER"]
    assert engine.url.database == COMPOSE["services"]["postgres"]["environment"]["POSTGRES_DB"]
    assert engine.url.password is None


def test_the_example_environment_names_every_variable_in_use() -> None:
    config = container_config()
    wanted = {name for item in config.deployments for name in (item.api_key_env, item.base_url_env) if name}
    wanted |= set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    assert environment_names() == wanted


def test_whoever_stops_the_container_waits_for_the_drain() -> None:
    grace_s = int(COMPOSE["services"]["parsimony"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > container_config().server.drain_seconds + 10


def test_redis_evicts_nothing_and_keeps_a_file() -> None:
    command = " ".join(COMPOSE["services"]["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    kept = set(re.findall(r"^!(\S+)", (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == kept
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_runbook_names_series_that_exist() -> None:
    exposed = {metric.name for metric in Telemetry(gauges=lambda: Gauges(0, {})).collect()}
    named = set(re.findall(r"`(parsimony_[a-z_]+?)(?:_total)?`", (DEPLOY / "README.md").read_text(encoding="utf-8")))
    assert named
    assert named - exposed == set()
