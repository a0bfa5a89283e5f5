"""Publishes on Redis channels at a steady rate, from a thread of its own."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from pubsub_router.resp import command, publish

TICK_S = 0.0002
MAX_AT_ONCE = 500
MAX_BACKLOG_BYTES = 256 << 10
"""What may wait in Valkey for a server that does not keep up, and is then not published."""
_LOOK_S = 0.005
_DRAINED_POLL_S = 0.02
DRAINED_TIMEOUT_S = 60.0


class Publisher:
    """Publishes for one user after the other, in an order that mixes neighbours.

    ``message`` gives what to publish for a user now: the channel and the payload. ``offered_count`` is how many were
    published so far. While subscribers leave more than :data:`MAX_BACKLOG_BYTES` unread it pauses.
    """

    def __init__(self, address: str, users: int, message: Callable[[int], tuple[bytes, bytes]]) -> None:
        self.offered_count = 0
        self._message = message
        self._order = random.Random(7).sample(range(users), users)
        self._socket = _connect(address)
        self._control = _connect(address)
        self._looked_s = 0.0

    def run(self, per_s: float, stop: threading.Event) -> None:
        """Publish ``per_s`` messages a second until told to ``stop``, those that came late at once."""
        began_s, done = time.perf_counter(), 0
        while not stop.is_set():
            due = int((time.perf_counter() - began_s) * per_s) - done
            if due <= 0 or self._backlogged():
                time.sleep(TICK_S)
                continue
            due = min(due, MAX_AT_ONCE)
            users = [self._order[(self.offered_count + i) % len(self._order)] for i in range(due)]
            self._socket.sendall(b"".join([publish(*self._message(user)) for user in users]))
            self.offered_count += due
            done += due
            self._discard()

    def _backlogged(self) -> bool:
        now_s = time.perf_counter()
        if now_s - self._looked_s < _LOOK_S:
            return False
        if self.backlog_bytes() > MAX_BACKLOG_BYTES:
            return True
        self._looked_s = now_s
        return False

    def backlog_bytes(self) -> int:
        """Return what waits in Valkey for its slowest subscriber."""
        self._control.sendall(command(b"CLIENT", b"LIST"))
        reply = b""
        while not reply.endswith(b"\n\r\n"):
            reply += self._control.recv(1 << 16)
        return max(int(size) for size in re.findall(rb" omem=(\d+)", reply))

    async def drained(self) -> None:
        """Return when nothing waits in Valkey any more.

        Raises:
            TimeoutError: somebody does not read.
        """
        async with asyncio.timeout(DRAINED_TIMEOUT_S):
            while self.backlog_bytes():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_DRAINED_POLL_S)

    def _discard(self) -> None:
        """Read the answers, which nobody needs."""
        try:
            while self._socket.recv(1 << 16, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the connections."""
        self._socket.close()
        self._control.close()


def _connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    if parts.scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(parts.path)
        return sock
    return socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))


@contextmanager
def publishing(publisher: Publisher, per_s: float) -> Iterator[None]:
    """Let ``publisher`` work meanwhile."""
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(per_s, stop), name="publisher")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
