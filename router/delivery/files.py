"""`write_atomically`: a file that is there whole, or as it was before."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

_MODE = 0o644


def write_atomically(path: Path, content: bytes) -> None:
    """Makes the folders that are missing. Raises OSError, and leaves nothing behind then.

    It is on the disk before it gets its name: a power cut must not leave an empty file of a good name. A process that
    is killed half way leaves a hidden file, which nobody takes for a report.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _MODE)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
