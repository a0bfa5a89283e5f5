"""What every benchmark of a run is told, and how it says where it is."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from benchmarks.subjects import Running, Subject
from benchmarks.targets import FRIENDS


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured: ``seconds`` each window, ``sizes`` in sockets."""

    rounds: int = 3
    seconds: float = 5.0
    sizes: tuple[int, ...] = (1_000, 5_000, 10_000)


async def in_rounds(
    name: str,
    sizes: Iterable[int],
    subjects: Iterable[Subject],
    rounds: int,
    measure: Callable[[Running, int], Awaitable[None]],
) -> None:
    """Start each of ``subjects`` anew for each size and each round, and let ``measure`` it; the rounds are numbered."""
    for users in sizes:
        for number in range(rounds):
            for subject in subjects:
                say(f"{name}, {users:,} sockets × {FRIENDS}, round {number + 1} of {rounds}: {subject.name}")
                async with subject.running(users) as running:
                    await measure(running, number)


def say(what: str) -> None:
    """Tell how far the run is, on standard error."""
    print(what, file=sys.stderr, flush=True)
