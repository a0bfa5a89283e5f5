"""One connection to one pub/sub server, kept up for as long as its owner wants.

Invariants:

* Reading never waits for writing: what the server does not take is held back, the latest payload per channel,
  at most :data:`MAX_HELD` channels, the oldest dropped and counted.
* What was sent and not yet answered when the connection is lost is sent again on the next one. A message may so
  arrive twice; receivers drop the second by its version.
* A stopped server raises no error on its own. The probe, a message to ourselves, notices it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast
from urllib.parse import urlsplit

import hiredis

from nearby.channels import probe_channel
from nearby.ports import PubSubListener
from pubsub_router import resp
from pubsub_router.subscriptions import Subscriptions

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
MAX_HELD = 100_000
MAX_UNANSWERED = 50_000
WRITE_BUFFER_BYTES = 1 << 20
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 1.0


class Shard:
    """The connection to the server at ``address`` (``redis://HOST:PORT`` or ``unix:///SOCKET``) of slot ``slot``.

    ``member`` names this process on its probe channel. A probe goes out every half of ``probe_interval_s``, and one
    that has not come back after a whole interval drops the connection; 0 switches probes off.
    """

    def __init__(
        self, slot: str, address: str, listener: PubSubListener, *, member: str, probe_interval_s: float
    ) -> None:
        self.slot = slot
        self.address = address
        self.down_since_s: float | None = asyncio.get_running_loop().time()
        """Since when the server does not answer, by the loop's clock; ``None`` while it does."""
        self.subscriptions = Subscriptions()
        self.dropped_count = 0
        self.refused_count = 0
        self.published_count = 0
        self.received_count = 0
        self.connections_count = 0
        self.probe_failures_count = 0
        self._listener = listener
        self._probe_channel = probe_channel(member)
        self._probe_interval_s = probe_interval_s
        self._held: dict[bytes, bytes] = {}
        self._link: _Link | None = None
        self._change = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the server is connected and has answered."""
        return self._link is not None and self._link.ready

    def publish(self, channel: bytes, payload: bytes) -> None:
        """Send ``payload``, now or when the server can take it; never blocks, never raises."""
        link = self._link
        if link is not None and link.writable:
            self.published_count += 1
            link.publish(channel, payload)
        else:
            self._hold(channel, payload)

    def subscribe(self, channels: Iterable[bytes], *, after_gap: bool = False) -> None:
        """Want ``channels``, which are asked for as the server keeps up."""
        self.subscriptions.want(channels, after_gap=after_gap)
        self.ask()

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Cease to want ``channels``."""
        told = self.subscriptions.drop(channels)
        if told and self._link is not None and self._link.ready:
            for start in range(0, len(told), 512):
                self._link.write(resp.unsubscribe(told[start : start + 512]))
            self.ask()

    def ask(self) -> None:
        """Send the next chunks of wanted subscriptions, as far as the window allows."""
        while self._link is not None and self._link.ready and (chunk := self.subscriptions.next_chunk()):
            self._link.write(resp.subscribe(chunk))

    def move_to(self, address: str) -> None:
        """Use the server at ``address`` from now on."""
        if address != self.address:
            self.address = address
            self._change.set()
            if self._link is not None:
                self._link.drop("the slot has a new address")

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            self._change.clear()
            reason = await self._connect_and_serve()
            served = self._link is not None
            self._link = None
            if served:
                self.down_since_s = asyncio.get_running_loop().time()
                self.subscriptions.connection_lost()
                backoff_s = FIRST_BACKOFF_S
            log.warning("shard %s at %s: %s", self.slot, self.address, reason)
            wait_s = random.uniform(backoff_s / 2, backoff_s)  # noqa: S311 - jitter, not a secret
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
            try:
                async with asyncio.timeout(wait_s):
                    await self._change.wait()
            except TimeoutError:
                pass

    async def _connect_and_serve(self) -> str:
        """Serve one connection to its end; return why it ended."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                link = await _greeted(self.address, self)
        except (OSError, TimeoutError) as error:
            return f"cannot connect: {error or 'time-out'}"
        self._link = link
        self.down_since_s = None
        self.connections_count += 1
        log.info("shard %s at %s: connected", self.slot, self.address)
        link.write(resp.subscribe([self._probe_channel]))
        self.ask()
        self.release_held()
        try:
            async with asyncio.TaskGroup() as tasks:
                probing = tasks.create_task(self._probe(link))
                await asyncio.shield(link.closed)
                probing.cancel()
        finally:
            link.drop("closed")
            for channel, payload in link.unanswered:
                self._held.setdefault(channel, payload)
        return link.close_reason

    async def _probe(self, link: _Link) -> None:
        if not self._probe_interval_s:
            return
        loop = asyncio.get_running_loop()
        while True:
            link.write(resp.publish(self._probe_channel, b"%.6f" % loop.time()))
            link.unanswered.append((self._probe_channel, b""))
            await asyncio.sleep(self._probe_interval_s / 2)
            if loop.time() - link.probed_at_s > self._probe_interval_s:
                self.probe_failures_count += 1
                link.drop("the probe did not come back")
                return

    def _hold(self, channel: bytes, payload: bytes) -> None:
        self._held.pop(channel, None)  # so that the newest stand last
        self._held[channel] = payload
        if len(self._held) > MAX_HELD:
            del self._held[next(iter(self._held))]
            self.dropped_count += 1

    def release_held(self) -> None:
        """Send what was held back while the server could not take it."""
        held, self._held = self._held, {}
        for channel, payload in held.items():
            if channel != self._probe_channel:
                self.publish(channel, payload)

    def on_push(self, push: list[bytes], gap: list[bytes]) -> None:
        """Take one push message; channels that may have missed messages are added to ``gap``."""
        kind = push[0]
        if kind == b"message":
            if push[1] == self._probe_channel:
                if self._link is not None:
                    self._link.probed_at_s = float(push[2])
            else:
                self.received_count += 1
                self._listener.on_message(push[1], push[2])
        elif kind == b"subscribe" and push[1] != self._probe_channel and self.subscriptions.confirm(push[1]):
            gap.append(push[1])

    def on_read_end(self, gap: list[bytes]) -> None:
        """Everything one read brought has been taken."""
        self.ask()
        if gap:
            self._listener.on_gap(gap)
        self._listener.on_burst_end()


class _Link(asyncio.Protocol):
    """One TCP or Unix connection: bytes in, pushes out to the shard; and the other way round."""

    def __init__(self, shard: Shard) -> None:
        loop = asyncio.get_running_loop()
        self.ready = False
        self.writable = False
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.close_reason = "the server closed the connection"
        self.unanswered: deque[tuple[bytes, bytes]] = deque()
        self.probed_at_s = loop.time()
        self._loop = loop
        self._shard = shard
        self._reader = hiredis.Reader()
        self._out: list[bytes] = []
        self._paused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.write(resp.HELLO)

    def data_received(self, data: bytes) -> None:
        gap: list[bytes] = []
        gets, shard, push_type = self._reader.gets, self._shard, hiredis.PushNotification
        try:
            self._reader.feed(data)
            while (item := gets()) is not False:
                if type(item) is push_type:
                    shard.on_push(item, gap)
                else:
                    self._on_reply(item)
        except hiredis.ProtocolError as error:
            self.drop(f"not a Redis server: {error}")
        shard.on_read_end(gap)

    def _on_reply(self, reply: object) -> None:
        if not self.ready:
            if isinstance(reply, hiredis.ReplyError):
                self.drop(f"refused us: {reply}")
                return
            self.ready = self.writable = True
            if not self.greeted.done():
                self.greeted.set_result(None)
            return
        if self.unanswered:
            self.unanswered.popleft()
        if isinstance(reply, hiredis.ReplyError):
            self._shard.refused_count += 1
            log.warning("shard %s refused a publish: %s", self._shard.slot, reply)
        if not self.writable and not self._paused and len(self.unanswered) < MAX_UNANSWERED // 2:
            self.resume_writing()

    def publish(self, channel: bytes, payload: bytes) -> None:
        self.unanswered.append((channel, payload))
        self.write(resp.publish(channel, payload))
        if len(self.unanswered) >= MAX_UNANSWERED:
            self.writable = False

    def write(self, data: bytes) -> None:
        """Send ``data`` with everything else that this turn of the loop writes, in one system call."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def pause_writing(self) -> None:
        self._paused = True
        self.writable = False

    def resume_writing(self) -> None:
        self._paused = False
        self.writable = self.ready
        self._shard.release_held()

    def drop(self, reason: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self.close_reason = reason
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ready = self.writable = False
        if exc is not None:
            self.close_reason = str(exc)
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(self.close_reason))
        if not self.closed.done():
            self.closed.set_result(None)


async def _greeted(address: str, shard: Shard) -> _Link:
    """Return a connection whose server has answered. Cancellation leaves none behind."""
    link = await _connect(address, shard)
    try:
        await link.greeted
    except BaseException:
        link.drop("the server did not answer")
        raise
    return link


async def _connect(address: str, shard: Shard) -> _Link:
    loop = asyncio.get_running_loop()
    parts = urlsplit(address)
    factory: Callable[[], _Link] = lambda: _Link(shard)  # noqa: E731
    if parts.scheme == "unix":
        _, link = await loop.create_unix_connection(factory, parts.path)
    else:
        _, link = await loop.create_connection(factory, parts.hostname or "127.0.0.1", parts.port or 6379)
    return link
