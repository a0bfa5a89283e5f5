"""``python -m pubsub_router`` over a directory of files: real servers, and members that do what the test says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace as but
from pathlib import Path
from typing import Any

import httpx
import pytest

from discovery.connect import open_discovery
from nearby.ports import Discovery, Member, MemberState, Registration, RingAction, RingState, Role
from tests.conftest import ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

TOKEN = "an admin token of a test"
REPLACED_WITHIN_S = 20.0
WATCHED_S = 1.5
"""How long a keeper is given to do what it must not do, once it knows all it needs for it: several looks."""


class User:
    """A member that uses the ring, and says what the test makes it say."""

    def __init__(self, member: Member, registration: Registration) -> None:
        self.member = member
        self._registration = registration

    async def says(self, *, prepared: int | None = None, switched: int | None = None, cannot_reach: str = "") -> None:
        self.member = but(
            self.member,
            prepared_epoch=self.member.prepared_epoch if prepared is None else prepared,
            switched_epoch=self.member.switched_epoch if switched is None else switched,
            unreachable=tuple(cannot_reach.split()),
        )
        await self._registration.update(self.member)


class Place:
    """A discovery of its own, with the servers of a ring and the keepers of a test."""

    def __init__(self, directory: Path, discovery: Discovery, servers: ValkeyServers, stack: AsyncExitStack) -> None:
        self.discovery = discovery
        self.new_server = servers
        self._url = f"file://{directory}/discovery"
        self._stack = stack
        self.slots: dict[str, ValkeyServer] = {}
        self.spares: list[ValkeyServer] = []

    async def ring_of(self, shards: int, spares: int = 0) -> None:
        """Start servers and write a ring of them."""
        self.slots = {f"shard-{number}": self.new_server() for number in range(1, shards + 1)}
        self.spares = [self.new_server() for _ in range(spares)]
        nodes = {slot: server.url for slot, server in self.slots.items()}
        await self.discovery.write_ring(RingState(1, nodes, spares=self.spare_urls), expected=None)

    @property
    def spare_urls(self) -> tuple[str, ...]:
        return tuple(server.url for server in self.spares)

    async def user(self, name: str, role: Role = Role.GATEWAY) -> User:
        """Announce a member that uses ring 1."""
        member = Member(role, name, MemberState.SERVING, switched_epoch=1)
        return User(member, await self._stack.enter_async_context(self.discovery.register(member)))

    async def keeper(self, name: str = "keeper-1", **settings: str) -> Keeper:
        """Start a keeper and wait until it is ready."""
        environ = {
            "NEARBY_DISCOVERY": self._url,
            "NEARBY_RING_KEEPER_ID": name,
            "NEARBY_ADMIN_TOKEN": TOKEN,
            "NEARBY_RING_GRACE_S": "0.2",
            "NEARBY_PROBE_INTERVAL_S": "1",
            **settings,
        }
        process = await self._stack.enter_async_context(running(environ))
        async with asyncio.timeout(15):
            async for members in self.discovery.watch_members(Role.RING_KEEPER):
                if name in members and members[name].pid == process.pid:
                    url = members[name].admin_url
                    break
        headers = {"authorization": f"Bearer {TOKEN}"}
        http = await self._stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=10)
        )
        keeper = Keeper(process, http)
        await eventually(keeper.ready, within_s=10)
        return keeper

    async def ring(self) -> RingState:
        ring = await self.discovery.read_ring()
        assert ring is not None
        return ring

    async def ring_becomes(self, wanted: Callable[[RingState], bool], within_s: float = 10.0) -> RingState:
        """Wait until the stored ring is as ``wanted``."""

        async def found() -> RingState | None:
            ring = await self.ring()
            return ring if wanted(ring) else None

        ring = await eventually(found, within_s)
        assert ring is not None
        return ring

    async def ring_stays(self) -> None:
        """Watch that nothing is done for as long as it would take to do it."""
        before = await self.ring()
        deadline_s = time.monotonic() + WATCHED_S
        while time.monotonic() < deadline_s:
            assert await self.ring() == before
            await asyncio.sleep(0.1)

    async def history(self, *actions: str) -> list[RingAction]:
        """Wait until exactly ``actions`` are recorded, which each is just after its write, and return them."""

        async def recorded() -> list[RingAction]:
            found = await self.discovery.actions()
            assert [action.action for action in found] == list(actions)
            return found

        return await eventually(recorded)


class Keeper:
    """A keeper's process and its admin API."""

    def __init__(self, process: Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http

    async def ready(self) -> bool:
        return (await self.http.get("/readyz")).is_success

    async def show(self) -> dict[str, Any]:
        answer = await self.http.get("/admin/v1/ring")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def post(self, path: str, **body: object) -> httpx.Response:
        return await self.http.post(f"/admin/v1/ring/{path}", json=body)

    async def resize(self, **body: object) -> dict[str, Any]:
        answer = await self.post("resize", reason="a test", actor="me", **body)
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def leads(self, keeper_id: str) -> bool:
        return bool((await self.show())["leader"] == keeper_id)

    async def refuses(self, path: str, **body: object) -> tuple[int, str, str]:
        answer = await self.post(path, **body)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        return answer.status_code, problem["code"], problem["detail"]

    async def metric(self, name: str) -> float:
        lines = (await self.http.get("/metrics")).text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


@asynccontextmanager
async def running(environ: dict[str, str]) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pubsub_router"), env=os.environ | environ, stdin=DEVNULL, stderr=PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.fixture
async def place(tmp_path: Path, valkey_servers: ValkeyServers) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack, open_discovery(f"file://{tmp_path}/discovery") as discovery, stack:
        yield Place(tmp_path, discovery, valkey_servers, stack)


# --------------------------------------------------------------------------------------------- resizing


async def test_a_resize_goes_through_its_phases_as_the_members_do_and_is_shown(place: Place) -> None:
    await place.ring_of(2)
    gw, api = await place.user("gw-1"), await place.user("api", Role.API)
    keeper, new = await place.keeper(), place.new_server()

    began = await keeper.resize(add=[new.url])
    assert began["resize"]["phase"] == "preparing"
    assert 0.8 / 3 <= began["resize"]["moved_share"] <= 1.2 / 3
    await gw.says(prepared=2)

    async def missing() -> list[str]:
        resize = (await keeper.show())["resize"]
        return list(resize["missing"])

    async def only_the_api_is_missing() -> bool:
        return await missing() == ["api"]

    await eventually(only_the_api_is_missing)
    assert (await place.ring()).epoch == 1
    await api.says(prepared=2)
    committed = await place.ring_becomes(lambda ring: ring.epoch == 2)
    assert committed.nodes["shard-3"] == new.url
    assert committed.previous is not None
    assert committed.pending is None

    async def is_shown() -> bool:
        return bool((await keeper.show())["resize"]["phase"] == "switching")

    await eventually(is_shown)
    await gw.says(switched=2)
    await api.says(switched=2)
    finished = await place.ring_becomes(lambda ring: ring.previous is None)
    assert (finished.epoch, set(finished.nodes)) == (2, {"shard-1", "shard-2", "shard-3"})
    resize, commit, _ = await place.history("resize", "commit", "finish")
    assert (resize.actor, resize.reason) == ("me", f"a test (+{new.url})")
    assert (commit.actor, commit.reason) == ("keeper-1", "all 2 members are prepared")
    shown = await keeper.show()
    assert shown["resize"] is None
    assert sum(shard["partitions"] for shard in shown["shards"]) == 65_536


async def test_a_resize_is_not_committed_before_every_member_is_prepared(place: Place) -> None:
    await place.ring_of(1)
    gw_1, _ = await place.user("gw-1"), await place.user("gw-2")
    keeper = await place.keeper()
    await keeper.resize(add=[place.new_server().url])
    await gw_1.says(prepared=2)
    await place.ring_stays()


async def test_an_aborted_resize_leaves_the_ring_and_those_prepared_for_it_do_not_commit_the_next(place: Place) -> None:
    await place.ring_of(1)
    gw_1, gw_2 = await place.user("gw-1"), await place.user("gw-2")
    keeper = await place.keeper()
    await keeper.resize(add=[place.new_server().url])
    await gw_1.says(prepared=2)
    assert (await keeper.post("abort", actor="me", reason="wrong server")).status_code == 200
    ring = await place.ring()
    assert (ring.epoch, set(ring.nodes), ring.pending) == (2, {"shard-1"}, None)
    await gw_2.says(prepared=2)
    await keeper.resize(add=[place.new_server().url])
    await place.ring_stays()
    await gw_1.says(prepared=3)
    await gw_2.says(prepared=3)
    assert (await place.ring_becomes(lambda ring: ring.epoch == 3)).previous is not None


async def test_a_member_that_dies_midway_is_not_waited_for(place: Place) -> None:
    await place.ring_of(1)
    gw_1 = await place.user("gw-1")
    keeper = await place.keeper()
    async with place.discovery.register(Member(Role.GATEWAY, "gw-2", switched_epoch=1)):
        await keeper.resize(add=[place.new_server().url])
        await gw_1.says(prepared=2)

        async def waited_for() -> bool:
            return bool((await keeper.show())["resize"]["missing"] == ["gw-2"])

        await eventually(waited_for)
    await place.ring_becomes(lambda ring: ring.epoch == 2)


async def test_when_the_leader_is_killed_another_keeper_takes_the_resize_over(place: Place) -> None:
    await place.ring_of(1)
    gw = await place.user("gw-1")
    first = await place.keeper("keeper-1")
    await eventually(lambda: first.leads("keeper-1"))
    second = await place.keeper("keeper-2")
    assert await second.leads("keeper-1")
    assert await first.metric("nearby_ring_keeper_leading") == 1
    assert await second.metric("nearby_ring_keeper_leading") == 0
    # Whoever is asked begins it; the leader drives it.
    await second.resize(add=[place.new_server().url])
    first.process.kill()
    await first.process.wait()
    await eventually(lambda: second.leads("keeper-2"))
    await gw.says(prepared=2)
    await place.ring_becomes(lambda ring: ring.epoch == 2)
    assert [action.actor for action in await place.history("resize", "commit")] == ["me", "keeper-2"]


async def test_a_keeper_stops_cleanly_and_lets_another_lead(place: Place) -> None:
    await place.ring_of(1)
    first, second = await place.keeper("keeper-1"), await place.keeper("keeper-2")
    await eventually(lambda: second.leads("keeper-1"))
    first.process.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(first.process.communicate(), 10)
    assert first.process.returncode == 0, log
    await eventually(lambda: second.leads("keeper-2"))


# ------------------------------------------------------------------------------------------- replacing


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_dead_shard_is_replaced_by_a_spare_within_20_s_once_a_quorum_reports_it(place: Place, how: str) -> None:
    await place.ring_of(2, spares=1)
    gw, _ = await place.user("gw-1"), await place.user("gw-2")
    keeper = await place.keeper()
    getattr(place.slots["shard-2"], how)()
    await gw.says(cannot_reach="shard-2")
    ring = await place.ring_becomes(lambda ring: ring.epoch == 2, REPLACED_WITHIN_S)
    assert ring == RingState(2, {"shard-1": place.slots["shard-1"].url, "shard-2": place.spare_urls[0]})
    (action,) = await place.history("replace")
    assert (action.action, action.actor) == ("replace", "keeper-1")
    assert "unreachable for 2 of 3 (gw-1, the keeper)" in action.reason
    assert (await keeper.show())["actions"][-1]["action"] == "replace"


async def test_a_shard_that_only_the_keeper_cannot_reach_is_left_alone(place: Place) -> None:
    await place.ring_of(2, spares=1)
    await place.user("gw-1")
    keeper = await place.keeper()
    place.slots["shard-2"].kill()

    async def seen() -> bool:
        return bool((await keeper.show())["shards"][1]["unreachable_by"] == ["keeper"])

    await eventually(seen, within_s=10)
    await place.ring_stays()


async def test_a_shard_that_only_a_minority_reports_is_left_alone(place: Place) -> None:
    await place.ring_of(2, spares=1)
    gw, _ = await place.user("gw-1"), await place.user("gw-2")
    await place.keeper()
    await gw.says(cannot_reach="shard-2")
    await place.ring_stays()


async def test_without_a_spare_a_dead_shard_stays_until_one_is_added(place: Place) -> None:
    await place.ring_of(2)
    gw = await place.user("gw-1")
    keeper = await place.keeper()
    place.slots["shard-2"].kill()
    await gw.says(cannot_reach="shard-2")

    async def told() -> bool:
        return "no spare answers" in str((await keeper.show())["next"])

    await eventually(told, within_s=10)
    await place.ring_stays()
    spare = place.new_server()
    assert (await keeper.post("spares", add=[spare.url], actor="me")).status_code == 200
    assert (await place.ring_becomes(lambda ring: ring.epoch == 2)).nodes["shard-2"] == spare.url


async def test_two_dead_shards_are_replaced_one_after_the_other_and_a_dead_spare_is_passed_over(place: Place) -> None:
    await place.ring_of(3, spares=3)
    gw = await place.user("gw-1")
    await place.keeper()
    for server in (place.slots["shard-1"], place.slots["shard-3"], place.spares[0]):
        server.kill()
    await gw.says(cannot_reach="shard-1 shard-3")
    first = await place.ring_becomes(lambda ring: ring.epoch == 2, REPLACED_WITHIN_S)
    assert first.nodes["shard-1"] == place.spare_urls[1]
    assert first.nodes["shard-3"] == place.slots["shard-3"].url
    # As long as a member does not use the new ring, no further server is put in.
    await place.ring_stays()
    await gw.says(switched=2, cannot_reach="shard-3")
    second = await place.ring_becomes(lambda ring: ring.epoch == 3, REPLACED_WITHIN_S)
    assert second.nodes == {**first.nodes, "shard-3": place.spare_urls[2]}
    assert second.spares == place.spare_urls[:1]


async def test_a_resize_is_aborted_and_the_shard_replaced_when_one_dies_midway(place: Place) -> None:
    await place.ring_of(2, spares=1)
    gw = await place.user("gw-1")
    keeper = await place.keeper()
    await keeper.resize(add=[place.new_server().url])
    place.slots["shard-1"].kill()
    await gw.says(cannot_reach="shard-1")
    ring = await place.ring_becomes(lambda ring: ring.epoch == 2, REPLACED_WITHIN_S)
    assert ring.pending is None
    await gw.says(switched=2, cannot_reach="shard-1")
    ring = await place.ring_becomes(lambda ring: ring.epoch == 3)
    assert ring.nodes == {"shard-1": place.spare_urls[0], "shard-2": place.slots["shard-2"].url}
    await place.history("resize", "abort", "replace")


# --------------------------------------------------------------------------------------------- the API


async def test_what_is_refused_says_why_and_changes_nothing(place: Place, tmp_path: Path) -> None:
    await place.ring_of(1)
    await place.user("gw-1")
    keeper = await place.keeper()
    ring, new = await place.ring(), place.new_server()
    why = {"reason": "a test", "actor": "me"}
    nobody = f"unix://{tmp_path}/nobody"
    assert await keeper.refuses("plan", add=[place.slots["shard-1"].url]) == (
        *(409, "address_taken"),
        f"{place.slots['shard-1'].url} is in the ring already",
    )
    last = (409, "last_shard", "the last shard cannot be removed")
    assert await keeper.refuses("resize", remove=["shard-1"], **why) == last
    for path, body in (
        ("resize", {"add": [nobody]}),
        ("replace", {"slot": "shard-1", "address": nobody}),
        ("spares", {"add": [nobody]}),
    ):
        status, code, detail = await keeper.refuses(path, **body, **why)
        assert (status, code) == (409, "no_answer")
        assert detail.startswith(f"{nobody} does not answer")
    assert (await keeper.refuses("abort", actor="me"))[:2] == (409, "no_resize")
    assert (await keeper.refuses("resize", add=[new.url], actor="me"))[:2] == (422, "invalid_request")
    assert (await keeper.refuses("replace", slot="shard-1", address=new.url, reason="", actor="me"))[0] == 422
    assert await place.ring() == ring
    await keeper.resize(add=[new.url])
    running = "a resize is running; wait for its end, or abort it"
    assert await keeper.refuses("resize", remove=["shard-1"], **why) == (409, "resize_running", running)
    await place.history("resize")


async def test_a_server_that_speaks_something_else_is_refused(place: Place) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com\r\n")
        await writer.drain()
        writer.close()

    await place.ring_of(1)
    keeper = await place.keeper()
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        address = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        _, code, detail = await keeper.refuses("resize", add=[address], reason="a test", actor="me")
    assert code == "no_answer"
    assert "not as a Redis server" in detail


async def test_a_frozen_server_is_refused_after_two_seconds(place: Place) -> None:
    await place.ring_of(1)
    keeper, frozen = await place.keeper(), place.new_server()
    frozen.freeze()
    refused = await keeper.refuses("spares", add=[frozen.url], actor="me")
    assert refused == (409, "no_answer", f"{frozen.url} does not answer PING within 2 s")


async def test_without_the_admin_token_nothing_is_shown_or_done(place: Place) -> None:
    await place.ring_of(1)
    keeper = await place.keeper()
    keeper.http.headers["authorization"] = "Bearer of bad news"
    for method, path in (("GET", ""), ("GET", "/history"), ("POST", "/resize"), ("POST", "/abort")):
        answer = await keeper.http.request(method, f"/admin/v1/ring{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert (await keeper.http.get("/healthz")).status_code == 200


async def test_the_first_ring_is_made_by_adding_shards(place: Place) -> None:
    keeper = await place.keeper()
    assert (await keeper.http.get("/admin/v1/ring")).json()["code"] == "no_ring"
    servers = [place.new_server(), place.new_server()]
    document = await keeper.resize(add=[server.url for server in servers])
    assert (document["epoch"], document["resize"]) == (1, None)
    assert (await place.ring()).nodes == {"shard-1": servers[0].url, "shard-2": servers[1].url}


async def test_a_ring_that_was_spoilt_is_repaired_by_the_next_change(place: Place, tmp_path: Path) -> None:
    await place.ring_of(1)
    keeper, spare = await place.keeper(), place.new_server()
    await keeper.show()
    (tmp_path / "discovery" / "ring.json").write_text("garbage")

    async def refused() -> bool:
        return await keeper.metric("nearby_ring_refused_total") == 1

    await eventually(refused)
    assert (await keeper.post("spares", add=[spare.url], actor="me")).status_code == 200
    assert (await place.ring()).spares == (spare.url,)
