"""What could not serve is said before anything starts: file, key, what was found and what is allowed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from classifiers.calibration import Evidence, Scores
from classifiers.posterior import LEVELS, Fit, Level, Posterior
from classifiers.registry import CLASSIFIERS
from router.cli.inspect import config_app
from router.config import Config
from router.errors import ConfigError
from router.lineup import sha256_of
from router.preflight import check, quality_notes
from tests.support.calibrated import TOO_FEW, CalibratedRules, own_table

ROOT = Path(__file__).resolve().parents[2]
PATH = Path("my.yaml")
LOCAL = {"name": "local", "base_url_env": "LOCAL_URL", "tier": "simple"}
REMOTE = {"name": "remote", "base_url": "https://api.example/v1", "api_key_env": "KEY", "tier": "complex"}
KEY = {"KEY": "sk-1"}


def config(*deployments: Mapping[str, Any], **changes: Any) -> Config:
    common = {"provider_name": "p", "model": "m", "price": "gpt-4"}
    values = {"deployments": [common | dict(one) for one in deployments or (LOCAL, REMOTE)], "aliases": {"auto": {}}}
    return Config.model_validate(values | {"prices": ROOT / "configs" / "prices.yaml"} | changes)


def refused(settings: Config, environ: Mapping[str, str] | None = None) -> list[str]:
    """The problems, each without the file's name before it."""
    with pytest.raises(ConfigError) as raised:
        check(PATH, settings, environ or {})
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{PATH}: ") for line in lines), lines
    return [line.removeprefix(f"{PATH}: ") for line in lines]


@pytest.mark.parametrize(
    "environ", [{}, KEY, {"LOCAL_URL": "http://localhost:8000/v1"}, {"LOCAL_URL": "https://[::1]:8000/v1/"}]
)
def test_what_can_serve_passes(environ: dict[str, str]) -> None:
    lineup = check(PATH, config(), environ)
    assert lineup.simulated == (not environ)


def evidence_file(path: Path, prior: str = "heuristic@1", small_model: str = "local") -> Path:
    levels = tuple(Level(0.5, {}) for _ in LEVELS)
    Fit(prior, 0.0, 30.0, (Posterior(prior, small_model, 0.0, 0.0, 0.0, 1.0, 1.0, 5.0, levels),)).write(path)
    return path


def test_evidence_that_fits_passes(tmp_path: Path) -> None:
    check(PATH, config(classifier={"name": "heuristic", "evidence": evidence_file(tmp_path / "e.json")}), {})


def test_evidence_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    (line,) = refused(config(classifier={"name": "heuristic", "evidence": path}))
    assert line.startswith(f"classifier.evidence: {path}: cannot be read")
    evidence_file(path, prior="other@7")
    (line,) = refused(config(classifier={"name": "heuristic", "evidence": path}))
    assert line == f"classifier.evidence: {path}: was fitted to the scores of other@7, not of heuristic@1: fit anew"
    evidence_file(path, small_model="remote")
    (line,) = refused(config(classifier={"name": "heuristic", "evidence": path}))
    assert line == f"classifier.evidence: {path}: holds evidence on remote; deployed are local, m, gpt-4"


def test_evidence_moves_scores_away_from_calibrated_thresholds(tmp_path: Path, calibrated: str) -> None:
    path = evidence_file(tmp_path / "e.json")
    settings = config(aliases={"auto": {"quality_target": 0.9}}, classifier={"name": calibrated, "evidence": path})
    (line,) = refused(settings)
    assert line.startswith("aliases.auto.quality_target: ")
    assert "which classifier.evidence moves; allowed: one of the two, or beside them classifier.quality_targets" in line


