"""Watch a resize to its end. Nobody who stops watching stops the resize."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

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
        KeyboardInterrupt: Ctrl-C.
    """
    with _interrupts() as interrupted:
        ring = _follow(keeper, epoch, console, interrupted)
        if {shard["slot"] for shard in ring["shards"] if shard["partitions"]} != slots:
            raise RingCommandError("aborted", _why_aborted(keeper, epoch, interrupted))
    return ring


@contextmanager
def _interrupts() -> Iterator[Event]:
    """Let Ctrl-C set an event. As an exception it may come where none gets any further: in a finalizer, for one."""
    interrupted = Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _pause(interrupted: Event) -> None:
    if interrupted.wait(_POLL_S):
        raise KeyboardInterrupt


def _follow(keeper: KeeperClient, epoch: int, console: Console, interrupted: Event) -> Document:
    """Show how the resize goes until it is over; return the ring then."""
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            ring = _patiently(keeper, interrupted)
            resize = ring["resize"]
            if resize is None or resize["epoch"] != epoch:
                return ring
            line = progress_line(resize)
            if line != shown and not console.is_terminal:
                console.print(line)
            shown = line
            live.update(line, refresh=console.is_terminal)
            _pause(interrupted)


def _patiently(keeper: KeeperClient, interrupted: Event) -> Document:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return keeper.show()
        except RingCommandError as error:
            if error.code not in ("unreachable", "unavailable") or time.monotonic() > deadline_s:
                raise
            _pause(interrupted)


def _why_aborted(keeper: KeeperClient, epoch: int, interrupted: Event) -> str:
    deadline_s = time.monotonic() + _RECORDED_WITHIN_S
    while time.monotonic() < deadline_s:
        for action in reversed(_patiently(keeper, interrupted)["actions"]):
            if action["action"] == "abort" and action["epoch"] == epoch:
                return f"the resize was aborted by {action['actor']}: {action['reason']}"
        _pause(interrupted)
    return "the resize did not come about: the ring was changed by somebody else"
