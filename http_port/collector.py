"""The garbage collector of a process that holds many objects for long."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_OLDEST = 2
"""The generation whose collection looks at every object that is not frozen."""


@contextmanager
def spared_collector() -> Iterator[None]:
    """Let the garbage collector look at each object only until it has survived a full collection.

    Otherwise each full collection walks all that ten thousand connections hold, and nothing else runs for a tenth of
    a second. What lives long is freed by its reference count: a connection that has closed leaves no cycle.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_freeze_survivors)
    try:
        yield
    finally:
        gc.callbacks.remove(_freeze_survivors)
        gc.unfreeze()


def _freeze_survivors(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop" and info["generation"] == _OLDEST:
        gc.freeze()