def test_evidence_and_a_quality_target_go_together_with_a_table_of_the_moved_scores(tmp_path: Path) -> None:
    evidence = evidence_file(tmp_path / "e.json")
    scores = Scores("heuristic@1+evidence", Evidence(sha256_of(evidence), "local"))
    files = {"evidence": evidence, "quality_targets": own_table(tmp_path / "t.json", scores)}
    settings = config(aliases={"auto": {"quality_target": 0.9}}, classifier={"name": "heuristic"} | files)
    assert check(PATH, settings, {}).simulated
    note, *_ = quality_notes(settings)
    assert "the small model answers where score < 0.31;" in note
    assert "2000 judged prompts (judged.jsonl; mistral-7b beside gpt-4)" in note


@pytest.mark.parametrize(("small_model", "strangers"), [("mistral-7b", ""), ("m", "mistral-7b")])
def test_a_table_of_ones_own_for_models_that_are_not_deployed(tmp_path: Path, small_model: str, strangers: str) -> None:
    classifier = {"name": "heuristic", "quality_targets": own_table(tmp_path / "t.json")}
    deployments = (LOCAL | {"model": small_model}, REMOTE)
    settings = config(*deployments, aliases={"auto": {"quality_target": 0.9}}, classifier=classifier)
    assert check(PATH, settings, {}).simulated
    _, *warnings = quality_notes(settings)
    assert len(warnings) == bool(strangers)
    assert all(f"no deployment bears the name, model or price {strangers};" in warning for warning in warnings)


def test_a_table_of_ones_own_that_cannot_be_used(tmp_path: Path, calibrated: str) -> None:
    path = tmp_path / "t.json"
    settings = config(classifier={"name": calibrated, "quality_targets": path})
    (line,) = refused(settings)
    assert line.startswith(f"classifier.quality_targets: {path}: cannot be read")
    own_table(path, Scores("learned@1a2b3c4d"))
    (line,) = refused(settings)
    assert line == (
        f"classifier.quality_targets: {path}: was calibrated for the scores of learned@1a2b3c4d; allowed are those of "
        "the configured heuristic@1: calibrate anew"
    )
    path.write_text("{}", encoding="utf-8")
    (line,) = refused(settings)
    assert line.startswith(f"classifier.quality_targets: {path}: format is null; this version reads 1")


def test_a_quality_target_beyond_ones_own_table(tmp_path: Path) -> None:
    classifier = {"name": "heuristic", "quality_targets": own_table(tmp_path / "t.json")}
    (line,) = refused(config(aliases={"auto": {"quality_target": 0.99}}, classifier=classifier))
    assert line.endswith("found 0.99: no threshold is calibrated for 0.99; allowed: above 0 and up to 0.98")


def test_an_unknown_classifier() -> None:
    (line,) = refused(config(classifier={"name": "oracle"}))
    assert line == "classifier.name: found 'oracle'; allowed: heuristic, learned"


def test_names_without_a_price() -> None:
    lines = refused(config(LOCAL, {**REMOTE, "price": "gpt-0"}, baseline="gpt-00"))
    assert [line.split(": ")[0] for line in lines] == ["baseline", "deployments.1.price"]
    assert "no price is known for the model 'gpt-0'" in lines[1]


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1", "//localhost/v1", "ftp://localhost", "http:///v1", "http://localhost:8oo0/v1",
        "http://localhost:80000/v1", "http://[::1/v1", "http://local host/v1", "http://localhost/v1\n", "http://模型/v1",
    ],
)  # fmt: skip
def test_an_address_that_is_none(url: str) -> None:
    (line,) = refused(config(), {"LOCAL_URL": url})
    assert line.startswith(f"deployments.0.base_url_env: the variable LOCAL_URL holds {url!r}; allowed: http(s)://")


def test_an_address_in_the_file_that_is_none() -> None:
    (line,) = refused(config({**REMOTE, "base_url": "https://api.example:99999/v1"}), KEY)
    assert line.startswith("deployments.0.base_url: found 'https://api.example:99999/v1'; allowed: http(s)://")


