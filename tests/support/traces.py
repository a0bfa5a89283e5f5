"""Looking for what a stack still holds of somebody, in every store and past its own code."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import closing
from typing import cast

from redis.asyncio import Redis

from location_cache.redis import ERASED
from tests.support.eventually import eventually
from tests.support.history_probes import HistoryProbe
from tests.support.people import Person
from tests.support.stack import Stack

WITHIN_S = 30.0


async def erased(stack: Stack, person: Person) -> None:
    """Wait until nothing is left to be deleted of ``person``."""
    await eventually(lambda: is_erased(stack, person), WITHIN_S)


async def is_erased(stack: Stack, person: Person) -> bool:
    """Whether nothing is left to be deleted of ``person``."""

    def check() -> bool:
        with closing(sqlite3.connect(stack.data_dir / "users.sqlite")) as database:
            query = "SELECT count(*) FROM erasures WHERE user_id = ?"
            return bool(database.execute(query, (person.user_id,)).fetchone()[0] == 0)

    return await asyncio.to_thread(check)


async def nothing_is_left(stack: Stack, probe: HistoryProbe, person: Person) -> None:
    """Look at every row and key of every store."""
    assert await asyncio.to_thread(probe.mentions, person.user_id) == []
    assert await asyncio.to_thread(_mentions, stack, person) == []
    for url in (stack.cache_url, *stack.shard_urls.values()):
        client: Redis = Redis.from_url(url)
        try:
            await _no_key_tells(client, person.user_id.encode())
        finally:
            await client.aclose()


def _mentions(stack: Stack, person: Person) -> list[str]:
    """The tables of the user database that know the user; the change feed forgets in its time."""
    with closing(sqlite3.connect(stack.data_dir / "users.sqlite")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            table
            for table in set(tables) - {"changes"}
            if any(person.user_id in str(value) for row in database.execute(f"SELECT * FROM {table}") for value in row)
        ]


async def _no_key_tells(client: Redis, user_id: bytes) -> None:
    """No key knows where the user was: what may name them says only that they are gone, and ends by itself."""
    packed_id = uuid.UUID(user_id.decode()).bytes
    async for key in client.scan_iter():
        kind = await client.type(key)
        if kind == b"stream":
            entries = cast(list[tuple[bytes, dict[bytes, bytes]]], await client.xrange(key))
            values = [value for _, fields in entries for value in fields.values()]
            assert not any(packed_id in value or user_id in value for value in values)
        elif user_id in key:
            assert await client.pttl(key) > 0
            counts_requests = key.startswith(b"rate:")
            assert counts_requests or key.startswith(b"history:fences:") or await client.get(key) == ERASED
        else:
            assert kind == b"string"
            assert user_id not in (await client.get(key) or b"")
