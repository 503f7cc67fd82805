"""The demo's server: the configuration it runs on, and a start that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from router.cli.demo_server import DemoFailed, DemoServer
from router.config import load_config

SHIPPED = Path(__file__).parents[2] / "configs" / "parsimony.yaml"


def test_the_shipped_configuration_becomes_a_private_one(tmp_path: Path) -> None:
    server = DemoServer(tmp_path, SHIPPED)
    ours, shipped = load_config(server.config_path), load_config(SHIPPED)

    assert (ours.server.host, ours.server.port, ours.simulate) == ("127.0.0.1", server.port, "always")
    assert ours.data_dir.is_relative_to(tmp_path)
    assert (ours.prices, ours.deployments, ours.aliases) == (shipped.prices, shipped.deployments, shipped.aliases)
    assert ours.hardware == shipped.hardware


def test_the_users_own_stores_budgets_and_receivers_stay_out_of_it(tmp_path: Path) -> None:
    values = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    values["redis"] = {"url": "redis://redis.example:6379/0"}
    values["sql"] = {"url": "postgresql://db.example/ledger"}
    values["budgets"] = {"declared": [{"team": "support", "limit_usd": 1}]}
    values["alerts"] = {"webhooks": [{"url_env": "ALERT_URL"}]}
    values["reports"] = {"scheduled": [{"report": "savings", "to": "s3://finance/parsimony"}]}
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(values), encoding="utf-8")
    (tmp_path / "run").mkdir()

    ours = load_config(DemoServer(tmp_path / "run", base).config_path)

    assert load_config(base).redis.url is not None and load_config(base).reports.scheduled
    assert (ours.redis.url, ours.sql.url) == (None, None)
    assert (ours.budgets.declared, ours.alerts.webhooks, ours.reports.scheduled) == ((), (), ())


def test_the_classifiers_files_are_found_from_the_demos_folder(tmp_path: Path) -> None:
    values = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    values["classifier"] = {"evidence": "learned/fit.json", "quality_targets": str(tmp_path / "table.json")}
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(values), encoding="utf-8")
    (tmp_path / "run").mkdir()

    ours = load_config(DemoServer(tmp_path / "run", base).config_path)

    assert ours.classifier == load_config(base).classifier
    assert ours.classifier.evidence == tmp_path / "learned" / "fit.json"


def test_a_server_that_ends_at_once_is_told_with_what_it_said(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(SHIPPED.read_text(encoding="utf-8") + "\nnonsense: 1\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    server = DemoServer(tmp_path / "run", base)

    with pytest.raises(DemoFailed, match=r"ended with status [1-9](?s:.)*nonsense"):
        server.start()
    server.close()


def test_stopping_what_was_never_started_does_nothing(tmp_path: Path) -> None:
    server = DemoServer(tmp_path, SHIPPED)
    server.stop()
    server.close()
