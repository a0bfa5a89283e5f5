"""A process full of phones, to be loaded, frozen and killed: ``python -m tests.support.phones``.

It reads one JSON object from standard input (``url``, ``tokens``, ``report_s``, ``slow``) and then writes one a second:
how many phones are connected, the close codes so far, the latencies of friends' locations, in milliseconds, and how
many reports all phones have sent, frames and bytes of payload they have received so far.
``slow`` phones read one byte a second through the smallest receive buffer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import picows
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from nearby.codecs import JSON, Codec

AT_ONCE = 25
DETAILS = '"accuracy_m":12.5,"speed_mps":1.4,"heading_deg":270.0'
SAMPLE_EVERY = 20
"""One phone in so many decodes what it gets; the others only take it."""


class Phone(WSListener):
    """Reports a short walk. A ``sampled`` one tells how old each new location of a friend is when it comes."""

    def __init__(self, crowd: Crowd, token: str, *, sampled: bool) -> None:
        self.sampled = sampled
        self.seen: dict[str, int] = {}
        self.crowd = crowd
        self.token = token
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.crowd.connected += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.transport = None
        self.crowd.connected -= 1
        shake: Any = transport.close_handshake
        self.crowd.closes[int(shake.recv.code) if shake is not None and shake.recv is not None else 1006] += 1

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        self.crowd.frames += 1
        self.crowd.payload_bytes += frame.payload_size
        if self.sampled:
            now_ms = time.time_ns() // 1_000_000
            message = json.loads(frame.get_payload_as_bytes())
            for entry in message.get("friends", ()):
                user_id, updated_at_ms = entry["user_id"], entry["updated_at_ms"]
                if updated_at_ms > self.seen.get(user_id, updated_at_ms):
                    self.crowd.latencies_ms.append(now_ms - updated_at_ms)
                self.seen[user_id] = updated_at_ms

    def report(self) -> None:
        if self.transport is not None:
            self.crowd.reports += 1
            lat = 41.88 + random.uniform(-0.001, 0.001)
            now_ms = time.time_ns() // 1_000_000
            text = f'{{"type":"location","lat":{lat:.6f},"lon":-87.63,{DETAILS},"recorded_at_ms":{now_ms}}}'
            self.transport.send(WSMsgType.TEXT, text.encode())


class Crowd:
    """All phones of this process."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.connected = 0
        self.closes: Counter[int] = Counter()
        self.latencies_ms: list[int] = []
        self.reports = 0
        self.frames = 0
        self.payload_bytes = 0
        self._order = order

    async def run(self) -> None:
        turn = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell())
            for index, token in enumerate(self._order["tokens"]):
                phone = Phone(self, token, sampled=index % SAMPLE_EVERY == 0)
                tasks.create_task(self._slow(token) if self._order["slow"] else self._live(phone, turn))

    async def _live(self, phone: Phone, turn: asyncio.Semaphore) -> None:
        headers = {"Authorization": f"Bearer {phone.token}", "Sec-WebSocket-Protocol": JSON.name}
        async with turn:
            await picows.ws_connect(
                lambda: phone, self._order["url"], extra_headers=headers, websocket_handshake_timeout=20
            )
        phone.report()
        report_s = self._order["report_s"]
        await asyncio.sleep(random.uniform(0, report_s))
        while phone.transport is not None:
            phone.report()
            await asyncio.sleep(report_s)

    async def _slow(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        parts = urlsplit(self._order["url"])
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.setblocking(False)
            await loop.sock_connect(sock, (parts.hostname, parts.port))
            await loop.sock_sendall(sock, upgrade_request(token))
            self.connected += 1
            with suppress(OSError):
                await loop.sock_sendall(sock, text_frame(b'{"type":"location","lat":41.88,"lon":-87.63}'))
                while await loop.sock_recv(sock, 1):  # noqa: ASYNC110 - that is the point
                    await asyncio.sleep(1)
            self.connected -= 1
            self.closes[1006] += 1

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            latencies_ms, self.latencies_ms = self.latencies_ms, []
            told = {"connected": self.connected, "closes": self.closes, "latencies_ms": latencies_ms}
            told |= {"reports": self.reports, "frames": self.frames, "payload_bytes": self.payload_bytes}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


def upgrade_request(token: str | None, path: str = "/v1/ws", codec: Codec = JSON) -> bytes:
    """Return the bytes of an upgrade."""
    key = base64.b64encode(os.urandom(16)).decode()
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {codec.name}\r\n"
        f"{authorization}\r\n"
    ).encode()


def text_frame(payload: bytes) -> bytes:
    """Return a text frame of fewer than 126 bytes, under a mask of zeros."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


class Phones:
    """The test's side of such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.connected = 0
        self.closes: dict[str, int] = {}
        self.latencies_ms: list[int] = []
        self.reports = 0
        self.frames = 0
        self.payload_bytes = 0
        self._process = process

    async def follow(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            self.connected, self.closes = told["connected"], told["closes"]
            self.latencies_ms += told["latencies_ms"]
            self.reports, self.frames, self.payload_bytes = told["reports"], told["frames"], told["payload_bytes"]

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def phones(
    url: str, tokens: Collection[str], report_s: float = 0, *, slow: bool = False
) -> AsyncIterator[Phones]:
    """Start a process with a phone for each of ``tokens``, and kill it in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.phones"), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=1 << 22
    )
    assert process.stdin is not None
    order = {"url": url, "tokens": list(tokens), "report_s": report_s, "slow": slow}
    process.stdin.write(json.dumps(order).encode())
    process.stdin.close()
    running = Phones(process)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(running.follow())
        try:
            yield running
        finally:
            process.kill()
            await process.wait()
            following.cancel()


def percentile(values: list[int], percent: float) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


if __name__ == "__main__":
    uvloop.run(Crowd(json.loads(sys.stdin.read())).run())
