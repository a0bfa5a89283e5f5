"""What processes cost, and which cores they get. Linux."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Return the CPU time that process ``pid`` has had, seconds, in steps of a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return how much memory process ``pid`` has of its own: resident, without what it shares through files."""
    sizes = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(sizes["RssAnon"].split()[0]) * 1024


def pin(pid: int, cores: set[int]) -> None:
    """Let all threads of process ``pid`` run on ``cores`` alone."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


_LOOK_S = 0.5
_CORES = sorted(os.sched_getaffinity(0))
"""As of the start: the benchmark keeps to some of them."""


def split_cores() -> tuple[set[int], set[int]]:
    """Return the core of the server under test, and those of everybody else: on one core machine, the same."""
    first, *others = _CORES
    return {first}, set(others) or {first}


async def quiet(pid: int, busy_part: float = 0.1, timeout_s: float = 120.0) -> None:
    """Return when process ``pid`` has used less than ``busy_part`` of a core for half a second.

    Raises:
        TimeoutError: it is busy still.
    """
    async with asyncio.timeout(timeout_s):
        before_s = cpu_s(pid)
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = cpu_s(pid)
            if now_s - before_s < busy_part * _LOOK_S:
                return
            before_s = now_s
