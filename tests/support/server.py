"""`Server`: the real `parsimony serve` in a folder and on a port of its own, to be used, hurt, and swept away."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import psutil
import redis
import yaml

from policies.budget import Budget
from policies.money import format_usd
from router.bootstrap import open_admin
from router.services import AdminServices
from router.stores import redis_keys
from router.stores.counters import counter_of, window_of
from router.stores.redis_server import embedded_url, socket_path
from router.stores.spool import spool_folder
from router.stores.sql_engine import create_ledger_engine
from router.stores.sql_ledger import SqlLedger
from tests.conftest import CREDENTIALS

ROOT = Path(__file__).resolve().parents[2]
PRICES = ROOT / "configs" / "prices.yaml"
MARKER = "PARSIMONY_TEST_RUN"
READY_S = 60.0
POLL_S = 0.02
UPSTREAM_KEY_ENV = "TEST_UPSTREAM_KEY"
UPSTREAM_KEY = "sk-upstream-secret-of-the-tests"

Role = Literal["serve", "worker", "writer", "simulated", "redis"]
_SIGNS: Mapping[Role, str] = {
    "serve": "router.cli serve",
    "worker": "router.cli.worker",
    "writer": "router.cli.writer",
    "simulated": "router.cli.simulated",
    "redis": "redis-server",
}
T = TypeVar("T")


def deployment(name: str, base_url: str, **changes: Any) -> dict[str, Any]:
    """One deployment on the OpenAI wire whose model bears its name; GPT-3.5's price unless changed."""
    return {
        "name": name,
        "provider_name": "test",
        "model": name,
        "price": "gpt-3.5-turbo",
        "tier": "simple",
        "base_url": base_url,
        "api_key_env": UPSTREAM_KEY_ENV,
        "capabilities": ["tools", "json_schema"],
        "timeouts": {"connect_seconds": 1, "first_token_seconds": 20, "total_seconds": 30},
        **changes,
    }


def two_models(base_url: str, **changes: Any) -> dict[str, Any]:
    """`small` (simple) and `large` (complex, the baseline GPT-4) behind the alias `auto`."""
    return {
        "deployments": [
            deployment("small", base_url),
            deployment("large", base_url, price="gpt-4", tier="complex"),
        ],
        "aliases": {"auto": {}},
        "retries": {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 2},
        **changes,
    }


