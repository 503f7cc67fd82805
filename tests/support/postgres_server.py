"""A private PostgreSQL for the contract tests, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUPERUSER = "parsimony"
DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian puts them, a folder for each version; on no PATH."""


def missing() -> str | None:
    """Why no server can be started here, or None."""
    absent = [name for name in ("initdb", "postgres", "pg_ctl") if _program(name) is None]
    if absent:
        return f"PostgreSQL is not installed here: no {', '.join(absent)}"
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or _unprivileged() is None):
        return "PostgreSQL refuses to run as root, and no other user is at hand"
    return None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yields the URL of an empty database on a Unix socket in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, _unprivileged())
    data = folder / "data"
    try:
        _run("initdb", "-D", str(data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        _run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://{SUPERUSER}@/postgres?host={folder}"
        finally:
            _run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> None:
    program = str(_program(command[0]))
    prefix = ["setpriv", f"--reuid={_unprivileged()}", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, program, *command[1:]], check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _program(name: str) -> str | None:
    """Its path; the newest version's where there are several."""
    of_versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return shutil.which(name) or (str(of_versions[-1]) if of_versions else None)


def _unprivileged() -> str | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None
