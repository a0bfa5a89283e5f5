"""How many file descriptors there are, and who gets them."""

from __future__ import annotations

import resource

KEPT = 96
"""Descriptors that are not for connections: stores, admin port, and clients that still shake hands."""
RESERVED = 32
"""Descriptors that no client gets at all, so that stores and the admin port are still reached."""
PLENTY = 1 << 20


def raise_limit() -> None:
    """Use as many descriptors as the system lets us have: the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """Return how many descriptors this process may have open, :data:`PLENTY` if any number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return PLENTY if soft == resource.RLIM_INFINITY else soft
