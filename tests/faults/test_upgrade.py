"""F24, by docs/runbooks/upgrade.md: one process kind after the other, old and new serving people together."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from discovery.member_files import live_members
from location_cache.redis import open_cache
from nearby.messages import Ack
from nearby.model import UserId
from nearby.ports import MemberState, Role
from nearby_client import Event, NearbyApi, NearbyClient
from tests.faults.test_ring_under_load import operating
from tests.support.eventually import eventually
from tests.support.releases import Releases
from tests.support.runbook import Reader, following
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack
from tests.support.steady import HERE, SETTINGS, SteadyCrowd
from tests.support.valkey import ValkeyServer

USERS, FRIENDS = 36, 8
REPORTS_PER_S = 9
"""Each of the 18 reports every two seconds: two reports of one that are sent together, because the machine stood still
for as long, may reach a screen as one."""
SECTIONS = {"keeper-1": "ring keeper", "writer-1": "history writer", "api": "API"}
OURS = {"api", "writer-1", "keeper-1", "gw-1", "gw-2"}
PHASE_S = 3.0
"""Of load after each step."""
ENFORCED_WITHIN_S = 2.0
READY_WITHIN_S = 40.0


class TravellingCrowd(SteadyCrowd):
    """A crowd that goes where the API says, and notes what was acknowledged."""

    def __init__(self, users: list[UserId], friends: int) -> None:
        super().__init__(users, friends)
        self.acknowledged: set[tuple[UserId, int]] = set()
        self.parted: set[UserId] = set()

    def watchers_of(self, reporter: UserId) -> list[UserId]:
        """Return the friends of ``reporter`` who stand still; the two who parted are nobody's business any more."""
        return [user for user in super().watchers_of(reporter) if not {user, reporter} <= self.parted]

    def take(self, watcher: UserId, event: Event) -> None:
        if isinstance(event, Ack) and event.recorded_at_ms is not None:
            self.acknowledged.add((watcher, event.recorded_at_ms))
        super().take(watcher, event)

    async def travel(self, api: NearbyApi, tokens: Mapping[UserId, str], exits: AsyncExitStack) -> None:
        """Connect everybody, let each report once, and wait until all see all their friends."""
        for index, (user, token) in enumerate(tokens.items()):
            client = NearbyClient(api, token, on_event=partial(self.take, user), rng=random.Random(index))
            self.clients[user] = await exits.enter_async_context(client)
            await eventually(lambda client=client: client.connected, within_s=30)  # type: ignore[misc]
            client.report(*HERE)
        await eventually(self.everybody_sees_everybody, within_s=60)
        self.settle()

    def everybody_sees_everybody(self) -> bool:
        return all(len(client.friends) == FRIENDS for client in self.clients.values())

    def settle(self) -> None:
        """Begin to count anew, with everybody at home where they are connected now."""
        self.forget()
        self._home = {user: gateway_of(client) for user, client in self.clients.items()}

    @property
    def population(self) -> Counter[str]:
        return Counter(gateway_of(client) for client in self.clients.values())


def gateway_of(client: NearbyClient) -> str:
    assert client.welcome is not None
    return client.welcome.gateway_id


@asynccontextmanager
async def steady_between(crowd: TravellingCrowd, *gateways: str) -> AsyncIterator[None]:
    """Do something under load; no update between people who stay connected to ``gateways`` is lost or shown twice."""
    crowd.settle()
    assert all(crowd.population[gateway] > 1 for gateway in gateways), crowd.population
    async with crowd.reporting(REPORTS_PER_S):
        await asyncio.sleep(PHASE_S / 2)
        yield
        await asyncio.sleep(PHASE_S)
    await eventually(lambda: nothing_is_lost(crowd, set(gateways)), within_s=5)
    assert crowd.shown_twice(set(gateways)) == 0


def nothing_is_lost(crowd: TravellingCrowd, gateways: set[str]) -> bool:
    lost = crowd.lost(gateways)
    assert lost == [], f"{len(lost)} lost: {lost[:5]}"
    return True


