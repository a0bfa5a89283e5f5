"""Watching a resize ends by Ctrl-C, wherever the interrupt arrives."""

from __future__ import annotations

import io
import signal
from typing import Any

import pytest
from rich.console import Console

from cli.ring.client import KeeperClient
from cli.ring.watch import watch

PREPARING = {"epoch": 2, "phase": "preparing", "members": 3, "acknowledged": 2, "missing": ["gw-2"]}
SHARDS = [{"slot": "shard-1", "partitions": 65_536}]


class Finalized:
    """Python says no more than "Exception ignored" of what is raised in a finalizer."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Keeper(KeeperClient):
    """A keeper of a resize that ends at the third look, the first of which Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.looks = 0

    def show(self) -> dict[str, Any]:
        self.looks += 1
        if self.looks == 1:
            Finalized()
        return {"resize": PREPARING if self.looks < 3 else None, "shards": SHARDS}


def test_an_interrupt_that_arrives_in_a_finalizer_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.ring.watch.progress_line", str)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        watch(Keeper(), 2, {"shard-1"}, Console(file=io.StringIO()))
    assert signal.getsignal(signal.SIGINT) is before