def wait_until(what: str, probe: Callable[[], T | None], timeout_s: float = 10.0) -> T:
    """The first true answer of `probe`. Raises AssertionError that says what did not happen."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s:g} s (last answer: {found!r})"
        time.sleep(POLL_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """One `parsimony serve`. Its data, its port and its configuration file stay the same over restarts."""

    def __init__(self, folder: Path, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.config_path = folder / "parsimony.yaml"
        self.data_dir = folder / "data"
        self.stdout_path = folder / "stdout.txt"
        self.log_path = folder / "log.txt"
        self.admin_key = ""
        self._marker = secrets.token_hex(8)
        self._redis_socket = str(socket_path(self.data_dir / "redis"))
        self._environ = environ or {}
        self.process: subprocess.Popen[bytes] | None = None
        self._stores: AdminServices | None = None
        self.configure(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration; port, data folder and prices are the server's own."""
        values = {"data_dir": str(self.data_dir), "prices": str(PRICES), **config}
        values["server"] = {"drain_seconds": 10, **config.get("server", {}), "port": self.port}
        self.config_path.write_text(yaml.safe_dump(values), encoding="utf-8")

    # living and dying

    def spawn(self) -> None:
        """Starts the process and returns at once."""
        command = [sys.executable, "-m", "router.cli", "serve", "--config", str(self.config_path)]
        with self.stdout_path.open("ab") as out, self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=self.environment(), cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """Starts the process and waits until /health/ready agrees."""
        self.spawn()
        self.wait_until_ready()
        self.admin_key = self.admin_key or self._printed_key()

    def restart(self) -> None:
        self.terminate()
        self.start()

    def terminate(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; the exit status. Raises AssertionError where it has to be killed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 20.0) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end within {timeout_s:g} s\n{self.log_tail()}") from None

    def kill(self, role: Role) -> None:
        """SIGKILL for every process of `role`."""
        for process in self.processes(role):
            process.kill()

    def kill_all(self) -> None:
        """As a power cut: all stop before the first is killed, so none sees another die."""
        processes = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        psutil.wait_procs(processes, 5)
        if self.process is not None:
            self.process.wait(5)

    def pause(self, role: Role) -> None:
        for process in self.processes(role):
            process.suspend()

    def resume(self, role: Role) -> None:
        for process in self.processes(role):
            process.resume()

    def processes(self, role: Role | None = None) -> list[psutil.Process]:
        """Those alive that this server started, wherever they were reparented, by what they are."""
        return [process for process in psutil.process_iter() if self._is_ours(process, role)]

    def pids(self, role: Role) -> list[int]:
        return [process.pid for process in self.processes(role)]

    def clean_up(self) -> None:
        """Ends whatever is left, the hard way where it must be."""
        self.kill_all()
        if self._stores is not None:
            self._stores.engine.dispose()

    # looking in

    def wait_until_ready(self, timeout_s: float = READY_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self.readiness()[0]:
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"the server ended with status {ended}\n{self.log_tail()}"
            assert time.monotonic() < deadline_s, f"not ready after {timeout_s:g} s\n{self.log_tail()}"
            time.sleep(POLL_S)

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether it is ready, and what /health/ready says."""
        try:
            response = httpx.get(f"{self.url}/health/ready", timeout=5.0)
        except httpx.TransportError as error:
            return False, {"unreachable": str(error)}
        return response.status_code == 200, response.json()

    def ledger(self) -> list[dict[str, Any]]:
        """Every record, oldest first."""
        path = self.data_dir / "ledger.sqlite"
        if not path.exists():
            return []
        engine = create_ledger_engine(f"sqlite:///{path}")
        with contextlib.closing(SqlLedger(engine).records(0, 2**53)) as found:
            records = [record.to_json() for record in chain.from_iterable(found)]
        engine.dispose()
        return records

    def record(self, request_id: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The record of one request, as soon as the ledger has it."""

        def find() -> dict[str, Any] | None:
            return next((row for row in self.ledger() if row["request_id"] == request_id), None)

        return wait_until(f"the record of {request_id}", find, timeout_s)

    def new_records(self, seen: int, count: int, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """The records after the first `seen`, once there are `count` of them."""
        rows = wait_until(
            f"{count} records after the first {seen}",
            lambda: rows if len(rows := self.ledger()) >= seen + count else None,
            timeout_s,
        )
        return rows[seen:]

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(embedded_url(self.data_dir / "redis"), socket_timeout=5)

    def counter(self, budget_id: str) -> tuple[int, int]:
        """What Redis has as spent and as reserved for a budget, in nano-USD."""
        with self.redis() as client:
            (key,) = client.keys("{parsimony}:budget:" + budget_id + ":*")
            spent, reserved = client.hmget(key, "spent", "reserved")
        return int(spent or 0), int(reserved or 0)

    def stores(self) -> AdminServices:
        """The server's own directory, ledger and counters, as its command line opens them beside it."""
        if self._stores is None:
            self._stores = open_admin(self.config_path)
        return self._stores

    def fields(self, budget: Budget, end_user: str = "") -> dict[str, int]:
        """A budget's counter in Redis: `spent`, `reserved`, and `b<number>` for the parts of a rolling one."""
        period = window_of(budget, datetime.now(UTC))
        key = counter_of(budget, period, end_user if budget.is_of_every_user else None).key
        with self.redis() as client:
            return {name.decode(): int(value) for name, value in client.hgetall(key).items()}

    def pending(self) -> int:
        """Requests admitted and not settled, of workers alive and dead."""
        with self.redis() as client:
            return sum(client.hlen(key) for key in client.keys("{parsimony}:pending:*"))

    def pending_of(self, worker: psutil.Process) -> set[str]:
        """Of these, the requests of one worker, whose name in Redis is that of its open spool."""
        spools = [Path(file.path) for file in worker.open_files() if file.path.endswith(".spool")]
        keys = [redis_keys.pending(spool.stem.rpartition("-")[0]) for spool in spools]
        with self.redis() as client:
            return {request_id.decode() for key in keys for request_id in client.hkeys(key)}

    def spooled(self) -> int:
        """Bytes that wait on disk for a Redis that was away, of workers alive and dead."""
        found = 0
        for path in spool_folder(self.data_dir).glob("*.spool"):
            with contextlib.suppress(FileNotFoundError):  # taken over meanwhile
                found += path.stat().st_size
        return found

    def booked(self, timeout_s: float = 15.0) -> int:
        """How many records there are, once nothing is pending and nothing is on its way to the ledger.

        What a killed worker left on disk is booked only after what it left pending.
        """

        def quiet() -> bool:
            with self.redis() as client:
                return self.spooled() == 0 and self.pending() == 0 and client.xlen("{parsimony}:spend") == 0

        wait_until("everything is booked", quiet, timeout_s)
        return len(self.ledger())

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def stdout(self) -> str:
        return self.stdout_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-30:])

    # administering

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the admin API; its JSON."""
        response = httpx.request(
            method, f"{self.url}/admin/v1{path}", json=body, timeout=10.0,
            headers={"authorization": f"Bearer {self.admin_key}"},
        )  # fmt: skip
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    def create_key(
        self,
        team: str,
        *,
        models: Sequence[str] | None = None,
        role: str = "application",
        project: str | None = None,
        trusted: bool = False,
        tags: Sequence[str] = (),
    ) -> dict[str, Any]:
        """A key of `team`, which is made where it is new, as is its project: {"id": ..., "secret": ...}."""
        if team not in {entry["id"] for entry in self.admin("GET", "/teams")["teams"]}:
            self.admin("POST", "/teams", {"id": team})
        if project not in {None, *(entry["id"] for entry in self.admin("GET", "/projects")["projects"])}:
            self.admin("POST", "/projects", {"team_id": team, "id": project})
        made = self.admin("POST", "/keys", {
            "team_id": team, "name": "for a test", "role": role, "allowed_models": list(models) if models else None,
            "project_id": project, "trusted": trusted, "tags": list(tags),
        })  # fmt: skip
        return {"id": made["key"]["id"], "secret": made["secret"]}

    def set_budget(self, kind: Literal["teams", "keys"], subject: str, limit_usd: str | None) -> Any:
        return self.admin("PUT", f"/{kind}/{subject}/budget", {"limit_usd": limit_usd})["budget"]

    def put_budget(self, subject_kind: str, subject_id: str, limit: int, **terms: Any) -> Budget:
        """Any budget; `limit` is in nano-USD where it limits money, else in the unit that `terms` name."""
        money = terms.get("unit", "usd") == "usd"
        amount = {"limit_usd": format_usd(limit)} if money else {"limit": limit}
        made = self.admin(
            "POST", "/budgets", {"subject_kind": subject_kind, "subject_id": subject_id, **amount, **terms}
        )
        return next(b for b in self.stores().directory.list_budgets() if b.id == made["id"])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`parsimony ARGUMENTS --config ...`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "router.cli", *arguments, "--config", str(self.config_path)],
            capture_output=True, text=True, timeout=60, env=self.environment(), cwd=ROOT, check=False,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """This shell's, less anybody's credentials."""
        ours = {name: value for name, value in os.environ.items() if name not in CREDENTIALS}
        return {**ours, UPSTREAM_KEY_ENV: UPSTREAM_KEY, MARKER: self._marker, **self._environ}

    def _printed_key(self) -> str:
        found = re.search(r"Admin key, shown this once.*?\n\s*\n\s+(\S+)\n", self.stdout(), re.DOTALL)
        assert found is not None, f"no admin key was printed:\n{self.stdout()}"
        return found.group(1)

    def _is_ours(self, process: psutil.Process, role: Role | None) -> bool:
        try:
            command = " ".join(process.cmdline())
            # Redis writes its title over the environment it was given.
            ours = self._redis_socket in command or process.environ().get(MARKER) == self._marker
            return ours and process.status() != psutil.STATUS_ZOMBIE and (role is None or _SIGNS[role] in command)
        except (psutil.Error, OSError):
            return False  # somebody else's, or gone by now


@contextmanager
def serving(
    folder: Path, config: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, start: bool = True
) -> Iterator[Server]:
    """A server that is ready, and leaves no process behind however the test ends."""
    server = Server(folder, config, environ)
    try:
        if start:
            server.start()
        yield server
    finally:
        server.clean_up()
