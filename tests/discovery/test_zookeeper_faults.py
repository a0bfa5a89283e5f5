"""Discovery in ZooKeeper: what happens when servers, connections and sessions fail, and when people meddle."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kazoo.protocol.connection import _SESSION_EXPIRED

from discovery.codec import encode_ring
from discovery.zookeeper import Access, ZooKeeper, open_session
from discovery.zookeeper_discovery import ZookeeperDiscovery, open_zookeeper
from nearby.errors import RingError, StoreUnavailable
from nearby.ports import Discovery, Leadership, Member, MemberState, RingAction, RingState, Role
from nearby.settings import Secret
from tests.discovery.cable import Cable, cable_to
from tests.support.eventually import eventually
from tests.support.zookeeper import (
    ZooKeeperEnsemble,
    ZooKeeperServer,
    expire_session,
    fresh_root,
)

SHARDS = {"shard-0": "redis://10.0.0.1:6379", "shard-1": "redis://10.0.0.2:6379"}
GATEWAY = Member(Role.GATEWAY, "gw-1", MemberState.SERVING, pid=1)
SESSION_S = 1.0
LONG_SESSION_S = 10.0
HEALED_WITHIN_S = 5.0
AUTH = Secret("keeper:correct horse")


@pytest.fixture
def root() -> str:
    """A node that nobody has used yet."""
    return fresh_root()


def open_at(
    address: str,
    root: str,
    *,
    ring_file: Path | None = None,
    auth: Secret | None = None,
    session_s: float = SESSION_S,
) -> AbstractAsyncContextManager[ZookeeperDiscovery]:
    return open_zookeeper(address, root, ring_file, auth, session_s)


class Seen:
    """The members of the gateways' role as one participant sees them."""

    def __init__(self) -> None:
        self.members: Mapping[str, Member] | None = None


@asynccontextmanager
async def watching(discovery: Discovery) -> AsyncIterator[Seen]:
    seen = Seen()

    async def watch() -> None:
        async for members in discovery.watch_members(Role.GATEWAY):
            seen.members = members

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        yield seen
        task.cancel()


@asynccontextmanager
async def following(discovery: Discovery) -> AsyncIterator[list[RingState]]:
    rings: list[RingState] = []

    async def watch() -> None:
        async for ring in discovery.watch_ring():
            rings.append(ring)  # noqa: PERF401

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        yield rings
        task.cancel()


@asynccontextmanager
async def raw_session(address: str) -> AsyncIterator[ZooKeeper]:
    """A session of somebody who meddles."""
    async with open_session(address, LONG_SESSION_S, Secret("somebody:else"), None) as session:
        yield session


def session_of(discovery: ZookeeperDiscovery) -> int:
    return discovery._zookeeper.session


async def members_now(address: str, root: str) -> Mapping[str, Member]:
    async with open_at(address, root) as fresh:
        return await anext(fresh.watch_members(Role.GATEWAY))


# ------------------------------------------------------------------------------- registrations come back


async def test_a_registration_is_back_within_5_s_when_a_frozen_server_thaws(
    zookeeper_server: ZooKeeperServer, root: str
) -> None:
    async with (
        open_at(zookeeper_server.address, root) as discovery,
        open_at(zookeeper_server.address, root) as observer,
        watching(observer) as seen,
        discovery.register(GATEWAY) as registration,
        discovery.leadership("keeper-1") as leadership,
    ):
        await eventually(lambda: seen.members == {"gw-1": GATEWAY})
        zookeeper_server.freeze()
        frozen_at = time.monotonic()
        await asyncio.wait_for(leadership.wait_lost(), 2 * SESSION_S)
        draining = replace(GATEWAY, state=MemberState.DRAINING)
        async with asyncio.timeout(3.0):
            await registration.update(draining)
        await eventually(lambda: time.monotonic() - frozen_at > 3 * SESSION_S, 10)
        assert seen.members == {"gw-1": GATEWAY}, "what is known stays in force"
        zookeeper_server.thaw()
        await eventually(lambda: seen.members == {"gw-1": draining}, HEALED_WITHIN_S)
        assert await members_now(zookeeper_server.address, root) == {"gw-1": draining}


