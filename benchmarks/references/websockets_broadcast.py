"""Reference server: the ``websockets`` library, its ``broadcast()`` per channel, and redis-py, on uvloop.

As the documents of that library advise for many clients. ``broadcast()`` never waits: what a slow client does not read
stays in memory until the keepalive of the library (20 s + 20 s) closes it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import uvloop
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.references.options import Options, parse

SUBSCRIBED = '{"type":"subscribed"}'


async def run(options: Options) -> None:
    watchers: defaultdict[str, set[ServerConnection]] = defaultdict(set)
    confirmed = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        (user,) = parse_qs(urlsplit(connection.request.path).query)["user"]
        channels = options.channels_of(int(user))
        for name in channels:
            watchers[name].add(connection)
        try:
            await connection.send(SUBSCRIBED)
            await connection.wait_closed()
        finally:
            for name in channels:
                watchers[name].discard(connection)

    async def relay() -> None:
        async with Redis(host=options.redis_host, port=options.redis_port, decode_responses=True) as redis:
            pubsub = redis.pubsub()
            await pubsub.subscribe(*options.all_channels())
            async for message in pubsub.listen():
                if message["type"] == "message":
                    broadcast(watchers[message["channel"]], message["data"])
                elif message["data"] == options.users:
                    confirmed.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay())
        await confirmed.wait()
        async with serve(handle, "127.0.0.1", options.port) as server:
            print("ready", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(run(parse("websockets, broadcast() per channel")))
