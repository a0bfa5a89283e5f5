from __future__ import annotations

import asyncio

from api.upkeep import delete_some, delete_what_is_over
from social_graph.limits import Limits
from tests.api.stack import Stack
from tests.social_graph import raw


async def test_what_has_had_its_time_is_deleted_and_the_rest_stays(stack: Stack, database_url: str) -> None:
    ann, bob, cat = await stack.users("ann", "bob", "cat")
    await stack.befriend(ann, bob)
    await stack.ask(ann, cat)
    headers = {**ann.headers, "Idempotency-Key": "one"}
    await stack.public.post("/v1/invites", headers=headers, json={"expires_in_s": 60})
    await stack.log_in(ann)
    tables = ("changes", "friend_requests", "invites", "idempotency_keys", "refresh_tokens")

    async def counts() -> list[object]:
        return [await raw.scalar(database_url, f"SELECT count(*) FROM {table}") for table in tables]

    graph, retention_ms = stack.services.graph, 3_600_000
    assert await delete_some(graph, stack.clock() - retention_ms) == 0
    assert await counts() == [1, 1, 1, 1, 1]
    stack.clock.advance(Limits().request_lifetime_s)
    ended = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds:
            ended.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(delete_what_is_over(graph, retention_ms / 1000, stack.clock, sleep))
        async with asyncio.timeout(60):
            await ended.wait()
        task.cancel()
    assert await counts() == [0, 0, 0, 0, 0]
    assert await graph.friendships.friend_ids(ann.user_id) == [bob.user_id]
    assert (await graph.changes.part_after(0, 10)).pruned_to == 1
