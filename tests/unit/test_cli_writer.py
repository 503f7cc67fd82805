"""The writer's process, where it cannot do its work. What it does is tested by its parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from router.processes import UNUSABLE_CONFIG

ROOT = Path(__file__).resolve().parents[2]


def test_it_ends_where_the_configuration_cannot_be_used(tmp_path: Path) -> None:
    """A thread that goes on would leave a process of which nobody notices that it keeps house no more."""
    values = yaml.safe_load((ROOT / "configs" / "parsimony.yaml").read_text(encoding="utf-8"))
    values["prices"] = str(ROOT / "configs" / "prices.yaml")
    values["hardware"] = str(ROOT / "configs" / "hardware.yaml")
    values["router_hardware"] = {"name": "abacus"}
    values["data_dir"] = str(tmp_path / "data")
    values["redis"] = {"url": "redis://127.0.0.1:1/0"}
    path = tmp_path / "parsimony.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")

    command = [sys.executable, "-m", "router.cli.writer", "--config", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == UNUSABLE_CONFIG
    assert done.stderr.startswith("parsimony: there is no hardware 'abacus' in hardware.yaml")
