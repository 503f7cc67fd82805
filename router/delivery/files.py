"""`write_file`: a file that is there whole, or as it was before; what is no file, but a pipe say, is written to."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_MODE = 0o644
_STDOUT, _STDERR = 1, 2


def write_file(path: Path, content: bytes) -> None:
    """Makes the folders that are missing, and follows links. Raises OSError.

    Only a regular file may be replaced: a device or a FIFO that was would be gone for everybody else, too.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        status = None
    if status is None or (stat.S_ISREG(status.st_mode) and not _is_output(status)):
        _replace(Path(os.path.realpath(path)), content)
    else:
        _write_to(path, content)


def _is_output(status: os.stat_result) -> bool:
    """Whether it is where a shell sent what is printed here: a file in its place would lose what came before."""
    for handle in (_STDOUT, _STDERR):
        with suppress(OSError):  # closed
            if os.path.samestat(status, os.fstat(handle)):
                return True
    return False


def _write_to(path: Path, content: bytes) -> None:
    """Appends, for a file that is the output has what others printed; a pipe or a device knows no difference."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as file:
        file.write(content)


def _replace(path: Path, content: bytes) -> None:
    """Leaves nothing behind where it fails.

    It is on the disk before it gets its name: a power cut must not leave an empty file of a good name. A process that
    is killed half way leaves a hidden file, which nobody takes for a report.
    """
    _make_folder(path.parent)
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


def _make_folder(folder: Path) -> None:
    """Raises OSError, which names what is in the way where that is no folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        taken = next(above for above in (folder, *folder.parents) if os.path.lexists(above))
        raise NotADirectoryError(errno.ENOTDIR, f"{taken} is no folder") from error