async def test_a_registration_is_back_within_5_s_when_a_killed_server_restarts(
    zookeeper_server: ZooKeeperServer, root: str
) -> None:
    async with (
        open_at(zookeeper_server.address, root) as discovery,
        following(discovery) as rings,
        discovery.register(GATEWAY),
    ):
        await discovery.write_ring(RingState(1, SHARDS), expected=None)
        await eventually(lambda: len(rings) == 1)
        zookeeper_server.kill()
        with pytest.raises(StoreUnavailable):
            await discovery.read_ring()
        zookeeper_server.start()

        async def back() -> bool:
            return await members_now(zookeeper_server.address, root) == {"gw-1": GATEWAY}

        await eventually(back, HEALED_WITHIN_S)
        await discovery.write_ring(RingState(2, SHARDS), expected=RingState(1, SHARDS))
        await eventually(lambda: [ring.epoch for ring in rings] == [1, 2], HEALED_WITHIN_S)
        assert discovery.refused_rings == 0


async def test_a_registration_is_back_within_5_s_after_its_session_expired(
    shared_zookeeper: ZooKeeperServer, root: str
) -> None:
    address = shared_zookeeper.address
    async with (
        open_at(address, root) as discovery,
        open_at(address, root) as observer,
        watching(observer) as seen,
        discovery.register(GATEWAY),
        discovery.leadership("keeper-1") as leadership,
    ):
        await eventually(lambda: seen.members == {"gw-1": GATEWAY})
        expired = session_of(discovery)
        await expire_session(address, discovery._zookeeper._client.client_id)
        await asyncio.wait_for(leadership.wait_lost(), HEALED_WITHIN_S)
        await eventually(lambda: _is_back(discovery, root, expired), HEALED_WITHIN_S)
        await eventually(lambda: seen.members == {"gw-1": GATEWAY}, HEALED_WITHIN_S)


async def test_a_registration_that_somebody_deleted_is_back(shared_zookeeper: ZooKeeperServer, root: str) -> None:
    address, path = shared_zookeeper.address, f"{root}/members/gateway/gw-1"
    async with open_at(address, root) as discovery, discovery.register(GATEWAY), raw_session(address) as raw:
        assert await raw.delete(path)

        async def back() -> bool:
            return await raw.get(path) is not None

        await eventually(back, HEALED_WITHIN_S)


async def test_a_process_may_start_while_zookeeper_is_away_and_is_announced_when_it_is_there(root: str) -> None:
    server = ZooKeeperServer()
    try:
        async with open_at(server.address, root) as discovery, discovery.register(GATEWAY):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await discovery.read_ring()
            server.start()

            async def announced() -> bool:
                return await members_now(server.address, root) == {"gw-1": GATEWAY}

            await eventually(announced, HEALED_WITHIN_S)
    finally:
        server.close()


async def test_a_member_that_left_while_cut_off_is_gone_once_the_connection_is_back(
    shared_zookeeper: ZooKeeperServer, root: str
) -> None:
    address = shared_zookeeper.address
    async with (
        cable_to(address) as cable,
        open_at(cable.address, root, session_s=LONG_SESSION_S) as discovery,
        open_at(address, root) as observer,
        watching(observer) as seen,
    ):
        async with discovery.register(GATEWAY):
            await eventually(lambda: seen.members == {"gw-1": GATEWAY})
            cable.cut()
        assert seen.members == {"gw-1": GATEWAY}
        cable.mend()
        await eventually(lambda: seen.members == {}, HEALED_WITHIN_S)


# ------------------------------------------------------------------------------------------ ghosts