@pytest.mark.parametrize("secret", ["sk-1\n", "sk-1\r\nx-evil: 1", "sk 1", "sk-1\x00", "密钥", "sk-é"])
def test_a_key_that_fits_no_header_is_named_and_not_shown(secret: str) -> None:
    (line,) = refused(config(), {"KEY": secret})
    assert line.startswith("deployments.1.api_key_env: the variable KEY holds")
    assert secret not in line


def test_an_alias_that_leads_nowhere() -> None:
    aliases = {"auto": {}, "cheap": {"deployments": ["local"]}}
    (line,) = refused(config(aliases=aliases), KEY)
    assert line == "aliases.cheap: none of its deployments can be used: local: LOCAL_URL is not set"


def test_an_alias_of_simulated_models_beside_real_ones() -> None:
    made_up = {"name": "made-up", "provider": "simulated", "tier": "simple"}
    (line,) = refused(config(REMOTE, made_up, aliases={"try": {"deployments": ["made-up"]}}), KEY)
    assert line == "aliases.try: none of its deployments can be used: made-up: simulated, beside real ones"


def test_nothing_to_serve_with() -> None:
    (line,) = refused(config(simulate="never"))
    assert line.startswith("simulate: no deployment can be used, and simulate is 'never': local: LOCAL_URL is not set")


@pytest.mark.parametrize("url", ["localhost:6379", "http://h:secret@x", "redis://:secret@h:port", "redis:h"])
def test_a_redis_that_is_no_address_is_named_and_not_shown(url: str) -> None:
    (line,) = refused(config(redis={"url": url}))
    assert line == "redis.url: is no URL that can be used; it must begin with redis:// or rediss:// or unix://"


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "ledger.sqlite", "postgresql://u@h:99999/d"])
def test_a_database_that_is_no_address_is_named_and_not_shown(url: str) -> None:
    (line,) = refused(config(sql={"url": url}))
    assert line.startswith("sql.url: is no URL that can be used; it must begin with sqlite://")


def test_every_problem_is_told_at_once() -> None:
    aliases = {"auto": {}, "cheap": {"deployments": ["remote"]}}
    settings = config(aliases=aliases, classifier={"name": "x"}, baseline="gpt-0")
    keys = [line.split(": ")[0] for line in refused(settings, {"LOCAL_URL": "nowhere"})]
    assert keys == ["classifier.name", "baseline", "aliases.cheap", "deployments.0.base_url_env"]


def test_simulated_models_need_no_address_and_no_key() -> None:
    environ = {"LOCAL_URL": "nowhere", "KEY": "a\nb"}
    assert check(PATH, config(simulate="always"), environ).simulated


def test_a_tokenizer_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="cl100k_base cannot be read"):
        check(PATH, config(), {})


def test_a_quality_target_without_a_table() -> None:
    (line,) = refused(config(aliases={"auto": {"quality_target": 0.95}}, classifier={"name": "heuristic"}))
    assert line.startswith("aliases.auto.quality_target: found 0.95, but the configured classifier has no calibrated")
    keys = [
        line.split(": ")[0] for line in refused(config(aliases={"a": {"quality_target": 1}}, classifier={"name": "x"}))
    ]
    assert keys == ["classifier.name"]


def test_a_threshold_that_is_out_of_order_with_the_classifiers_own() -> None:
    """The file alone cannot tell: of the two, it names one."""
    (line,) = refused(config(aliases={"auto": {}, "easy": {"moderate_from": 0.99}}, classifier={"name": "heuristic"}))
    assert line.startswith("aliases.easy: moderate_from 0.99 must not exceed complex_from 0.65; of the two, what is")


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(CLASSIFIERS, "calibrated", CalibratedRules)
    return "calibrated"


def test_a_quality_target_beyond_the_table(calibrated: str) -> None:
    (line,) = refused(config(aliases={"auto": {"quality_target": 0.99}}, classifier={"name": calibrated}))
    assert line.endswith("found 0.99: no threshold is calibrated for 0.99; allowed: above 0 and up to 0.98")


