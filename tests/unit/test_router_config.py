"""What is wrong in a configuration is named: the file, the key, what was found and what is allowed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from policies.budget import Budget
from router.config import Config, DeploymentConfig, default_config_path, load_config
from router.errors import ConfigError, InvalidRequest

EXAMPLE = Path(__file__).resolve().parents[2] / "configs" / "parsimony.yaml"
LEAST = """\
deployments:
  - {name: small, provider: simulated, provider_name: vllm, model: m, price: p, tier: simple}
aliases:
  auto: {}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.yaml"


def loaded(path: Path, text: str) -> Config:
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refused(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        loaded(path, text)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_the_least_configuration_has_the_defaults(path: Path) -> None:
    config = loaded(path, LEAST)
    assert (config.server.port, config.cache.enabled, config.redis.url, config.baseline) == (8080, True, None, "gpt-4")
    assert config.prices == path.parent / "prices.yaml"
    assert config.data_dir == Path("data")


def test_the_example_names_every_key_and_holds_the_defaults(path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    config, bare = load_config(EXAMPLE), loaded(path, LEAST)
    for name, section in Config.model_fields.items():
        assert f"{name}:" in text
        if name not in ("deployments", "aliases", "prices", "hardware"):
            assert getattr(config, name) == getattr(bare, name), name
        for key in getattr(section.annotation, "model_fields", {}):
            assert f"{key}:" in text, f"{name}.{key}"
    for key in DeploymentConfig.model_fields:
        assert f"{key}:" in text


def test_an_empty_section_is_empty(path: Path) -> None:
    assert loaded(path, LEAST + "server:\ncache:\n") == loaded(path, LEAST)


def test_a_configuration_does_not_change(path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded(path, LEAST).server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sever: {port: 1}\n", ["sever: is not a known key", "parsimony config schema"]),
        ("server: {prot: 1}\n", ["server.prot: is not a known key"]),
        ("server: {port: many}\n", ["server.port: ", "valid integer", "found 'many'"]),
        ("server: {port: 70000}\n", ["server.port: ", "less than or equal to 65535", "found 70000"]),
        ("server: {port: [1]}\n", ["server.port: ", "valid integer", "found a list"]),
        ("server: {host: {a: 1}}\n", ["server.host: ", "valid string", "found a mapping"]),
        ("server: {host: null}\n", ["server.host: ", "valid string", "found nothing"]),
        ("server: {drain_seconds: 0}\n", ["server.drain_seconds: ", "greater than 0", "found 0"]),
        ("server: 5\n", ["server: ", "dictionary", "found 5"]),
        ("ledger: {retention_months: true}\n", ["ledger.retention_months: ", "valid integer", "found True"]),
        ("shadow: {share: true}\n", ["shadow.share: ", "valid number", "found True"]),
        ("cache: {enabled: maybe}\n", ["cache.enabled: ", "valid boolean", "found 'maybe'"]),
        ("cache: {scope: world}\n", ["cache.scope: ", "'team' or 'everyone'", "found 'world'"]),
        ("simulate: sometimes\n", ["simulate: ", "'auto', 'always' or 'never'", "found 'sometimes'"]),
        ("logging: {level: loud}\n", ["logging.level: ", "'debug', 'info'", "found 'loud'"]),
        ("baseline: 4\n", ["baseline: ", "valid string", "found 4"]),
    ],
)
def test_one_wrong_key_is_named(path: Path, text: str, parts: list[str]) -> None:
    message = refused(path, LEAST + text)
    assert [part for part in parts if part not in message] == [], message


def deployments(*lines: str, aliases: str = "  auto: {}\n") -> str:
    return "deployments:\n" + "".join(f"  - {{{line}}}\n" for line in lines) + "aliases:\n" + aliases


SMALL = "name: small, provider: simulated, provider_name: vllm, model: m, price: p, tier: simple"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["deployments: is missing", "aliases: is missing"]),
        ("deployments: []\naliases: {}\n", ["deployments: ", "at least 1 item"]),
        (
            deployments(SMALL.replace("tier: simple", "tier: easy")),
            ["deployments.0.tier: ", "'simple', 'moderate'", "'easy'"],
        ),
        (deployments(SMALL.replace(", price: p", "")), ["deployments.0.price: is missing"]),
        (deployments(SMALL, SMALL), ["deployments repeat the name 'small'"]),
        (
            deployments(SMALL.replace("simulated", "openai")),
            ["deployments.0: ", "'small' needs base_url or base_url_env"],
        ),
        (deployments(SMALL + ", base_url: localhost"), ["deployments.0.base_url: ", "'localhost'"]),
        (deployments(SMALL + ", capabilities: [sight]"), ["deployments.0.capabilities", "'tools'", "found 'sight'"]),
        (deployments(SMALL.replace("name: small", "name: ''")), ["deployments.0.name: ", "at least 1 character", "''"]),
        (deployments(SMALL, aliases="  small: {}\n"), ["'small' names both an alias and a deployment"]),
        (
            deployments(SMALL, aliases="  auto: {deployments: [tiny]}\n"),
            ["aliases.auto.deployments names 'tiny'", "'small'"],
        ),
        (deployments(SMALL, aliases="  auto: {deployments: []}\n"), ["aliases.auto.deployments: ", "at least 1 item"]),
        (
            deployments(SMALL, aliases="  auto: {moderate_from: 0.8, complex_from: 0.5}\n"),
            ["aliases.auto: ", "moderate_from 0.8 must not exceed complex_from 0.5"],
        ),
        (
            deployments(SMALL, aliases="  auto: {quality_target: 0.95, complex_from: 0.5}\n"),
            ["aliases.auto: ", "quality_target 0.95 ", "found beside it is complex_from; allowed is either "],
        ),
        (
            deployments(SMALL, aliases="  auto: {moderate_from: 0.35, complex_from: 0.5, quality_target: 1}\n"),
            ["quality_target 1 ", "found beside it is moderate_from and complex_from"],
        ),
        (
            deployments(SMALL, aliases="  auto: {quality_target: 95}\n"),
            ["aliases.auto.quality_target: ", "less than or equal to 1", "found 95"],
        ),
        (deployments(SMALL, aliases="  auto: {quality_target: 0}\n"), ["quality_target: ", "greater than 0"]),
        (deployments(SMALL, aliases="  auto: {complex_from: 1.5}\n"), ["aliases.auto.complex_from: ", "found 1.5"]),
    ],
)
def test_what_does_not_go_together_is_named(path: Path, text: str, parts: list[str]) -> None:
    message = refused(path, text)
    assert [part for part in parts if part not in message] == [], message


