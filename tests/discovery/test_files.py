"""Discovery in files: what happens to them when processes die and people meddle."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from discovery.connect import open_discovery
from discovery.files import FileDiscovery
from nearby.errors import RingError, SettingsError, StoreUnavailable
from nearby.ports import Member, RingAction, RingState, Role
from tests.support.eventually import eventually

SHARDS = {"shard-0": "unix:///run/shard-0"}
GATEWAY = Member(Role.GATEWAY, "gw-1")
WITHIN_S = 5.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "discovery"


@pytest.fixture
async def discovery(directory: Path) -> AsyncIterator[FileDiscovery]:
    async with aclosing(FileDiscovery(directory)) as opened:
        yield opened


def ring_json(epoch: int) -> bytes:
    return json.dumps({"epoch": epoch, "nodes": SHARDS, "pending": None, "previous": None, "spares": []}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        ring_json(4),
        ring_json(6)[:-2],
        b'{"epoch":6,"nodes":{},"pending":null}',
        b'{"epoch":"6","nodes":{"a":"unix:///s"},"pending":null}',
        b'{"epoch":6,"nodes":{"a":"unix://s"},"pending":null}',
        None,
    ],
)
async def test_a_bad_ring_is_refused_counted_and_the_last_good_one_kept(
    directory: Path, discovery: FileDiscovery, data: bytes | None
) -> None:
    await discovery.write_ring(RingState(5, SHARDS), expected=None)
    watch = discovery.watch_ring()
    assert (await anext(watch)).epoch == 5
    change = asyncio.ensure_future(anext(watch))
    if data is None:
        (directory / "ring.json").unlink()
    else:
        (directory / "ring.json").write_bytes(data)
    await eventually(lambda: discovery.refused_rings == 1)
    # Who asks only now gets the last good one, and it is counted once however often it is looked at.
    assert (await asyncio.wait_for(anext(discovery.watch_ring()), WITHIN_S)).epoch == 5
    assert not change.done()
    with pytest.raises(RingError):
        await discovery.read_ring()
    await discovery.write_ring(RingState(6, SHARDS), expected=RingState(5, SHARDS))
    assert (await asyncio.wait_for(change, WITHIN_S)).epoch == 6
    assert discovery.refused_rings == 1


async def test_a_process_that_starts_with_a_bad_ring_waits_for_a_good_one(
    directory: Path, discovery: FileDiscovery
) -> None:
    directory.mkdir()
    (directory / "ring.json").write_bytes(b"")
    first = asyncio.ensure_future(anext(discovery.watch_ring()))
    await eventually(lambda: discovery.refused_rings == 1)
    (directory / "ring.json").write_bytes(ring_json(1))
    assert (await asyncio.wait_for(first, WITHIN_S)).epoch == 1


async def test_a_ring_with_fields_of_a_newer_version_is_good(directory: Path, discovery: FileDiscovery) -> None:
    directory.mkdir()
    ring = json.loads(ring_json(1)) | {"weights": {"shard-0": 2}}
    (directory / "ring.json").write_text(json.dumps(ring))
    assert await asyncio.wait_for(anext(discovery.watch_ring()), WITHIN_S) == RingState(1, SHARDS)


async def test_the_ring_is_stored_as_documented(directory: Path, discovery: FileDiscovery) -> None:
    await discovery.write_ring(RingState(1, SHARDS), expected=None)
    assert json.loads((directory / "ring.json").read_bytes()) == json.loads(ring_json(1))


async def test_a_killed_process_is_gone_and_its_file_deleted(directory: Path, discovery: FileDiscovery) -> None:
    code = f"""
import asyncio
from pathlib import Path
from discovery.files import FileDiscovery
from nearby.ports import Member, Role

