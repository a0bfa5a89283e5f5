"""What the fleet's processes tell each other, one object of JSON a line. Pure.

A worker is given :class:`Orders`, and says :class:`Progress` once it is ready; then it is given an empty line, begins,
and says how it goes each second and at the end. The end of its input ends it early.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import msgspec

from loadtest.dense.rows import Row


class Orders(msgspec.Struct, frozen=True):
    """What a worker does: part ``part`` of ``parts``."""

    options: dict[str, Any]
    api_url: str
    people: str
    part: int
    parts: int

    def namespace(self) -> Namespace:
        """Return the options as the command line had them."""
        return Namespace(**self.options)


class Progress(msgspec.Struct):
    """What a worker has done since its beginning, ``at_s`` on its machine's clock.

    ``sockets`` are open and welcomed now; ``cpu_s`` its processor seconds; ``memory_kb`` what it holds now.
    """

    at_s: float = 0.0
    sockets: int = 0
    frames: int = 0
    cpu_s: float = 0.0
    memory_kb: int = 0
    rows: list[Row] = []


def total(each: list[Progress]) -> Progress:
    """Return what all have done together, without their rows."""
    return Progress(
        max((progress.at_s for progress in each), default=0.0),
        sum(progress.sockets for progress in each),
        sum(progress.frames for progress in each),
        sum(progress.cpu_s for progress in each),
        sum(progress.memory_kb for progress in each),
    )