def test_every_problem_is_told_at_once(path: Path) -> None:
    lines = refused(path, LEAST + "server: {port: x}\ncache: {ttl: 1}\nbaseline: 1\n").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines[1:])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (LEAST + "server: {port: 1}\nserver: {port: 2}\n", "the key 'server' stands twice"),
        (LEAST.replace("auto: {}", "auto: {}\n  auto: {}"), "the key 'auto' stands twice"),
        ("server: {port: 1, port: 2}\n", "line 1, column 19"),
        ("server: [", "is not YAML"),
        ("? [a, b]\n: 1\n", "is not YAML"),
        ("a: !!python/object:os.system {}\n", "is not YAML"),
        ("- a\n", "holds a list; it must be a mapping of sections"),
        ("just words\n", "holds a str; it must be a mapping of sections"),
        ("1: {}\n" + LEAST, "1: Keys should be strings; found 1"),
    ],
)
def test_what_is_no_such_file_is_said(path: Path, text: str, part: str) -> None:
    assert part in refused(path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_file_that_is_not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(path)


def test_where_the_file_is_looked_for() -> None:
    assert default_config_path({}) == Path("configs/parsimony.yaml")
    assert default_config_path({"PARSIMONY_CONFIG": "/etc/p.yaml"}) == Path("/etc/p.yaml")
    assert default_config_path({"PARSIMONY_CONFIG": ""}) == Path("configs/parsimony.yaml")


def test_a_key_may_be_limited_to_what_can_be_asked_for(path: Path) -> None:
    config = loaded(path, LEAST)
    config.check_model_names(["auto", "small"])
    with pytest.raises(InvalidRequest, match="there is no model 'smal', 'gpt-5'; configured are: auto, small"):
        config.check_model_names(["auto", "smal", "gpt-5"])


@pytest.mark.parametrize("key", ["evidence", "quality_targets"])
def test_what_was_learned_lies_beside_the_configuration(path: Path, key: str) -> None:
    assert getattr(loaded(path, LEAST).classifier, key) is None
    learned = loaded(path, LEAST + f"classifier: {{{key}: learned/file.json}}\n")
    assert getattr(learned.classifier, key) == path.parent / "learned" / "file.json"


def test_the_thresholds_are_left_to_the_classifier(path: Path) -> None:
    alias = loaded(path, LEAST).aliases["auto"]
    assert (alias.moderate_from, alias.complex_from) == (None, None)


# deployments and their environment


def remote(**changes: str) -> DeploymentConfig:
    values = {"name": "d", "provider_name": "p", "model": "m", "price": "p", "tier": "simple"} | changes
    return DeploymentConfig.model_validate(values)


def test_a_variable_goes_before_the_fixed_address() -> None:
    both = remote(base_url="http://a/v1", base_url_env="URL")
    assert both.resolved_base_url({"URL": "http://b/v1"}) == "http://b/v1"
    assert both.resolved_base_url({"URL": ""}) == both.resolved_base_url({}) == "http://a/v1"


@pytest.mark.parametrize(
    ("settings", "environ", "missing"),
    [
        ({"base_url_env": "URL"}, {}, "URL is not set"),
        ({"base_url_env": "URL"}, {"URL": "http://b"}, None),
        ({"base_url": "http://a", "api_key_env": "KEY"}, {}, "KEY is not set"),
        ({"base_url": "http://a", "api_key_env": "KEY"}, {"KEY": ""}, "KEY is not set"),
        ({"base_url": "http://a", "api_key_env": "KEY"}, {"KEY": "k"}, None),
        ({"provider": "simulated", "api_key_env": "KEY"}, {}, None),
        ({"provider": "litellm"}, {}, None),
    ],
)
def test_what_keeps_a_deployment_from_being_used(
    settings: dict[str, str], environ: dict[str, str], missing: str | None
) -> None:
    assert remote(**settings).missing(environ) == missing


# budgets


def declared(line: str, rest: str = "") -> str:
    return LEAST + f"budgets:\n  declared:\n    - {{{line}}}\n{rest}"


def test_a_budget_is_declared(path: Path) -> None:
    line = (
        "team: support, limit_usd: '500.5', window: week, timezone: Asia/Shanghai, action: downgrade, "
        "downgrade_from: 80%, downgrade_to: moderate, alert_at: [0.5, 90%], paced: true, when_unavailable: serve"
    )
    (budget,) = loaded(path, declared(line)).budgets.declared_budgets()
    assert budget == Budget(
        id="team:support:week",
        subject_kind="team",
        subject_id="support",
        limit=500_500_000_000,
        window="week",
        timezone="Asia/Shanghai",
        action="downgrade",
        downgrade_from=Fraction(4, 5),
        downgrade_to="moderate",
        alert_shares=(Fraction(1, 2), Fraction(9, 10)),
        paced=True,
        when_unavailable="serve",
        source="config",
    )


@pytest.mark.parametrize(
    ("line", "id_", "limit"),
    [
        ("organization: true, limit_usd: 10000", "organization:default:month", 10_000 * 10**9),
        ("project: chat, limit_tokens: 1000, model: small", "project:chat:month:tokens:model=small", 1_000),
        ("key: key_1, limit_requests: 60, window: minute", "key:key_1:minute:requests", 60),
        ("user: support/*, limit_parallel: 4", "user:support/*:now:parallel", 4),
        ("tag: batch, limit_usd: '0', window: 'rolling:7d', tier: complex", "tag:batch:rolling-7d:tier=complex", 0),
    ],
)
def test_whatever_can_be_limited_can_be_declared(path: Path, line: str, id_: str, limit: int) -> None:
    (budget,) = loaded(path, declared(line)).budgets.declared_budgets()
    assert (budget.id, budget.limit) == (id_, limit)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("limit_usd: 5", ["budgets.declared.0: exactly one of organization, team, ", "found none"]),
        ("team: a, tag: b, limit_usd: 5", ["budgets.declared.0: exactly one of ", "found team and tag"]),
        ("team: a", ["budgets.declared.0: exactly one of limit_usd, ", "found none"]),
        ("team: a, limit_usd: 5, limit_tokens: 5", ["found limit_usd and limit_tokens"]),
        ("team: a, limit_usd: 0.5", ["budgets.declared.0.limit_usd: write 0.5 as a string or an integer: a float"]),
        ("team: a, limit_usd: much", ["budgets.declared.0.limit_usd: 'much' is not an amount"]),
        ("team: a, limit_tokens: 1.5", ["budgets.declared.0.limit_tokens: ", "valid integer", "found 1.5"]),
        ("team: a, limit_usd: 5, window: fortnight", ["budgets.declared.0: window is 'fortnight'; allowed are hour, "]),
        ("team: a, limit_usd: 5, window: minute", ["budgets.declared.0: a rate limit counts tokens or requests"]),
        ("team: a, limit_usd: 5, timezone: Mars", ["budgets.declared.0: 'Mars' is no time zone"]),
        ("team: a, limit_usd: 5, action: pray", ["budgets.declared.0.action: ", "'warn'", "found 'pray'"]),
        ("team: a, limit_usd: 5, downgrade_from: half", ["declared.0.downgrade_from: 'half' is not a share"]),
        ("team: a, limit_usd: 5, downgrade_from: 120%", ["declared.0: downgrade_from is 1.2; it must lie in 0..1"]),
        ("team: a, limit_usd: 5, alert_at: [80%, 0%]", ["declared.0: an alert's share is 0; it must lie above 0"]),
        ("team: a, limit_usd: 5, model: big", ["budgets.declared.0.model: there is no deployment 'big'", "'small'"]),
        ("user: ann, limit_usd: 5", ["budgets.declared.0: a user's budget names '<team>/<user>'"]),
        ("organization: false, limit_usd: 5", ["budgets.declared.0.organization: ", "True", "found False"]),
        ("team: a, limit: 5", ["budgets.declared.0.limit: is not a known key"]),
    ],
)
def test_what_cannot_be_declared_is_named(path: Path, line: str, parts: list[str]) -> None:
    message = refused(path, declared(line))
    assert [part for part in parts if part not in message] == [], message