async def test_the_ghost_of_an_earlier_self_is_replaced_at_once(shared_zookeeper: ZooKeeperServer, root: str) -> None:
    address = shared_zookeeper.address
    older, newer = replace(GATEWAY, pid=7), replace(GATEWAY, pid=8)
    async with open_at(address, root) as observer, watching(observer) as seen:
        process = await _registered_process(address, root, older, LONG_SESSION_S)
        await eventually(lambda: seen.members == {"gw-1": older})
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with open_at(address, root) as discovery, discovery.register(newer):
            assert await members_now(address, root) == {"gw-1": newer}
            await eventually(lambda: seen.members == {"gw-1": newer})


async def test_a_process_that_wakes_up_late_leaves_its_name_to_its_successor(
    shared_zookeeper: ZooKeeperServer, root: str
) -> None:
    address = shared_zookeeper.address
    older, newer = replace(GATEWAY, pid=7), replace(GATEWAY, pid=8)
    async with cable_to(address) as cable, open_at(cable.address, root) as late, late.register(older) as registration:
        cable.block()
        async with open_at(address, root) as discovery:
            async with discovery.register(newer), watching(discovery) as seen:
                await eventually(lambda: seen.members == {"gw-1": newer})
                gone = session_of(late)
                cable.cut()
                cable.mend()
                await eventually(late._zookeeper._connected.is_set, HEALED_WITHIN_S)
                await registration.update(replace(older, connections=99))
                assert await members_now(address, root) == {"gw-1": newer}
                assert gone
            # It is there again once its successor has gone.
            await eventually(lambda: _has(address, root, replace(older, connections=99)), HEALED_WITHIN_S)


async def _has(address: str, root: str, member: Member) -> bool:
    return await members_now(address, root) == {member.member_id: member}


