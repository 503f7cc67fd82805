"""Child processes that cannot outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def follow_parent() -> None:
    """For `preexec_fn`: a process group of its own, so that Ctrl-C reaches the parent alone, and on
    Linux SIGTERM when the parent dies, however it dies."""
    os.setpgrp()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
