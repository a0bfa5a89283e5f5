"""A real Prometheus, and promtool."""

from __future__ import annotations

import asyncio
import re
import subprocess
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from monitoring.local import command, configuration
from tests.support.eventually import eventually
from tests.support.loopback import own_host, own_port

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)|\[[^\]]*\]")
_NAMES = re.compile(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(?!\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool", "by", "on", "without", "offset", "group_left", "group_right"})


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False)


def metric_names(expression: str) -> set[str]:
    """Return every metric that a PromQL expression reads."""
    return set(_NAMES.findall(_LABELS.sub(" ", _STRINGS.sub('""', expression)))) - _WORDS


def exported_names(exposition: str) -> set[str]:
    """Return the name of every series in the text format of Prometheus, those without a sample yet included."""
    names = set()
    for line in exposition.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
        elif line and line[0] != "#":
            names.add(re.split(r"[{ ]", line, maxsplit=1)[0])
    return names


class Prometheus:
    """A running Prometheus."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def query(self, expression: str) -> list[Any]:
        """Return the instant vector of ``expression``; each element has ``metric`` and ``value``."""
        answer = (await self._http.get("/api/v1/query", params={"query": expression})).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return list(answer["data"]["result"])

    async def value(self, expression: str) -> float | None:
        """Return the only value of ``expression``, ``None`` if there is none."""
        found = await self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    async def alerts(self, state: str = "firing") -> set[str]:
        """Return the names of the alerts in ``state``."""
        return {each["metric"]["alertname"] for each in await self.query(f'ALERTS{{alertstate="{state}"}}')}

    async def failed_rules(self) -> list[str]:
        """Return the names of the rules whose last evaluation failed."""
        groups = (await self._http.get("/api/v1/rules")).json()["data"]["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"]

    async def healthy_targets(self) -> int:
        return len(await self.query("up == 1"))


@asynccontextmanager
async def running_prometheus(
    directory: Path, jobs: Mapping[str, Sequence[str]], rules: Sequence[Path], interval_s: float
) -> AsyncIterator[Prometheus]:
    """Start a Prometheus that scrapes ``jobs``, and wait until it has seen each of them."""
    config, listen = directory / "prometheus.yaml", f"{own_host()}:{own_port()}"
    config.write_text(configuration(jobs, rules, interval_s))
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command(config, directory / "prometheus", listen), stdin=DEVNULL, stdout=output, stderr=output
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{listen}", trust_env=False) as http:
            prometheus = Prometheus(http)
            wanted = sum(len(addresses) for addresses in jobs.values())

            async def scrapes() -> bool:
                assert process.returncode is None, log.read_text()
                try:
                    return await prometheus.healthy_targets() == wanted
                except (httpx.TransportError, ValueError):
                    return False

            await eventually(scrapes, 30)
            yield prometheus
    finally:
        process.terminate()
        await process.wait()
