"""The benchmarks work: each runs once, small and short. What they measure here means nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES

TIMEOUT_S = 240


async def run(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    return output.decode()


# The other references have tests of their own; here they would only take long.
BESIDE = {
    "fan-out": ("nearby", "C sender"),
    "connections": ("nearby", "Socket.IO"),
    "reports": ("nearby", "FastAPI"),
    "healing": ("nearby", "websockets"),
    "end-to-end": ("nearby", "FastAPI"),
    "storm": ("nearby",),
}


@pytest.mark.parametrize("name", NAMES)
async def test_a_benchmark_measures_each_subject(name: str, tmp_path: Path) -> None:
    for subject in BESIDE[name]:
        output = await run(name, "--smoke", "--only", subject, "--out", str(tmp_path / "results"))
        figures = json.loads((tmp_path / "results.json").read_text())["figures"]
        assert subject in {figure["subject"] for figure in figures}
        assert all(len(figure["rounds"]) == 1 for figure in figures)
        assert (name == "storm") or (tmp_path / "results.svg").read_text().startswith("<?xml")
        assert ("checked" in output) is (name == "fan-out" and subject == "nearby")


async def test_a_soak_measures_the_slope_of_memory(tmp_path: Path) -> None:
    await run("soak", "--smoke", "--minutes", "4", "--out", str(tmp_path / "results"))
    names = {figure["quantity"]["name"] for figure in json.loads((tmp_path / "results.json").read_text())["figures"]}
    assert {"memory", "memory slope", "p99", "connections lost"} <= names


def test_help_teaches() -> None:
    assert "soak --minutes" in asyncio.run(run("--help"))
