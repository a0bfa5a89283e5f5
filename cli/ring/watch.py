"""Watch a resize to its end. Nobody who stops watching stops the resize."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live

from cli.ring.client import Document, KeeperClient, RingCommandError
from cli.ring.tables import progress_line

_POLL_S = 0.25
_RECORDED_WITHIN_S = 2.0
"""An action is recorded just after the ring is written."""
PATIENCE_S = 30.0
"""How long a keeper may not answer; another one may be taking over meanwhile."""


def watch(keeper: KeeperClient, epoch: int, slots: set[str], console: Console) -> Document:
    """Follow the resize to ring ``epoch``, whose slots are to be ``slots``; return the ring at its end.

    Raises:
        RingCommandError: it was aborted, or no keeper answers any more.
    """
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            ring = _patiently(keeper)
            resize = ring["resize"]
            if resize is None or resize["epoch"] != epoch:
                break
            line = progress_line(resize)
            if line != shown and not console.is_terminal:
                console.print(line)
            shown = line
            live.update(line, refresh=console.is_terminal)
            time.sleep(_POLL_S)
    if {shard["slot"] for shard in ring["shards"] if shard["partitions"]} != slots:
        raise RingCommandError("aborted", _why_aborted(keeper, epoch))
    return ring


def _patiently(keeper: KeeperClient) -> Document:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return keeper.show()
        except RingCommandError as error:
            if error.code not in ("unreachable", "unavailable") or time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)


def _why_aborted(keeper: KeeperClient, epoch: int) -> str:
    deadline_s = time.monotonic() + _RECORDED_WITHIN_S
    while time.monotonic() < deadline_s:
        for action in reversed(_patiently(keeper)["actions"]):
            if action["action"] == "abort" and action["epoch"] == epoch:
                return f"the resize was aborted by {action['actor']}: {action['reason']}"
        time.sleep(_POLL_S)
    return "the resize did not come about: the ring was changed by somebody else"
