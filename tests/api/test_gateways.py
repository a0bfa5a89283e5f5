from __future__ import annotations

import asyncio
from pathlib import Path

from api.gateways import Gateways
from discovery.connect import open_discovery
from nearby.ports import Member, MemberState, Role
from tests.api.stack import Stack, assert_problem
from tests.support.eventually import eventually


def _gateway(name: str, connections: int = 0, state: MemberState = MemberState.SERVING) -> Member:
    return Member(Role.GATEWAY, name, state, url=f"ws://{name}/v1/ws", connections=connections)


def _members(*members: Member) -> dict[str, Member]:
    return {member.member_id: member for member in members}


def test_the_least_loaded_gateway_is_chosen() -> None:
    gateways = Gateways()
    gateways.update(_members(_gateway("gw-1", 10), _gateway("gw-2", 3)))
    assert gateways.choose() == "ws://gw-2/v1/ws"


def test_only_a_serving_gateway_is_chosen() -> None:
    gateways = Gateways()
    gateways.update(
        _members(
            _gateway("gw-1", 10),
            _gateway("gw-2", 0, MemberState.DRAINING),
            _gateway("gw-3", 0, MemberState.STARTING),
        )
    )
    assert gateways.choose() == "ws://gw-1/v1/ws"
    gateways.update(_members(_gateway("gw-1", 10, MemberState.DRAINING)))
    assert gateways.choose() is None


def test_newcomers_are_spread_before_gateways_count_them() -> None:
    gateways = Gateways()
    gateways.update(_members(_gateway("gw-1", 2), _gateway("gw-2", 0)))
    chosen = [gateways.choose() for _ in range(6)]
    assert chosen.count("ws://gw-2/v1/ws") == 4
    gateways.update(_members(_gateway("gw-1", 4), _gateway("gw-2", 5)))
    assert gateways.choose() == "ws://gw-1/v1/ws", "what was sent is now counted by the gateways themselves"


async def test_without_a_gateway_the_answer_is_to_come_back(stack: Stack) -> None:
    answer = await stack.get("/v1/gateway", await stack.user("ann"))
    assert_problem(answer, 503, "no_gateway")
    assert int(answer.headers["retry-after"]) > 0


async def test_gateways_of_discovery_are_named_while_they_serve(stack: Stack, tmp_path: Path) -> None:
    ann = await stack.user("ann")

    async def named() -> str | None:
        answer = await stack.get("/v1/gateway", ann)
        return str(answer.json()["url"]) if answer.status_code == 200 else None

    async def is_named(expected: str | None) -> bool:
        return await named() == expected

    async with open_discovery(f"file://{tmp_path / 'discovery'}") as discovery, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(stack.services.gateways.follow(discovery))
        async with discovery.register(_gateway("gw-1")) as registration:
            await eventually(lambda: is_named("ws://gw-1/v1/ws"))
            await registration.update(_gateway("gw-1", 0, MemberState.DRAINING))
            await eventually(lambda: is_named(None))
        following.cancel()