async def _registered_process(address: str, root: str, member: Member, session_s: float) -> Process:
    code = f"""
import asyncio
from discovery.zookeeper_discovery import open_zookeeper
from nearby.ports import Member, MemberState, Role

async def main():
    async with open_zookeeper({address!r}, {root!r}, None, None, {session_s}) as discovery:
        member = Member(Role.GATEWAY, {member.member_id!r}, MemberState.SERVING, pid={member.pid})
        async with discovery.register(member), discovery.leadership("keeper-0"):
            print("registered", flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"registered\n"
    return process


# ---------------------------------------------------------------------------------------- ensembles


async def test_writes_resume_within_5_s_when_the_leader_of_an_ensemble_is_killed(
    zookeeper_ensemble: ZooKeeperEnsemble, root: str
) -> None:
    async with (
        open_at(zookeeper_ensemble.address, root, session_s=4.0) as discovery,
        open_at(zookeeper_ensemble.address, root, session_s=4.0) as observer,
        watching(observer) as seen,
        following(observer) as rings,
        discovery.register(GATEWAY),
    ):
        await discovery.write_ring(RingState(1, SHARDS), expected=None)
        zookeeper_ensemble.leader().kill()

        async def written() -> bool:
            try:
                present = await discovery.read_ring()
                if present == RingState(1, SHARDS):
                    await discovery.write_ring(RingState(2, SHARDS), expected=present)
            except StoreUnavailable:
                return False
            return True

        await eventually(written, HEALED_WITHIN_S)
        await eventually(lambda: rings[-1:] == [RingState(2, SHARDS)], HEALED_WITHIN_S)
        assert seen.members == {"gw-1": GATEWAY}


async def test_registrations_are_back_within_5_s_when_a_lost_quorum_is_back(
    zookeeper_ensemble: ZooKeeperEnsemble, root: str
) -> None:
    address = zookeeper_ensemble.address
    async with (
        open_at(address, root) as discovery,
        open_at(address, root) as observer,
        watching(observer) as seen,
        discovery.register(GATEWAY),
        discovery.leadership("keeper-1") as leadership,
    ):
        await eventually(lambda: seen.members == {"gw-1": GATEWAY})
        for server in zookeeper_ensemble.servers[:2]:
            server.kill()
        await asyncio.wait_for(leadership.wait_lost(), HEALED_WITHIN_S)
        with pytest.raises(StoreUnavailable):
            await discovery.record_action(RingAction(1, 1, "", "", ""))
        zookeeper_ensemble.start()
        await eventually(lambda: _has(address, root, GATEWAY), HEALED_WITHIN_S)
        assert seen.members == {"gw-1": GATEWAY}
        await discovery.record_action(RingAction(1, 1, "", "", ""))


# ------------------------------------------------------------------------------------------ watches


async def test_a_watch_misses_no_final_state_while_it_is_cut_off(shared_zookeeper: ZooKeeperServer, root: str) -> None:
    address = shared_zookeeper.address
    async with (
        cable_to(address) as cable,
        open_at(address, root) as writer,
        open_at(cable.address, root) as observer,
        watching(observer) as seen,
        following(observer) as rings,
    ):
        ring = RingState(1, SHARDS)
        await writer.write_ring(ring, expected=None)
        for round_ in range(1, 6):
            member = replace(GATEWAY, connections=round_)
            async with writer.register(replace(GATEWAY, member_id="passing")), writer.register(member):
                await eventually(lambda: rings[-1:] == [ring], HEALED_WITHIN_S)  # noqa: B023
                (cable.cut if round_ % 2 else cable.block)()
                for _ in range(3):
                    following_ring = replace(ring, epoch=ring.epoch + 1)
                    await writer.write_ring(following_ring, expected=ring)
                    ring = following_ring
                async with writer.register(replace(GATEWAY, member_id=f"gw-{round_ + 1}")):
                    cable.mend()
                    await eventually(lambda: rings[-1:] == [ring], HEALED_WITHIN_S)  # noqa: B023
                    await eventually(
                        lambda: set(seen.members or {}) == {"passing", "gw-1", f"gw-{round_ + 1}"},  # noqa: B023
                        HEALED_WITHIN_S,
                    )
        await eventually(lambda: seen.members == {}, HEALED_WITHIN_S)


# --------------------------------------------------------------------------------------- leadership


async def test_a_leader_that_is_cut_off_has_lost_before_another_is_elected(
    shared_zookeeper: ZooKeeperServer, root: str
) -> None:
    address = shared_zookeeper.address
    lost_when_the_other_was_elected: list[bool] = []

    async def succeed(candidate: Discovery, first: Leadership) -> None:
        async with candidate.leadership("keeper-2") as second:
            lost_when_the_other_was_elected.append(first.lost)
            assert not second.lost

    for fault in (Cable.cut, Cable.block):
        async with (
            cable_to(address) as cable,
            open_at(cable.address, root) as discovery,
            open_at(address, root) as other,
            discovery.leadership("keeper-1") as first,
            asyncio.TaskGroup() as tasks,
        ):
            succession = tasks.create_task(succeed(other, first))
            fault(cable)
            await asyncio.wait_for(succession, 10 * SESSION_S)
            cable.mend()
    assert lost_when_the_other_was_elected == [True, True]


async def test_a_leader_that_was_killed_is_followed_by_the_next(shared_zookeeper: ZooKeeperServer, root: str) -> None:
    process = await _registered_process(shared_zookeeper.address, root, GATEWAY, 2 * SESSION_S)
    async with open_at(shared_zookeeper.address, root) as other:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), other.leadership("keeper-2"):
                pass
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(LONG_SESSION_S), other.leadership("keeper-2") as leadership:
            assert not leadership.lost


async def test_a_leader_whose_node_is_deleted_has_lost(shared_zookeeper: ZooKeeperServer, root: str) -> None:
    address = shared_zookeeper.address
    async with (
        open_at(address, root) as discovery,
        discovery.leadership("keeper-1") as leadership,
        raw_session(address) as raw,
    ):
        (name,) = await raw.children(f"{root}/leader")
        await raw.delete(f"{root}/leader/{name}")
        await asyncio.wait_for(leadership.wait_lost(), HEALED_WITHIN_S)


async def test_a_leader_that_stepped_down_while_cut_off_does_not_block_the_next(
    shared_zookeeper: ZooKeeperServer, root: str
) -> None:
    address = shared_zookeeper.address
    async with cable_to(address) as cable, open_at(cable.address, root, session_s=LONG_SESSION_S) as discovery:
        async with discovery.leadership("keeper-1"):
            cable.cut()
        cable.mend()
        async with asyncio.timeout(HEALED_WITHIN_S), discovery.leadership("keeper-1") as again:
            assert not again.lost


# ---------------------------------------------------------------------------------------- the ring


@pytest.mark.parametrize("what", ["emptied", "garbage", "older", "deleted"])
async def test_a_bad_ring_is_refused_counted_and_the_last_good_one_kept(
    shared_zookeeper: ZooKeeperServer, root: str, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    address, path, good = shared_zookeeper.address, f"{root}/ring", RingState(5, SHARDS)
    data = {"emptied": b"", "garbage": b"garbage", "older": encode_ring(RingState(4, SHARDS)), "deleted": None}[what]
    async with open_at(address, root, ring_file=tmp_path / "ring") as discovery, raw_session(address) as raw:
        await discovery.write_ring(good, expected=None)
        async with following(discovery) as rings, following(discovery) as rings_too:
            await eventually(lambda: rings == rings_too == [good])
            if data is None:
                await raw.delete(path)
            else:
                await raw.set(path, data, -1)
            await eventually(lambda: discovery.refused_rings == 1)
            assert await anext(discovery.watch_ring()) == good
            with pytest.raises(RingError):
                await discovery.read_ring()
            assert (rings, rings_too, discovery.refused_rings) == ([good], [good], 1)
            assert [record.levelname for record in caplog.records if "refused a ring" in record.message] == ["ERROR"]
    # The same for a process that was down meanwhile.
    async with open_at(address, root, ring_file=tmp_path / "ring") as restarted:
        assert await asyncio.wait_for(anext(restarted.watch_ring()), HEALED_WITHIN_S) == good
        assert restarted.refused_rings == 1
        # Whoever expects the last good ring may repair the stored one.
        await restarted.write_ring(replace(good, epoch=6), expected=good)
        assert await restarted.read_ring() == replace(good, epoch=6)


async def test_a_process_starts_from_its_saved_ring_while_zookeeper_is_away(root: str, tmp_path: Path) -> None:
    server, file, good = ZooKeeperServer(), tmp_path / "new" / "ring", RingState(5, SHARDS, pending={"a": "unix:///a"})
    try:
        server.start()
        async with open_at(server.address, root, ring_file=file) as discovery:
            await discovery.write_ring(good, expected=None)
            assert await anext(discovery.watch_ring()) == good
        assert json.loads(file.read_bytes())["epoch"] == 5
        server.kill()
        async with open_at(server.address, root, ring_file=file) as restarted, following(restarted) as rings:
            await eventually(lambda: rings == [good], 3.0)
            server.start()
            changed = replace(good, pending=None)
            async with open_at(server.address, root) as writer:
                await writer.write_ring(changed, expected=good)
            await eventually(lambda: rings == [good, changed], HEALED_WITHIN_S)
            assert restarted.refused_rings == 0
    finally:
        server.close()


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"epoch":1,"nodes":{}}'])
async def test_an_unusable_saved_ring_is_no_obstacle(
    shared_zookeeper: ZooKeeperServer, root: str, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "ring"
    file.write_bytes(content)
    async with open_at(shared_zookeeper.address, root, ring_file=file) as discovery:
        assert await discovery.read_ring() is None
        await discovery.write_ring(RingState(1, SHARDS), expected=None)
        assert await anext(discovery.watch_ring()) == RingState(1, SHARDS)
    assert json.loads(file.read_bytes())["nodes"] == SHARDS


# --------------------------------------------------------------------------------------- permission


@pytest.mark.parametrize("keeper_first", [True, False])
async def test_only_who_shows_the_rings_credentials_writes_it(
    shared_zookeeper: ZooKeeperServer, root: str, keeper_first: bool
) -> None:
    address, ring = shared_zookeeper.address, RingState(1, SHARDS)
    async with open_at(address, root, auth=AUTH) as keeper, open_at(address, root) as gateway:
        if keeper_first:
            await keeper.write_ring(ring, expected=None)
        else:
            await gateway.write_ring(ring, expected=None)
            await gateway.record_action(RingAction(1, 1, "resize", "", ""))
            async with keeper.register(Member(Role.RING_KEEPER, "keeper-1")):
                pass
        for denied in (
            gateway.write_ring(RingState(2, SHARDS), expected=ring),
            gateway.record_action(RingAction(2, 1, "", "", "")),
            gateway._zookeeper.delete(f"{root}/ring"),
            gateway._zookeeper.create(f"{root}/more", b"", Access.EVERYBODY),
            _lead(gateway),
        ):
            with pytest.raises(StoreUnavailable, match="denies"):
                await denied
        assert await gateway.read_ring() == await anext(gateway.watch_ring()) == ring
        async with gateway.register(GATEWAY) as registration:
            await registration.update(replace(GATEWAY, connections=1))
            assert await anext(keeper.watch_members(Role.GATEWAY)) == {"gw-1": replace(GATEWAY, connections=1)}
        async with keeper.leadership("keeper-1"):
            await keeper.write_ring(RingState(2, SHARDS), expected=ring)


async def _lead(discovery: Discovery) -> None:
    async with discovery.leadership("gw-1"):
        pytest.fail("elected without the ring's credentials")


async def test_a_member_is_changed_by_its_own_process_alone(shared_zookeeper: ZooKeeperServer, root: str) -> None:
    address, path = shared_zookeeper.address, f"{root}/members/gateway/gw-1"
    async with open_at(address, root) as discovery, discovery.register(GATEWAY), raw_session(address) as raw:
        with pytest.raises(StoreUnavailable, match="denies"):
            await raw.set(path, b"garbage", -1)
        assert await members_now(address, root) == {"gw-1": GATEWAY}


async def test_no_credential_is_logged(
    shared_zookeeper: ZooKeeperServer, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_at(shared_zookeeper.address, root, auth=AUTH) as keeper:
        await keeper.write_ring(RingState(1, SHARDS), expected=None)
    assert "horse" not in caplog.text


# ------------------------------------------------------------------------------------------- kazoo


async def test_the_ghost_of_an_earlier_session_of_the_same_process_is_replaced_at_once(
    shared_zookeeper: ZooKeeperServer, root: str
) -> None:
    address = shared_zookeeper.address
    async with open_at(address, root, session_s=LONG_SESSION_S) as discovery, discovery.register(GATEWAY):
        earlier = session_of(discovery)
        # kazoo's own hook: this side takes the session as expired, and the server does not know.
        discovery._zookeeper._client._call(_SESSION_EXPIRED, None)
        await eventually(lambda: _is_back(discovery, root, earlier), HEALED_WITHIN_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_session_whose_thread_died_of_an_error_is_begun_again(
    shared_zookeeper: ZooKeeperServer, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_at(shared_zookeeper.address, root) as discovery, discovery.register(GATEWAY):
        earlier = session_of(discovery)
        discovery._zookeeper._client._call("not a request", None)
        await eventually(lambda: not discovery._zookeeper._connected.is_set())
        await eventually(lambda: _is_back(discovery, root, earlier), 3 * HEALED_WITHIN_S)
    assert "Unhandled exception in connection loop" in caplog.text


async def _is_back(discovery: ZookeeperDiscovery, root: str, earlier: int) -> bool:
    if session_of(discovery) in (0, earlier):
        return False
    node = await discovery._zookeeper.get(f"{root}/members/gateway/gw-1")
    return node is not None and node.session == session_of(discovery)


async def test_leaving_takes_no_longer_than_3_s_while_the_server_is_frozen(
    zookeeper_server: ZooKeeperServer, root: str
) -> None:
    opened: Callable[[], AbstractAsyncContextManager[ZookeeperDiscovery]] = lambda: open_at(  # noqa: E731
        zookeeper_server.address, root, session_s=LONG_SESSION_S
    )
    async with opened() as discovery:
        async with discovery.register(GATEWAY):
            zookeeper_server.freeze()
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 3.0
    zookeeper_server.thaw()
