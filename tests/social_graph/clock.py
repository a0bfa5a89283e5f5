"""A clock that stands still until it is told to go on."""

from __future__ import annotations

NOW_MS = 1_795_237_200_000


class HeldClock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
