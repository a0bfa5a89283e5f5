"""Reference server: FastAPI and redis-py's pub/sub on ``uvicorn[standard]``, as tutorials write it.

By default the lean form: one reader task for the process, which awaits ``send_text`` for one watcher after the other,
so a client that does not read holds up everybody. ``--per-socket`` is the form that most tutorials show: a pub/sub
connection to Redis, and a task that reads it, for each socket. A client may report a location, which is stored,
appended to a stream and published, before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis

from benchmarks.references.options import Options, parse
from benchmarks.targets import channel

ACK = '{"type":"ack"}'
SUBSCRIBED = '{"type":"subscribed"}'


Watchers = defaultdict[str, set[WebSocket]]
"""The sockets that watch each channel."""


async def relay_all(redis: Redis, options: Options, watchers: Watchers, confirmed: asyncio.Event) -> None:
    """Send what comes in on any channel to its watchers; tell when all subscriptions are confirmed."""
    pubsub = redis.pubsub()
    await pubsub.subscribe(*options.all_channels())
    async for message in pubsub.listen():
        if message["type"] == "message":
            for websocket in tuple(watchers[message["channel"]]):
                try:
                    await websocket.send_text(message["data"])
                except WebSocketDisconnect:
                    watchers[message["channel"]].discard(websocket)
        elif message["data"] == options.users:
            confirmed.set()


def lean_app(redis: Redis, options: Options) -> FastAPI:
    """Return an app with one reader of Redis."""
    watchers: Watchers = defaultdict(set)
    confirmed = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            relaying = tasks.create_task(relay_all(redis, options, watchers, confirmed))
            await confirmed.wait()
            yield
            relaying.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/")
    async def watch(websocket: WebSocket, user: int) -> None:
        await websocket.accept()
        channels = options.channels_of(user)
        for name in channels:
            watchers[name].add(websocket)
        try:
            await websocket.send_text(SUBSCRIBED)
            await take_reports(websocket, redis, user)
        finally:
            for name in channels:
                watchers[name].discard(websocket)

    return app


def per_socket_app(redis: Redis, options: Options) -> FastAPI:
    """Return an app with a reader of Redis for each socket."""
    app = FastAPI()

    @app.websocket("/")
    async def watch(websocket: WebSocket, user: int) -> None:
        await websocket.accept()
        async with redis.pubsub() as pubsub, asyncio.TaskGroup() as tasks:
            await pubsub.subscribe(*options.channels_of(user))

            async def relay() -> None:
                with suppress(WebSocketDisconnect):
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            await websocket.send_text(message["data"])
                        elif message["data"] == options.friends:
                            await websocket.send_text(SUBSCRIBED)

            relaying = tasks.create_task(relay())
            await take_reports(websocket, redis, user)
            relaying.cancel()

    return app


async def take_reports(websocket: WebSocket, redis: Redis, user: int) -> None:
    """Store and publish each location that the client reports, and acknowledge it, until the client leaves."""
    try:
        while True:
            location = await websocket.receive_json()
            now_ms = time.time_ns() // 1_000_000
            fields = {"user_id": f"{user:036}", **location, "updated_at_ms": now_ms, "distance_m": 0}
            entry = json.dumps(fields, separators=(",", ":"))
            async with redis.pipeline(transaction=False) as commands:
                commands.set(f"at:{user}", entry, ex=600)
                commands.xadd("history", {"entry": entry}, maxlen=1_000_000)
                commands.publish(channel(user), entry)
                await commands.execute()
            await websocket.send_text(ACK)
    except WebSocketDisconnect:
        return


class Server(uvicorn.Server):
    """Says when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print("ready", flush=True)


def main() -> None:
    options = parse(
        "FastAPI with redis-py's pub/sub", per_socket="a connection to Redis for each socket, in place of one"
    )
    redis = Redis(
        host=options.redis_host, port=options.redis_port, decode_responses=True, max_connections=options.users + 1
    )
    app = per_socket_app(redis, options) if options.per_socket else lean_app(redis, options)
    Server(uvicorn.Config(app, port=options.port, log_level="warning", timeout_graceful_shutdown=1)).run()


if __name__ == "__main__":
    main()
