"""Ports for servers that a test kills and starts again on the same port."""

from __future__ import annotations

import itertools
import os
import sys

_FIRST_PORT = 6_400
"""Below the range from which systems take the ports of outgoing connections."""
_next_port = itertools.count(_FIRST_PORT).__next__


def own_host() -> str:
    """Return a loopback address that no other test process uses, so that nobody takes a port while it is free.

    Linux has sixteen million of them; elsewhere there is one, and ports are told apart by luck.
    """
    if not sys.platform.startswith("linux"):
        return "127.0.0.1"
    pid = os.getpid()
    return f"127.{64 + (pid >> 16) % 64}.{(pid >> 8) & 255}.{pid & 255}"


def own_port() -> int:
    """Return a port of :func:`own_host` that this process has not used yet."""
    return _next_port()
