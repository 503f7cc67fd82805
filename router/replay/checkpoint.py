"""Where a replay stands, on disk: so that after any interruption it goes on, to the same result.

Holds sums, hashes of requests and of their names, and places in files; the text of no prompt and no answer.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from router.errors import ConfigError
from router.replay.content import STDIN
from router.replay.sums import Sums

FORMAT = 2
_HASHED_BYTES = 65_536


class CheckpointError(ConfigError, ValueError):
    """A checkpoint that cannot be read, or that is of another replay."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint is of: the logs as they lie there, and everything that the result depends on."""

    logs: tuple[tuple[str, int, str], ...]
    plan: str


def identity(paths: Sequence[str], plan_digest: str) -> Identity:
    """Raises CheckpointError for a stream, which cannot be read again."""
    if any(name == STDIN or not Path(name).is_file() for name in paths):
        raise CheckpointError("--checkpoint: a stream cannot be read again from where it was; allowed: files")
    return Identity(tuple([_log(Path(name)) for name in paths]), plan_digest)


def _log(path: Path) -> tuple[str, int, str]:
    """Name, size and the hash of its beginning and end: a log that grew since, or was rotated, is another."""
    size = path.stat().st_size
    with path.open("rb") as file:
        found = sha256(file.read(_HASHED_BYTES))
        file.seek(max(size - _HASHED_BYTES, 0))
        found.update(file.read(_HASHED_BYTES))
    return path.name, size, found.hexdigest()


def write(path: Path, of: Identity, sums: Sums, now_ms: int, bad_bytes: int) -> None:
    """Replaces the file at once: whoever is killed meanwhile leaves the old one."""
    arrays, plain = sums.state()
    head = {"format": FORMAT, "logs": of.logs, "plan": of.plan, "now_ms": now_ms, "bad_bytes": bad_bytes, "sums": plain}
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        np.savez(file, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@dataclass(frozen=True, slots=True)
class Saved:
    """`now_ms` is when the replay began, `bad_bytes` how much of the file of bad rows was written by then."""

    of: Identity
    now_ms: int
    bad_bytes: int
    sums: dict
    arrays: dict


def read(path: Path) -> Saved | None:
    """None where there is none yet. Raises CheckpointError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = json.loads(arrays.pop("head").tobytes())
        if head["format"] != FORMAT:
            raise CheckpointError(f"{path}: is of format {head['format']}; this version reads {FORMAT}: begin anew")
        logs = tuple((name, size, digest) for name, size, digest in head["logs"])
        return Saved(Identity(logs, head["plan"]), head["now_ms"], head["bad_bytes"], head["sums"], arrays)
    except FileNotFoundError:
        return None
    except CheckpointError:
        raise
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path}: is no checkpoint that can be read; remove it to begin anew") from error


def check(path: Path, saved: Saved, of: Identity) -> None:
    """Raises CheckpointError that says what differs."""
    if saved.of.logs != of.logs:
        found = ", ".join(name for name, _, _ in saved.of.logs)
        raise CheckpointError(
            f"{path}: is of other logs, or they changed since: {found}; name the same, or another file as --checkpoint"
        )
    if saved.of.plan != of.plan:
        raise CheckpointError(
            f"{path}: was begun with another configuration, other prices or options; "
            "repeat them, or name another file as --checkpoint"
        )
