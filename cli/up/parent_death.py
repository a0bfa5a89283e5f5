"""Let a child process end with its parent, even if the parent is killed (Linux only)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """Return a function for the child to call between fork and exec, ``None`` where the system has no such thing.

    Whenever the *thread* that started the child ends, the kernel sends ``signum`` to the child: start it from
    the main thread (prctl(2), PR_SET_PDEATHSIG).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the kernel knew whom to tell
            os.kill(os.getpid(), signal.SIGKILL)

    return before_exec
