"""One stack with two friends on it, and what each of its processes exports."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from monitoring.local import targets
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.people import befriend, sign_up
from tests.support.stack import Stack, running_stack

SEOUL = (37.5665, 126.978)


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


async def expositions(stack: Stack) -> dict[str, str]:
    """Return what each process exports, by its job."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return {
            job: (await http.get(f"http://{addresses[0]}/metrics")).text
            for job, addresses in targets(stack.document).items()
        }