def test_a_budget_is_declared_once(path: Path) -> None:
    text = declared("team: a, limit_usd: 5", "    - {team: a, limit_usd: 6, action: warn}\n")
    assert "budgets: declared holds 'team:a:month' more than once" in refused(path, text)


@pytest.mark.parametrize(
    ("written", "nusd"), [('"0"', 0), ("2", 2 * 10**9), ('"0.000000001"', 1), ('"$1,500"', 1_500 * 10**9)]
)
def test_the_local_allowance_is_exact(path: Path, written: str, nusd: int) -> None:
    assert loaded(path, LEAST + f"budgets: {{local_allowance_usd: {written}}}\n").budgets.local_allowance_nusd == nusd


@pytest.mark.parametrize("written", ["0.5", "-1", "true", "[1]", "'0.0000000001'"])
def test_what_is_no_allowance_is_named(path: Path, written: str) -> None:
    assert "budgets.local_allowance_usd: " in refused(path, LEAST + f"budgets: {{local_allowance_usd: {written}}}\n")


def test_only_what_a_deployment_answers_can_be_counted_by_model(path: Path) -> None:
    config = loaded(path, LEAST)
    config.check_deployment("small")
    config.check_deployment(None)
    with pytest.raises(InvalidRequest, match="there is no deployment 'auto'; configured are 'small'"):
        config.check_deployment("auto")


