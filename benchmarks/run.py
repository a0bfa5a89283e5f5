"""What every benchmark of a run is told, and how it says where it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured: ``seconds`` each window, ``sizes`` in sockets."""

    rounds: int = 3
    seconds: float = 5.0
    sizes: tuple[int, ...] = (1_000, 5_000, 10_000)


def say(what: str) -> None:
    """Tell how far the run is, on standard error."""
    print(what, file=sys.stderr, flush=True)
