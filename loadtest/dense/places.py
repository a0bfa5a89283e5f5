"""What a process needs of its machine for many sockets: open files, and addresses to come from."""

from __future__ import annotations

import ipaddress
import itertools
import resource
import sys
from urllib.parse import urlsplit

OTHER_FILES = 200
"""Open files of a process beside its phones' sockets."""
LOOPBACK_SOURCES = [f"127.0.1.{last}" for last in range(1, 33)]
"""There are some 28,000 ports to come from for each address and listening port; so this many do for 900,000."""


class TooFewFiles(Exception):
    """A process may not open as many files as it must; says what to do."""


def allow_files(count: int) -> None:
    """Let this process and those it starts open ``count`` files, if they may not yet.

    Raises:
        TooFewFiles: not without root.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (-1, resource.RLIM_INFINITY) or soft >= count:
        return
    if hard not in (-1, resource.RLIM_INFINITY) and hard < count:
        raise TooFewFiles(
            f"{count} files must be open in one process, and {hard} may be. As root: `ulimit -n {count}`, then this "
            "again; or more --processes, of which each has a limit of its own."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class Sources:
    """Addresses to connect from, in turn.

    ``named`` are the user's own, with commas between them. On Linux a machine has all of 127.0.0.0/8, so that who loads
    itself need not name any.
    """

    def __init__(self, named: str) -> None:
        addresses = [address.strip() for address in named.split(",") if address.strip()]
        self._named = itertools.cycle(addresses) if addresses else None
        self._loopback = itertools.cycle(LOOPBACK_SOURCES) if sys.platform.startswith("linux") else None

    def towards(self, url: str) -> str | None:
        """Return the next address to connect to ``url`` from, or ``None`` where the system chooses."""
        if self._named is not None:
            return next(self._named)
        if self._loopback is not None and _is_loopback(urlsplit(url).hostname):
            return next(self._loopback)
        return None


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.IPv4Address(host or "").is_loopback
    except ValueError:
        return False
