"""The proxies under test: how each is configured, started, asked whether it is ready, and called."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Protocol

import orjson
import yaml
from packaging.requirements import Requirement

from tests.benchmarks.overhead.processes import Child, free_port

ROOT = Path(__file__).parents[3]
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log", "--log-level", "warning")
LITELLM_KEY = f"sk-{secrets.token_urlsafe(32)}"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a target and where it listens."""

    command: tuple[str, ...]
    port: int
    ready_path: str
    environment: dict[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 30.0

    @property
    def url(self) -> str:
        """Where chat completions are asked for."""
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    @property
    def ready_url(self) -> str:
        """What answers 200 as soon as the target can work."""
        return f"http://127.0.0.1:{self.port}{self.ready_path}"


class Target(Protocol):
    """A proxy under test."""

    @property
    def key(self) -> str:
        """What --only calls it."""
        ...

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    @property
    def model(self) -> str:
        """The model that requests name."""
        ...

    @property
    def time_share(self) -> float:
        """The length of its loads, as a share of the usual one."""
        ...

    def missing(self) -> str | None:
        """What is not installed, or None."""
        ...

    def launch(self, folder: Path, upstream_url: str) -> Launch:
        """Write what the target needs into `folder`; `upstream_url` ends in /v1."""
        ...

    def credential(self, folder: Path) -> str:
        """An API key, made once the target runs."""
        ...

    def worker_pid(self, child: Child) -> int:
        """The process that does the work."""
        ...


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A bare pass-through of yardsticks.py."""

    key: str
    name: str
    application: str
    model: str = "benchmark"
    time_share: float = 1.0

    def missing(self) -> str | None:
        """See Target."""
        return None

    def launch(self, _folder: Path, upstream_url: str) -> Launch:
        """See Target."""
        port = free_port()
        application = f"tests.benchmarks.overhead.yardsticks:{self.application}"
        command = (sys.executable, "-m", "uvicorn", "--factory", application, "--port", str(port), *UVICORN)
        return Launch(command, port, "/health/ready", {"UPSTREAM_URL": upstream_url})

    def credential(self, _folder: Path) -> str:
        """See Target."""
        return "sk-benchmark"

    def worker_pid(self, child: Child) -> int:
        """See Target."""
        return child.pid


@dataclass(frozen=True, slots=True)
class Parsimony:
    """Parsimony with everything on: a supervisor, its Redis, its ledger writer, one worker."""

    key: str = "parsimony"
    name: str = "Parsimony"
    model: str = "auto"
    time_share: float = 1.0

    def missing(self) -> str | None:
        """See Target."""
        return None

    def launch(self, folder: Path, upstream_url: str) -> Launch:
        """See Target."""
        port = free_port()
        path = folder / "parsimony.yaml"
        path.write_text(yaml.safe_dump(parsimony_config(port, upstream_url, folder / "data")), encoding="utf-8")
        return Launch((sys.executable, "-m", "router.cli", "serve", "--config", str(path)), port, "/health/ready")

    def credential(self, folder: Path) -> str:
        """A key of a team whose budget is checked on every request and never reached."""
        run_cli(folder, "teams", "create", "bench")
        run_cli(folder, "teams", "set-budget", "bench", "1000000")
        made = orjson.loads(run_cli(folder, "keys", "create", "--team", "bench", "--name", "benchmark", "--json"))
        return str(made["secret"])

    def worker_pid(self, child: Child) -> int:
        """See Target."""
        return next(int(process.pid) for process in child.family() if "router.cli.worker" in process.cmdline())


def parsimony_config(port: int, upstream_url: str, data_dir: Path) -> dict[str, object]:
    """Three tiers at one upstream, the alias `auto` over them, and every stage as it is by default."""
    tiers = (("simple", "mistral-7b"), ("moderate", "mistral-medium"), ("complex", "gpt-4"))
    return {
        "server": {"host": "127.0.0.1", "port": port, "workers": 1},
        "data_dir": str(data_dir),
        "prices": str(ROOT / "configs" / "prices.yaml"),
        "baseline": "gpt-4",
        "simulate": "never",
        "deployments": [
            {
                "name": f"bench/{price}",
                "provider": "openai",
                "provider_name": "benchmark",
                "model": price,
                "price": price,
                "tier": tier,
                "base_url": upstream_url,
            }
            for tier, price in tiers
        ],
        "aliases": {"auto": {}},
    }


def run_cli(folder: Path, *arguments: str) -> str:
    """One `parsimony` command against the configuration in `folder`; its output. RuntimeError where it fails."""
    command = (sys.executable, "-m", "router.cli", *arguments, "--config", str(folder / "parsimony.yaml"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-1_000:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class LiteLLM:
    """The LiteLLM proxy with one model, no database, its defaults otherwise."""

    command: str | None = None
    key: str = "litellm"
    name: str = "LiteLLM proxy"
    model: str = "benchmark"
    time_share: float = 0.7

    def missing(self) -> str | None:
        """See Target: the proxy needs the extra of that name."""
        if self.command is not None:
            return None if shutil.which(self.command) else f"{self.command} is no program"
        absent = absent_requirements("litellm", "proxy")
        return f"litellm[proxy] is not installed ({', '.join(absent[:3])} ...)" if absent else None

    def launch(self, folder: Path, upstream_url: str) -> Launch:
        """See Target."""
        port = free_port()
        path = folder / "litellm.yaml"
        parameters = {"model": "openai/benchmark", "api_base": upstream_url, "api_key": "sk-benchmark"}
        model_list = [{"model_name": self.model, "litellm_params": parameters}]
        path.write_text(yaml.safe_dump({"model_list": model_list}), encoding="utf-8")
        program = self.command or str(Path(sys.executable).parent / "litellm")
        command = (program, "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        environment = {
            "LITELLM_MASTER_KEY": LITELLM_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
        }
        return Launch(command, port, "/health/readiness", environment, ready_timeout_s=90.0)

    def credential(self, _folder: Path) -> str:
        """The master key, the only one where there is no database."""
        return LITELLM_KEY

    def worker_pid(self, child: Child) -> int:
        """The largest process of the family: with one worker uvicorn starts no child of its own."""
        return int(max(child.family(), key=lambda process: process.memory_info().rss).pid)


def absent_requirements(distribution: str, extra: str) -> list[str]:
    """What an extra of an installed distribution asks for and is not there, by name."""
    try:
        wanted = [Requirement(text) for text in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        return [distribution]
    chosen = (each for each in wanted if each.marker and not each.marker.evaluate({"extra": ""}))
    return [each.name for each in chosen if each.marker and each.marker.evaluate({"extra": extra}) and not _has(each)]


def _has(requirement: Requirement) -> bool:
    try:
        return bool(metadata.version(requirement.name))
    except metadata.PackageNotFoundError:
        return False


def all_targets(litellm_command: str | None) -> Sequence[Target]:
    """Every target; the first is the one that the others are compared with."""
    return (
        Yardstick("aiohttp", "bare uvicorn + aiohttp", "AiohttpPassThrough"),
        Yardstick("pyreqwest", "bare uvicorn + pyreqwest", "PyreqwestPassThrough"),
        Parsimony(),
        LiteLLM(litellm_command or os.environ.get("LITELLM_COMMAND")),
    )