# ---- measuring and observing -----------------------------------------------------------------------

WITH_BASELINE = LEAST.replace(
    "aliases:",
    "  - {name: large, provider: simulated, provider_name: openai, model: m, price: gpt-4, tier: complex}\n"
    "  - {name: other, provider: simulated, provider_name: azure, model: m, price: gpt-4, tier: complex}\naliases:",
)


def test_measuring_has_a_budget_like_every_other(path: Path) -> None:
    config = loaded(path, WITH_BASELINE + "shadow: {share: 0.05, limit_usd: '2.50', deployment: other}\n")
    (budget,) = config.declared_budgets()
    assert (budget.id, budget.limit, budget.window, budget.hard) == ("tag:(shadow):month", 2_500_000_000, "month", True)
    assert (budget.source, budget.when_unavailable) == ("config", "refuse")
    assert config.baseline_deployments == ("other", "large")
    assert loaded(path, WITH_BASELINE).declared_budgets() == ()
    assert loaded(path, WITH_BASELINE).baseline_deployments == ("large", "other")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (LEAST + "shadow: {share: 0.05}\n", ["shadow.share needs a deployment whose price is the baseline's, 'gpt-4'"]),
        (LEAST.replace("auto: {}", "auto: {mode: observe}"), ["aliases.auto.mode needs a deployment"]),
        (WITH_BASELINE + "shadow: {deployment: small}\n", ["shadow.deployment is 'small'", "'large', 'other'"]),
        (WITH_BASELINE + "shadow: {share: 1.5}\n", ["shadow.share", "less than or equal to 1"]),
        (WITH_BASELINE.replace("auto: {}", "auto: {mode: watch}"), ["aliases.auto.mode", "'route' or 'observe'"]),
        (
            WITH_BASELINE + "budgets: {declared: [{tag: (shadow), limit_usd: 1}]}\n",
            ["the tag '(shadow)' is limited by shadow.limit_usd"],
        ),
    ],
)
def test_what_cannot_be_measured_is_named(path: Path, text: str, parts: list[str]) -> None:
    message = refused(path, text)
    assert all(part in message for part in parts), message
