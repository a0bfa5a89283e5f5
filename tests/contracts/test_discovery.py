"""What every discovery promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from discovery.connect import open_discovery
from nearby.errors import RingConflict, RingError
from nearby.ports import Discovery, Member, MemberState, RingAction, RingState, Role
from tests.support.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

T = TypeVar("T")

WITHIN_S = 5.0
SHARDS = {"shard-0": "unix:///run/shard-0", "shard-1": "redis://10.0.0.2:6379"}
WHOLE = RingState(
    7, SHARDS, pending={"shard-1": "unix:///b"}, previous={"shard-0": "unix:///a"}, spares=("unix:///c", "unix:///d")
)
GATEWAY = Member(
    Role.GATEWAY, "gw-1", MemberState.SERVING, "ws://localhost:8081", "http://localhost:9", 7, 3, 1, 2, ("shard-0",)
)

OpenDiscovery = Callable[[], AbstractAsyncContextManager[Discovery]]


@pytest.fixture(params=["file", "zookeeper", "zookeeper ensemble"])
def open_(request: pytest.FixtureRequest, tmp_path: Path) -> OpenDiscovery:
    """Opens one more participant in the same discovery."""
    url = _fresh_url(request, tmp_path)
    return lambda: open_discovery(url)


def _fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/new folder"
    server: ZooKeeperServer | ZooKeeperEnsemble = request.getfixturevalue(f"shared_{request.param.replace(' ', '_')}")
    return server.fresh_url()


@pytest.fixture
async def discovery(open_: OpenDiscovery) -> AsyncIterator[Discovery]:
    async with open_() as opened:
        yield opened


@pytest.fixture
async def other(open_: OpenDiscovery) -> AsyncIterator[Discovery]:
    async with open_() as opened:
        yield opened


async def next_of(watch: AsyncIterator[T]) -> T:
    return await asyncio.wait_for(anext(watch), WITHIN_S)


async def until(watch: AsyncIterator[T], good: Callable[[T], bool]) -> T:
    """The first state that is good; states in between may be skipped, so none of them is expected."""
    async with asyncio.timeout(WITHIN_S):
        async for state in watch:
            if good(state):
                return state
    raise AssertionError("the watch ended")


async def test_there_is_no_ring_until_one_is_written(discovery: Discovery, other: Discovery) -> None:
    assert await discovery.read_ring() is None
    await discovery.write_ring(RingState(1, SHARDS), expected=None)
    assert await other.read_ring() == RingState(1, SHARDS)


async def test_every_part_of_a_ring_is_kept(discovery: Discovery, other: Discovery) -> None:
    await discovery.write_ring(WHOLE, expected=None)
    assert await other.read_ring() == WHOLE
    assert await next_of(other.watch_ring()) == WHOLE


async def test_a_watch_begins_with_the_present_ring(discovery: Discovery, other: Discovery) -> None:
    await discovery.write_ring(RingState(1, SHARDS), expected=None)
    assert await next_of(other.watch_ring()) == RingState(1, SHARDS)


async def test_a_watch_waits_for_the_first_ring(discovery: Discovery, other: Discovery) -> None:
    first = asyncio.ensure_future(next_of(other.watch_ring()))
    await asyncio.sleep(0)
    await discovery.write_ring(RingState(3, SHARDS), expected=None)
    assert (await first).epoch == 3


async def test_each_phase_of_a_resize_reaches_every_watch(discovery: Discovery, other: Discovery) -> None:
    before = RingState(1, SHARDS, spares=("redis://[::1]:7",))
    await discovery.write_ring(before, expected=None)
    watches = [discovery.watch_ring(), other.watch_ring(), other.watch_ring()]
    assert [await next_of(watch) for watch in watches] == [before] * 3
    after = {**SHARDS, "shard-2": "redis://[::1]:7"}
    prepared = replace(before, pending=after)
    committed = RingState(2, after, previous=SHARDS)
    for expected, ring in pairwise([before, prepared, committed, replace(committed, previous=None)]):
        await discovery.write_ring(ring, expected=expected)
        assert [await next_of(watch) for watch in watches] == [ring] * 3


async def test_an_aborted_resize_leaves_the_ring_as_it_was(discovery: Discovery, other: Discovery) -> None:
    ring, pending = RingState(4, SHARDS), RingState(4, SHARDS, pending={"shard-0": "unix:///run/shard-0"})
    await discovery.write_ring(ring, expected=None)
    await discovery.write_ring(pending, expected=ring)
    await other.write_ring(ring, expected=pending)
    assert await discovery.read_ring() == ring


async def test_an_address_changes_under_the_same_epoch(discovery: Discovery) -> None:
    await discovery.write_ring(RingState(5, SHARDS), expected=None)
    replaced = RingState(5, {**SHARDS, "shard-0": "unix:///run/spare"})
    await discovery.write_ring(replaced, expected=RingState(5, SHARDS))
    assert await next_of(discovery.watch_ring()) == replaced


async def test_an_older_ring_is_not_written(discovery: Discovery, other: Discovery) -> None:
    await discovery.write_ring(RingState(2, SHARDS), expected=None)
    with pytest.raises(RingError, match="older"):
        await other.write_ring(RingState(1, SHARDS), expected=RingState(2, SHARDS))
    assert (await next_of(other.watch_ring())).epoch == 2


@pytest.mark.parametrize(
    "expected",
    [
        None,
        RingState(1, SHARDS),
        RingState(2, SHARDS, pending=SHARDS),
        RingState(2, SHARDS, previous=SHARDS),
        RingState(2, SHARDS, spares=("unix:///run/spare",)),
        RingState(2, {"shard-0": "unix:///run/shard-0"}),
    ],
)
async def test_a_writer_that_expects_another_ring_than_the_present_one_does_not_write(
    discovery: Discovery, other: Discovery, expected: RingState | None
) -> None:
    await discovery.write_ring(RingState(2, SHARDS), expected=None)
    with pytest.raises(RingConflict):
        await other.write_ring(RingState(3, SHARDS), expected=expected)
    assert await discovery.read_ring() == RingState(2, SHARDS)


async def test_a_ring_is_not_expected_where_there_is_none(discovery: Discovery) -> None:
    with pytest.raises(RingConflict):
        await discovery.write_ring(RingState(2, SHARDS), expected=RingState(1, SHARDS))
    assert await discovery.read_ring() is None


@pytest.mark.parametrize("first", [None, RingState(1, SHARDS)])
async def test_of_many_writers_at_once_one_writes_and_the_others_learn_of_it(
    discovery: Discovery, other: Discovery, first: RingState | None
) -> None:
    if first is not None:
        await discovery.write_ring(first, expected=None)
    rings = [RingState(2, {"shard-0": f"unix:///run/{number}"}) for number in range(10)]
    writers = [discovery, other] * 5
    results = await asyncio.gather(
        *(writer.write_ring(ring, expected=first) for writer, ring in zip(writers, rings, strict=True)),
        return_exceptions=True,
    )
    written = [ring for ring, result in zip(rings, results, strict=True) if result is None]
    assert [type(result) for result in results if result is not None] == [RingConflict] * 9
    assert await other.read_ring() == written[0]


@pytest.mark.parametrize(
    "ring",
    [
        RingState(1, {}),
        RingState(0, SHARDS),
        RingState(1, {"": "unix:///s"}),
        RingState(1, {"shard-0": "localhost:6379"}),
        RingState(2, SHARDS, pending={}),
        RingState(2, SHARDS, pending={"": "unix:///s"}),
        RingState(2, SHARDS, pending={"shard-0": "unix://s"}),
        RingState(2, SHARDS, previous={}),
        RingState(2, SHARDS, previous={"shard-0": "redis://user@host:1"}),
        RingState(2, SHARDS, spares=("localhost:6379",)),
        RingState(2, SHARDS, spares=("unix:///s", "unix:///s")),
        RingState(2, SHARDS, spares=("unix:///run/shard-0",)),
    ],
)
async def test_a_ring_that_must_not_be_used_is_not_written(discovery: Discovery, ring: RingState) -> None:
    with pytest.raises(RingError):
        await discovery.write_ring(ring, expected=None)
    assert await discovery.read_ring() is None


async def test_actions_are_remembered_in_their_order(discovery: Discovery, other: Discovery) -> None:
    assert await discovery.actions() == []
    actions = [
        RingAction(1_000, 7, "replace", "shard-1 does not answer", "keeper-1"),
        RingAction(2_000, 8, "x", "", ""),
    ]
    await discovery.record_action(actions[0])
    await other.record_action(actions[1])
    assert await discovery.actions() == await other.actions() == actions


async def test_the_newest_200_actions_are_kept(discovery: Discovery, other: Discovery) -> None:
    async def record(number: int) -> None:
        await (discovery, other)[number % 2].record_action(RingAction(number, 1, "plan", "", "ann"))

    for number in range(0, 210, 2):
        await asyncio.gather(record(number), record(number + 1))
    instants = [action.at_ms for action in await other.actions()]
    assert sorted(instants) == list(range(10, 210))
    assert instants[0] in (10, 11)


async def test_one_is_elected_and_the_next_when_it_steps_down(discovery: Discovery, other: Discovery) -> None:
    elected: list[str] = []

    async def lead(candidate: Discovery, member_id: str) -> None:
        async with candidate.leadership(member_id) as leadership:
            assert not leadership.lost
            elected.append(member_id)
            assert len(elected) == 1
            await asyncio.sleep(0.01)
            assert elected.pop() == member_id

    names = [f"keeper-{number}" for number in range(4)]
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*map(lead, [discovery, other] * 2, names))


async def test_a_candidate_that_gives_up_is_not_elected(discovery: Discovery, other: Discovery) -> None:
    async with asyncio.timeout(WITHIN_S), discovery.leadership("keeper-1"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), other.leadership("keeper-2"):
                pytest.fail("there are two leaders")
    async with asyncio.timeout(WITHIN_S), discovery.leadership("keeper-3") as leadership:
        assert not leadership.lost


async def test_a_leader_that_fails_has_stepped_down(discovery: Discovery, other: Discovery) -> None:
    async def fail() -> None:
        async with discovery.leadership("keeper-1"):
            raise RuntimeError

    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(ExceptionGroup):
            await fail()
        async with other.leadership("keeper-2"):
            pass


async def test_a_watch_of_members_begins_with_those_of_now(discovery: Discovery, other: Discovery) -> None:
    assert await next_of(other.watch_members(Role.GATEWAY)) == {}
    async with discovery.register(GATEWAY):
        assert await next_of(other.watch_members(Role.GATEWAY)) == {"gw-1": GATEWAY}


async def test_members_come_change_and_go(discovery: Discovery, other: Discovery) -> None:
    watch = other.watch_members(Role.GATEWAY)
    assert await next_of(watch) == {}
    async with discovery.register(GATEWAY) as registration:
        assert await next_of(watch) == {"gw-1": GATEWAY}
        draining = replace(GATEWAY, state=MemberState.DRAINING, connections=0, details={"reason": "deploy"})
        await registration.update(draining)
        assert await until(watch, lambda members: members == {"gw-1": draining})
    assert await next_of(watch) == {}


async def test_a_role_sees_only_its_own_members(discovery: Discovery, other: Discovery) -> None:
    async with discovery.register(GATEWAY), other.register(Member(Role.API, "gw-1")):
        assert await next_of(discovery.watch_members(Role.GATEWAY)) == {"gw-1": GATEWAY}
        assert await next_of(discovery.watch_members(Role.API)) == {"gw-1": Member(Role.API, "gw-1")}
        assert await next_of(discovery.watch_members(Role.HISTORY_WRITER)) == {}


async def test_many_members_are_seen_together(discovery: Discovery, other: Discovery) -> None:
    members = {f"gw-{number}": replace(GATEWAY, member_id=f"gw-{number}") for number in range(20)}
    async with AsyncExitStack() as registrations:
        for member in members.values():
            await registrations.enter_async_context(discovery.register(member))
        assert await until(other.watch_members(Role.GATEWAY), lambda found: len(found) == 20) == members


async def test_a_member_that_fails_is_gone(discovery: Discovery, other: Discovery) -> None:
    watch = other.watch_members(Role.GATEWAY)

    async def fail() -> None:
        async with discovery.register(GATEWAY):
            assert await until(watch, bool)
            raise RuntimeError

    with pytest.raises(ExceptionGroup):
        await fail()
    assert await next_of(watch) == {}


async def test_a_new_process_takes_the_place_of_an_older_one_of_the_same_id(
    discovery: Discovery, other: Discovery
) -> None:
    newer = replace(GATEWAY, pid=8)

    def is_newer(members: Mapping[str, Member]) -> bool:
        return members == {"gw-1": newer}

    async with discovery.register(GATEWAY) as older_registration, other.register(newer):
        assert await until(discovery.watch_members(Role.GATEWAY), is_newer)
        await older_registration.update(replace(GATEWAY, connections=99))
        assert await until(discovery.watch_members(Role.GATEWAY), is_newer)


@pytest.mark.parametrize("member_id", ["../../escape", "a/b", ".", "..", "ü ☃", "%41", "x" * 80])
async def test_any_name_is_a_member_id(discovery: Discovery, other: Discovery, member_id: str) -> None:
    member = replace(GATEWAY, member_id=member_id)
    async with discovery.register(member):
        assert await next_of(other.watch_members(Role.GATEWAY)) == {member_id: member}


async def test_a_registration_cannot_become_somebody_else(discovery: Discovery) -> None:
    async with discovery.register(GATEWAY) as registration:
        with pytest.raises(ValueError, match="gw-2"):
            await registration.update(replace(GATEWAY, member_id="gw-2"))


async def test_closing_twice_ends_the_watches(open_: OpenDiscovery) -> None:
    async with open_() as discovery:
        watch = discovery.watch_members(Role.GATEWAY)
        assert await next_of(watch) == {}
        await discovery.aclose()
        await discovery.aclose()
        with pytest.raises(StopAsyncIteration):
            await next_of(watch)