def test_a_quality_target_is_told_with_its_threshold_and_its_warning(calibrated: str) -> None:
    aliases: dict[str, Any] = {"a": {}, "b": {"quality_target": 0.93}, "c": {"quality_target": 0.98}}
    settings = config(aliases=aliases, classifier={"name": calibrated})
    assert check(PATH, settings, {}).simulated
    between, thin = quality_notes(settings)
    assert between == (
        "aliases.b.quality_target: 0.93 (served as 0.95, the next that is calibrated): the small model answers where "
        "score < 0.52; at 90% confidence, from 2000 judged prompts (made-up prompts; mistral-7b beside gpt-4), of "
        "which 61% went to the latter"
    )
    assert thin.endswith(f"\n  WARNING: {TOO_FEW}")
    assert quality_notes(config()) == []


def link_price_files(folder: Path) -> None:
    for name in ("prices.yaml", "hardware.yaml"):
        (folder / name).symlink_to(ROOT / "configs" / name)


def test_the_command_shows_what_a_quality_target_comes_to(tmp_path: Path, calibrated: str) -> None:
    text = (ROOT / "configs" / "parsimony.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^  name: \S+", f"  name: {calibrated}", text, count=1)
    path = tmp_path / "parsimony.yaml"
    path.write_text(text.replace("gpt-4: {}", "gpt-4: {quality_target: 0.98}"), encoding="utf-8")
    link_price_files(tmp_path)
    done = CliRunner().invoke(config_app, ["check", "--config", str(path)])
    assert done.exit_code == 0, done.output
    assert "aliases.gpt-4.quality_target: 0.98: the small model answers where score < 0;" in done.stdout
    assert f"  WARNING: {TOO_FEW}" in done.stdout


def test_hardware_without_a_price_is_named_with_its_key() -> None:
    machines = {"hardware": ROOT / "configs" / "hardware.yaml", "router_hardware": {"name": "b200"}}
    (problem,) = refused(config(**machines))
    assert problem.startswith("router_hardware: there is no hardware 'b200' in hardware.yaml; known are: a100-40gb, ")


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"shadow": {"share": 0.05}}, "shadow.share"), ({"aliases": {"auto": {"mode": "observe"}}}, "aliases.auto.mode")],
)
def test_the_baseline_must_be_among_those_that_serve_where_it_is_to_answer(changes: Any, key: str) -> None:
    settings = config(LOCAL | {"price": "mistral-7b"}, REMOTE, **changes)
    assert check(PATH, settings, KEY) and check(PATH, settings, {}).simulated
    (problem,) = refused(settings, {"LOCAL_URL": "http://localhost:8000/v1"})
    assert problem == (
        f"{key}: needs a deployment of the baseline 'gpt-4' that can be used; configured are: remote "
        "(remote: KEY is not set)"
    )


def test_lengths_of_answers_that_cannot_be_read_are_told_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").symlink_to(ROOT / "configs" / "prices.yaml")
    (tmp_path / "answer_lengths.yaml").write_text("source: nobody\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"answer_lengths\.yaml: usual: .*missing"):
        check(PATH, config(prices=tmp_path / "prices.yaml"), {})


def test_it_is_light() -> None:
    """`serve` asks before it starts anything: whoever starts it should not wait for libraries."""
    heavy = ("alembic", "fastapi", "httpx", "litellm", "redis", "sqlalchemy", "uvicorn")
    code = f"import router.preflight, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "parsimony.yaml").read_text(encoding="utf-8")
    path = tmp_path / "parsimony.yaml"
    path.write_text(text.replace("name: learned ", "name: oracle "), encoding="utf-8")
    link_price_files(tmp_path)
    done = CliRunner().invoke(config_app, ["check", "--config", str(path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"parsimony: {path}: classifier.name: found 'oracle'; allowed: heuristic, learned\n"
