"""Thousands of clients in one process: picows sockets that keep little more than what a drain is judged by."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from nearby.close_codes import CloseCode
from nearby.codecs import JSON
from nearby.messages import LocationMessage, Reconnect, Snapshot, Update, Welcome
from nearby.model import UserId

AT_ONCE = 50
CHOICES_AT_ONCE = 16
"""A pool of HTTP connections looks through everybody who waits for one, each time."""
CONNECT_TIMEOUT_S = 20.0
RETRIES = 20

ChooseGateway = Callable[[str], Awaitable[str]]
"""Returns the URL where the bearer of a token is to connect."""


class LightClient(WSListener):
    """One user's client, over all of its connections.

    A ``stubborn`` one ignores ``reconnect``. ``told`` are those messages, ``closes`` the code of each end (1006 where
    no close frame came), ``gateways`` where it was welcomed, ``welcomed_at_s`` when, each in order.
    """

    def __init__(self, token: str, *, stubborn: bool = False) -> None:
        self.token = token
        self.stubborn = stubborn
        self.told: list[Reconnect] = []
        self.told_at_s: list[float] = []
        self.closes: list[int] = []
        self.closed_at_s: list[float] = []
        self.gateways: list[str] = []
        self.welcomed_at_s: list[float] = []
        self.refusals: list[int] = []
        self.seen: set[tuple[str, int]] = set()
        self.is_open = False
        self.doing = ""
        self.left = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._transport: WSTransport | None = None

    async def connect(self, url: str) -> None:
        """Connect and wait for the welcome; refused or failed, try again with full jitter."""
        for attempt in range(RETRIES):
            try:
                await self.try_to_connect(url)
                return
            except picows.WSInvalidStatusError as error:
                self.refusals.append(int(error.response.status) if error.response else 0)
            except (OSError, picows.WSError):
                self.refusals.append(0)
            await asyncio.sleep(random.uniform(0, min(30.0, 0.5 * 2**attempt)))
        raise AssertionError(f"not connected in {RETRIES} attempts: {self.refusals}")

    async def try_to_connect(self, url: str, headers: Mapping[str, str] | None = None, **options: Any) -> None:
        """Connect and wait for the welcome; ``options`` are those of ``loop.create_connection``.

        Raises:
            WSInvalidStatusError: refused.
            OSError: nobody listens.
        """
        self.left.clear()
        self._welcomed.clear()
        own = {"Authorization": f"Bearer {self.token}", "Sec-WebSocket-Protocol": JSON.name}
        await picows.ws_connect(
            lambda: self,
            url,
            extra_headers={**own, **(headers or {})},
            read_buffer_init_size=1024,
            websocket_handshake_timeout=CONNECT_TIMEOUT_S,
            **options,
        )
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._welcomed.wait()

    def report(self, lat_deg: float, lon_deg: float, recorded_at_ms: int | None = None) -> None:
        """Send a location."""
        assert self._transport is not None
        message = LocationMessage(lat=lat_deg, lon=lon_deg, recorded_at_ms=recorded_at_ms)
        self._transport.send(WSMsgType.TEXT, JSON.encode(message))

    def close(self) -> None:
        """Close with code 1000; :attr:`left` is set once that is done."""
        if self._transport is not None:
            self._transport.send_close(picows.WSCloseCode.OK)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.is_open = True

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            if not transport.is_close_frame_sent:
                transport.send_close(transport.close_handshake.recv.code)  # type: ignore[union-attr]
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        match JSON.decode_server(frame.get_payload_as_bytes()):
            case Welcome(gateway_id=gateway_id):
                self.gateways.append(gateway_id)
                self.welcomed_at_s.append(asyncio.get_running_loop().time())
                self._welcomed.set()
            case Reconnect() as message:
                self.told.append(message)
                self.told_at_s.append(asyncio.get_running_loop().time())
                if not self.stubborn:
                    self.close()
            case Update(friends=friends) | Snapshot(friends=friends):
                self.seen.update((entry.user_id, entry.updated_at_ms) for entry in friends)
            case _:
                pass

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        shake: Any = transport.close_handshake  # the stubs of picows hide that it may be None
        received = shake.recv if shake is not None else None
        self.closes.append(int(received.code) if received is not None else CloseCode.ABNORMAL)
        self.closed_at_s.append(asyncio.get_running_loop().time())
        self._transport = None
        self.is_open = False
        self.left.set()


class LightCrowd:
    """Clients that stay connected: one that is sent away or cut off comes back where ``choose`` says."""

    def __init__(self, clients: Mapping[UserId, LightClient], choose: ChooseGateway) -> None:
        self.clients = clients
        self._choose = choose
        self._choosing = asyncio.Semaphore(CHOICES_AT_ONCE)

    @property
    def everybody(self) -> list[LightClient]:
        return list(self.clients.values())

    async def come(self, url: str) -> None:
        """Connect everybody to ``url``, some at a time."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def connect(client: LightClient) -> None:
            async with turn:
                await client.connect(url)

        await asyncio.gather(*(connect(client) for client in self.everybody))

    async def stay(self) -> None:
        """Bring back whoever is disconnected, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for client in self.everybody:
                tasks.create_task(self._stay(client))

    async def _stay(self, client: LightClient) -> None:
        while True:
            client.doing = "connected"
            await client.left.wait()
            client.doing = "pausing"
            pause_s = client.told[-1].after_ms / 1000 if client.told else random.uniform(0, 0.5)
            await asyncio.sleep(pause_s)
            client.doing = "choosing a gateway"
            async with self._choosing:
                url = await self._choose(client.token)
            client.doing = "connecting"
            await client.connect(url)

    def forget_refusals(self) -> None:
        for client in self.everybody:
            client.refusals.clear()

    def everybody_is_back(self) -> bool:
        away = [client for client in self.everybody if not client.is_open]
        refusals = Counter(status for client in away for status in client.refusals)
        assert not away, f"away: {Counter(client.doing for client in away)}, refused with {refusals}"
        return True

    async def leave(self) -> None:
        """Close every connection."""
        here = [client for client in self.everybody if client.is_open]
        for client in here:
            client.close()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.gather(*(client.left.wait() for client in here))


@asynccontextmanager
async def light_crowd(
    tokens: Mapping[UserId, str], url: str, choose: ChooseGateway, *, stubborn_every: int = 0
) -> AsyncIterator[LightCrowd]:
    """Connect one client per token to ``url`` and keep them connected; one in ``stubborn_every`` is stubborn."""
    clients = {
        user: LightClient(token, stubborn=bool(stubborn_every) and index % stubborn_every == 0)
        for index, (user, token) in enumerate(tokens.items())
    }
    crowd = LightCrowd(clients, choose)
    await crowd.come(url)
    async with asyncio.TaskGroup() as tasks:
        staying = tasks.create_task(crowd.stay())
        try:
            yield crowd
        finally:
            staying.cancel()
            await asyncio.wait([staying])
            await crowd.leave()


def fixed(url: str) -> ChooseGateway:
    """Return a choice that is always ``url``, as behind a load balancer."""
    return partial(_same, url)


async def _same(url: str, _: str) -> str:
    return url
