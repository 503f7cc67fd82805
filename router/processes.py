"""Child processes that cannot outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from router.errors import ConfigError, ParsimonyError

UNUSABLE_CONFIG = 2
"""A child's exit status that says: the configuration cannot be used, so starting it again would not help."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def exit_status(error: ParsimonyError) -> int:
    """Of a process that ends for `error`."""
    return UNUSABLE_CONFIG if isinstance(error, ConfigError) else 1


def follow_parent() -> None:
    """For `preexec_fn`: a process group of its own, so that Ctrl-C reaches the parent alone, and on
    Linux SIGTERM when the parent dies, however it dies."""
    os.setpgrp()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