async def replaced(stack: Stack, releases: Releases, reader: Reader, name: str, admin_url: str) -> None:
    """End a process as the runbook says, and wait until its successor, of the present version, is ready."""
    old_pid = stack.pids[name]
    await reader.follow(f"Act: {SECTIONS[name]}")
    pid = await stack.restarted(name, old_pid, within_s=READY_WITHIN_S)
    async with httpx.AsyncClient(trust_env=False) as http:

        async def ready() -> bool:
            try:
                return (await http.get(f"{admin_url}/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(ready, within_s=READY_WITHIN_S)
    assert releases.of(pid) == releases.present


@asynccontextmanager
async def new_gateway(stack: Stack, releases: Releases, name: str, beside: Mapping[str, str]) -> AsyncIterator[None]:
    """Run a gateway of the present version with the settings ``beside`` of another one, and wait until it serves."""
    own = {"NEARBY_GATEWAY_ID": name, "NEARBY_PORT": "0", "NEARBY_ADMIN_PORT": "0"}
    with (stack.data_dir / "logs" / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ws_gateway"), env={**beside, **own}, stdout=log, stderr=log
        )
    try:
        await eventually(lambda: is_serving(stack, name), within_s=READY_WITHIN_S)
        assert releases.of(process.pid) == releases.present
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_serving(stack: Stack, gateway: str) -> bool:
    members = await asyncio.to_thread(live_members, stack.data_dir / "discovery", Role.GATEWAY)
    return gateway in members and members[gateway].state is MemberState.SERVING


async def drained(reader: Reader, crowd: TravellingCrowd, gateway: str) -> None:
    """Take a gateway out of service, and wait until its people are elsewhere."""
    reader.values["GATEWAY"] = gateway
    await reader.follow("")
    await reader.follow("Act: gateways")

    def elsewhere() -> bool:
        assert all(client.connected for client in crowd.clients.values())
        return gateway not in crowd.population

    await eventually(elsewhere, within_s=35)


async def migrated(environ: Mapping[str, str]) -> None:
    """Bring the user database to the present version, while processes of the previous one use it."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "social_graph", env=dict(environ))
    assert await process.wait() == 0


def environ_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


async def is_the_truth(stack: Stack, crowd: TravellingCrowd) -> bool:
    """I1: whether every map shows all friends, as the cache has them."""
    async with open_cache(stack.cache_url, 600) as cache:
        found = await cache.read_many(crowd.users)
    truth = {user: one.record.recorded_at_ms for user, one in zip(crowd.users, found, strict=True) if one is not None}
    for user, client in crowd.clients.items():
        shown = {friend: entry.updated_at_ms for friend, entry in client.friends.items()}
        assert shown == {UserId(friend): truth[UserId(friend)] for friend in shown}, user
        assert len(shown) == FRIENDS - (user in crowd.parted), user
    return True


async def history_of(stack: Stack, user: UserId, token: str) -> set[tuple[UserId, int]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False, headers=headers) as http:
        answer = await http.get("/v1/me/history", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    assert answer.json()["next_cursor"] is None
    return {(user, point["recorded_at_ms"]) for point in answer.json()["items"]}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases")


async def test_F24_I1_I2_I3_I4_each_process_kind_is_upgraded_under_load_beside_the_previous_version(
    tmp_path: Path, releases: Releases, valkey_servers: Callable[..., ValkeyServer]
) -> None:
    async with (
        running_stack(tmp_path, {**SETTINGS, **releases.environ}) as stack,
        NearbyApi(stack.api_url) as api,
        following("upgrade.md", stack) as reader,
        AsyncExitStack() as exits,
    ):
        assert {releases.of(pid) for name, pid in stack.pids.items() if name in OURS} == {releases.previous}
        tokens = seed(stack.data_dir, USERS, FRIENDS)
        beside = environ_of(stack.pids["gw-1"])
        api_environ = environ_of(stack.pids["api"])
        await reader.follow("Check")
        releases.switch()
        await exits.enter_async_context(new_gateway(stack, releases, "gw-3", beside))
        crowd = TravellingCrowd(list(tokens), FRIENDS)
        await crowd.travel(api, tokens, exits)

        # One new gateway, and everything else old; then a new one of each, while two of three gateways are old.
        async with steady_between(crowd, "gw-1", "gw-2", "gw-3"):
            await migrated(api_environ)
        admin_urls = {
            "keeper-1": stack.ring_keeper_admin_url,
            "writer-1": stack.history_writer_admin_url,
            "api": stack.api_admin_url,
        }
        for name, admin_url in admin_urls.items():
            async with steady_between(crowd, "gw-1", "gw-2", "gw-3"):
                await replaced(stack, releases, reader, name, admin_url)
            await reader.follow("Verify")
        async with steady_between(crowd, "gw-1", "gw-2", "gw-3"), operating(stack) as operator:
            await operator.resize(add=[valkey_servers().url])
        await part(api, crowd, tokens)

        await exits.enter_async_context(new_gateway(stack, releases, "gw-4", beside))
        async with steady_between(crowd, "gw-2", "gw-3"):
            await drained(reader, crowd, "gw-1")
        async with steady_between(crowd, "gw-3"):
            await drained(reader, crowd, "gw-2")
        assert crowd.population.keys() <= {"gw-3", "gw-4"}

        await eventually(lambda: is_the_truth(stack, crowd), within_s=35)
        assert all(client.refused_count == 0 for client in crowd.clients.values()), "I3: a location went backwards"
        for user in crowd.reporters:
            mine = {point for point in crowd.acknowledged if point[0] == user}
            assert mine, user
            await eventually(lambda user=user, mine=mine: has_all(stack, user, tokens[user], mine), within_s=20)  # type: ignore[misc]


async def has_all(stack: Stack, user: UserId, token: str, acknowledged: set[tuple[UserId, int]]) -> bool:
    return acknowledged <= await history_of(stack, user, token)


async def part(api: NearbyApi, crowd: TravellingCrowd, tokens: Mapping[UserId, str]) -> None:
    """I2: end a friendship at the new API; old and new gateways enforce it within two seconds."""
    one, other = next(
        (user, UserId(friend))
        for user, client in crowd.clients.items()
        for friend in client.friends
        if gateway_of(client) != "gw-3" and gateway_of(crowd.clients[UserId(friend)]) == "gw-3"
    )
    await api.send("DELETE", f"/v1/friends/{other}", tokens[one])
    await eventually(
        lambda: other not in crowd.clients[one].friends and one not in crowd.clients[other].friends,
        ENFORCED_WITHIN_S,
    )
    crowd.parted = {one, other}
