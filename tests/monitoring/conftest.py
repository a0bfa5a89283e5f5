"""One stack with two friends on it, and what each of its processes exports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import httpx
import pytest
import pytest_asyncio

from monitoring.local import targets
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.people import befriend, sign_up
from tests.support.prober import running_prober
from tests.support.stack import Stack, running_stack

SEOUL = (37.5665, 126.978)
Jobs = Mapping[str, Sequence[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack on which one friend has seen another, one on each gateway."""
    async with running_stack(tmp_path_factory.mktemp("stack")) as running, NearbyApi(running.api_url) as api:
        anna, ben = await sign_up(api), await sign_up(api)
        await befriend(anna, ben)
        here, there = running.gateways
        async with anna.online(here.ws_url), ben.online(there.ws_url):
            anna.client.report(*SEOUL)
            ben.client.report(*SEOUL)
            await eventually(lambda: ben.user_id in anna.map and anna.user_id in ben.map, within_s=10)
            anna.client.report(SEOUL[0] + 0.0005, SEOUL[1])
            await eventually(lambda: ben.map[anna.user_id] > 50, within_s=10)
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Jobs]:
    """Where each process of the stack, and a prober beside it, are scraped, by job."""
    async with running_prober(stack, tmp_path_factory.mktemp("prober") / "prober.log") as address:
        found = {**targets(stack.document), "nearby-prober": [address]}

        async def all_answer() -> bool:
            return "nearby_prober_probes_total{" in (await expositions(found))["nearby-prober"]

        await eventually(all_answer, 30)
        yield found


async def expositions(jobs: Jobs) -> dict[str, str]:
    """Return what a process of each job exports; nothing of one that does not answer."""
    texts = {}
    async with httpx.AsyncClient(trust_env=False) as http:
        for job, addresses in jobs.items():
            try:
                texts[job] = (await http.get(f"http://{addresses[0]}/metrics")).text
            except httpx.TransportError:
                texts[job] = ""
    return texts