async def main():
    async with FileDiscovery(Path({str(directory)!r})).register(Member(Role.GATEWAY, "gw-1")):
        print("registered", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"registered\n"
    watch = discovery.watch_members(Role.GATEWAY)
    assert await anext(watch) == {"gw-1": GATEWAY}
    process.send_signal(signal.SIGSTOP)
    gone = asyncio.ensure_future(anext(watch))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await asyncio.wait_for(gone, 1.0) == {}
    assert not list(directory.glob("members/gateway/*.json"))


async def test_the_ghost_of_a_dead_process_is_ignored_and_its_place_taken(
    directory: Path, discovery: FileDiscovery
) -> None:
    ghost = directory / "members" / "gateway" / "gw-1.json"
    ghost.parent.mkdir(parents=True)
    ghost.write_text('{"role":"gateway","member_id":"gw-1"}')
    async with discovery.register(GATEWAY):
        assert await anext(discovery.watch_members(Role.GATEWAY)) == {"gw-1": GATEWAY}


@pytest.mark.parametrize("what", ["members/gateway/gw-1.json", "members", "."])
async def test_a_member_whose_file_was_removed_announces_itself_again(
    directory: Path, discovery: FileDiscovery, what: str
) -> None:
    file = directory / "members" / "gateway" / "gw-1.json"
    async with discovery.register(GATEWAY):
        removed = directory / what
        if removed.is_file():
            removed.unlink()
        else:
            shutil.rmtree(removed)
        await eventually(file.exists)
        assert await anext(discovery.watch_members(Role.GATEWAY)) == {"gw-1": GATEWAY}
    assert not file.exists()


async def test_a_watch_stays_silent_while_the_directory_is_away(directory: Path, discovery: FileDiscovery) -> None:
    async with discovery.register(GATEWAY):
        watch = discovery.watch_members(Role.GATEWAY)
        assert await anext(watch) == {"gw-1": GATEWAY}
        change = asyncio.ensure_future(anext(watch))
    assert await asyncio.wait_for(change, WITHIN_S) == {}
    change = asyncio.ensure_future(anext(watch))
    shutil.rmtree(directory)
    async with discovery.register(Member(Role.API, "api-1")), discovery.register(GATEWAY):
        assert await asyncio.wait_for(change, WITHIN_S) == {"gw-1": GATEWAY}


async def test_an_unreadable_member_does_not_hide_the_others(directory: Path, discovery: FileDiscovery) -> None:
    async with discovery.register(GATEWAY), discovery.register(Member(Role.GATEWAY, "gw-2")):
        # Written in place, so the owner's lock stays on it.
        (directory / "members" / "gateway" / "gw-2.json").write_bytes(b"garbage")
        assert await anext(discovery.watch_members(Role.GATEWAY)) == {"gw-1": GATEWAY}


async def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with open_discovery(f"file://{tmp_path}/file/discovery") as discovery:
        with pytest.raises(StoreUnavailable, match="discovery"):
            await discovery.write_ring(RingState(1, SHARDS), expected=None)
        for call in (discovery.read_ring(), discovery.actions(), discovery.record_action(RingAction(1, 1, "", "", ""))):
            with pytest.raises(StoreUnavailable, match="discovery"):
                await call
        with pytest.raises(StoreUnavailable, match="discovery"):
            async with discovery.register(GATEWAY):
                pass


@pytest.mark.parametrize(
    "url",
    [
        *(
            "etcd://localhost:2379",
            "zk://",
            "zk://host:2181",
            "zk://host:2181/",
            "zk://host/nearby",
            "zk://:2181/nearby",
        ),
        *(
            "zk://host:2181,/nearby",
            "zk://host:2181//nearby",
            "zk://user@host:2181/nearby",
            "file://relative/path",
            "file://",
            "/tmp",
            "",
        ),
    ],
)
def test_an_unknown_address_of_discovery_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="NEARBY_DISCOVERY"):
        open_discovery(url)


async def test_a_fresh_process_may_replace_what_nobody_can_use(directory: Path, discovery: FileDiscovery) -> None:
    directory.mkdir()
    (directory / "ring.json").write_bytes(b"garbage")
    with pytest.raises(RingError):
        await discovery.read_ring()
    await discovery.write_ring(RingState(1, SHARDS), expected=None)
    assert await discovery.read_ring() == RingState(1, SHARDS)


@pytest.mark.parametrize("data", [b"", b"garbage", ring_json(4), None])
async def test_a_ring_that_went_bad_while_the_process_was_down_is_refused_in_favour_of_the_saved_one(
    directory: Path, tmp_path: Path, data: bytes | None
) -> None:
    good, ring_file = RingState(5, SHARDS, spares=("unix:///run/spare",)), tmp_path / "kept" / "ring.json"
    async with aclosing(FileDiscovery(directory, ring_file)) as before:
        await before.write_ring(good, expected=None)
        assert await anext(before.watch_ring()) == good
    if data is None:
        shutil.rmtree(directory)
    else:
        (directory / "ring.json").write_bytes(data)
    async with aclosing(FileDiscovery(directory, ring_file)) as after:
        assert await asyncio.wait_for(anext(after.watch_ring()), WITHIN_S) == good
        assert after.refused_rings == 1
        with pytest.raises(RingError):
            await after.read_ring()


async def test_actions_that_are_unreadable_are_given_up(directory: Path, discovery: FileDiscovery) -> None:
    directory.mkdir()
    (directory / "ring-actions.json").write_bytes(b"garbage")
    assert await discovery.actions() == []
    action = RingAction(1, 1, "replace", "because", "ann")
    await discovery.record_action(action)
    assert await discovery.actions() == [action]


async def test_a_leader_whose_file_is_removed_has_lost(directory: Path, discovery: FileDiscovery) -> None:
    async with discovery.leadership("keeper-1") as leadership:
        assert (directory / "leader").read_text() == "keeper-1\n"
        (directory / "leader").unlink()
        async with asyncio.timeout(WITHIN_S):
            await leadership.wait_lost()
            async with discovery.leadership("keeper-2") as next_leadership:
                assert (leadership.lost, next_leadership.lost) == (True, False)
