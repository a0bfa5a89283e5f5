"""A client that stays connected: it finds a gateway, comes back after every end, and keeps the map of friends.

What an app is promised: while the context is open, :attr:`NearbyClient.friends` follows the server's map, and the
newest location that was reported reaches the server, now or with the next connection.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

from nearby.close_codes import AfterClose, CloseCode, after_close
from nearby.codecs import CODECS, Codec
from nearby.messages import (
    AuthMessage,
    ClientMessage,
    FriendEntry,
    LocationMessage,
    PingMessage,
    Reconnect,
    ResyncMessage,
    ServerMessage,
    SettingsMessage,
    Snapshot,
    TokenExpiring,
    Update,
    Welcome,
)
from nearby.ports import Clock, Sleep
from nearby_client.backoff import Backoff
from nearby_client.connection import Closed, GatewayConnection, Unreachable, UpgradeRefused, open_connection
from nearby_client.errors import ApiError, ApiUnreachable, SessionEnded
from nearby_client.events import Connected, Disconnected, Event
from nearby_client.map import FriendMap
from nearby_client.rest import NearbyApi

TokenProvider = Callable[[str | None], Awaitable[str]]
"""Returns an access token other than the one given, which the server refused or will soon; ``None`` at first."""

EVENT_LIMIT = 1000
"""Events that wait for the app; beyond it the oldest is dropped and counted. The map is right all the same."""
WELCOME_TIMEOUT_S = 10.0
TOKEN_TIMEOUT_S = 30.0
RATE_LIMIT_PAUSE_S = 60.0

_RETRIED_STATUS = (408, 429)


class _SentAway(Exception):
    def __init__(self, message: Reconnect) -> None:
        self.message = message
        super().__init__(message.reason)


class _NotOurProtocol(Exception):
    pass


_ATTEMPT_ENDED = (
    ApiError,
    ApiUnreachable,
    Closed,
    OSError,
    TimeoutError,
    Unreachable,
    UpgradeRefused,
    _NotOurProtocol,
    _SentAway,
)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class NearbyClient:
    """One user's connection to ``nearby``. An async context manager; entering it begins to connect.

    Args:
        api: The API's base URL, or a :class:`NearbyApi` shared by many clients (which is then left open).
        token: An access token, or a :data:`TokenProvider` such as :meth:`nearby_client.rest.Account.token`. With a
            bare token the session ends when the token does.
        url: The gateway to use. ``None`` asks the API for one at each connection.
        codecs: How messages may be written, the preferred first; the first that the gateway knows is used. By default
            MessagePack, and JSON with older gateways.
        on_event: Called with each event on the event loop, instead of :meth:`events`; it must not block.
        rng: The source of the jitter.
        sleep: Waits between connections, seconds.
        clock: Unix time in milliseconds, for reports that name no time.
    """

    def __init__(
        self,
        api: NearbyApi | str,
        token: str | TokenProvider,
        *,
        url: str | None = None,
        codecs: Sequence[Codec] = tuple(CODECS.values()),
        on_event: Callable[[Event], None] | None = None,
        rng: random.Random | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = _now_ms,
    ) -> None:
        self._owns_api = isinstance(api, str)
        self._api = NearbyApi(api) if isinstance(api, str) else api
        self._provider = None if isinstance(token, str) else token
        self._token = token if isinstance(token, str) else None
        self._refused_token: str | None = None
        self._refusals = 0
        self._fixed_url = url
        self._codecs = codecs
        self._next_url: str | None = None
        self._last_url: str | None = None
        self._backoff = Backoff(rng or random.SystemRandom())
        self._sleep = sleep
        self._clock = clock

        self._map = FriendMap()
        self._connection: GatewayConnection | None = None
        self._seq = 0
        self._last_report: LocationMessage | None = None
        self._radius_m: float | None = None
        self.welcome: Welcome | None = None
        """What the present connection began with; ``None`` while there is none."""

        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._emit = on_event or self._keep
        self.dropped_events = 0
        self.ended: SessionEnded | None = None
        """Why the client gave up; ``None`` while it goes on."""
        self._closed = False

        self._tasks = asyncio.TaskGroup()
        self._connecting: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------ for the app

    @property
    def friends(self) -> dict[str, FriendEntry]:
        """The friends now nearby by user id; the same dictionary always. Kept, growing old, while not connected."""
        return self._map.friends

    @property
    def refused_count(self) -> int:
        """How many entries were ignored because they were older than what had been shown for that friend."""
        return self._map.refused_count

    @property
    def connected(self) -> bool:
        """Whether a gateway has welcomed this client and is not known to be gone."""
        return self.welcome is not None

    async def events(self) -> AsyncIterator[Event]:
        """Yield events in their order until the context ends; for one reader.

        Raises:
            SessionEnded: the server asked not to come back, or the token cannot be renewed.
        """
        while True:
            while self._events:
                yield self._events.popleft()
            if self.ended is not None:
                raise self.ended
            if self._closed:
                return
            self._arrived.clear()
            await self._arrived.wait()

    def report(
        self,
        lat: float,
        lon: float,
        *,
        accuracy_m: float | None = None,
        speed_mps: float | None = None,
        heading_deg: float | None = None,
        recorded_at_ms: int | None = None,
    ) -> int:
        """Report a position, degrees, and return the ``seq`` that its ack or error will carry. Never waits.

        Without ``recorded_at_ms`` it counts as taken now. While there is no connection only the newest report is
        kept; it is sent again at the beginning of every connection, so a ``seq`` may be acknowledged twice, or,
        if it was overtaken, never.
        """
        if recorded_at_ms is None:
            before_ms = (self._last_report.recorded_at_ms or 0) if self._last_report else 0
            recorded_at_ms = max(self._clock(), before_ms + 1)
        self._seq += 1
        self._last_report = LocationMessage(
            lat=lat,
            lon=lon,
            accuracy_m=accuracy_m,
            speed_mps=speed_mps,
            heading_deg=heading_deg,
            recorded_at_ms=recorded_at_ms,
            seq=self._seq,
        )
        self._send_report()
        return self._seq

    def set_radius(self, radius_m: float) -> None:
        """Choose the radius, metres (50-50,000), for this connection and those to come; a snapshot follows."""
        self._radius_m = radius_m
        self._send(SettingsMessage(radius_m))

    def resync(self) -> None:
        """Ask for a snapshot. Without a connection there is nothing to do: each begins with one."""
        self._send(ResyncMessage())

    def ping(self, id: str | int) -> bool:  # noqa: A002 - the protocol's name
        """Ask for a ``Pong`` with this ``id``; return false if there is no connection."""
        return self._send(PingMessage(id))

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._connecting = self._tasks.create_task(self._stay_connected(), name="nearby client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
        if kind is asyncio.CancelledError:
            await self._tasks.__aexit__(kind, error, traceback)
        else:
            # The tasks have ended, so the group has nothing to say of the body's error, which it would wrap.
            await self._tasks.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Close the connection and end :meth:`events`. Idempotent."""
        self._closed = True
        self._arrived.set()
        running = [task for task in (self._connecting, self._renewing) if task is not None and not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if self._owns_api:
            await self._api.aclose()

    # ------------------------------------------------------------------------------------ connections

    async def _stay_connected(self) -> None:
        try:
            while True:
                await self._sleep(await self._connect_once())
        except SessionEnded as error:
            self.ended = error
            self._emit(Disconnected(error.code, error.reason, None))
            self._arrived.set()

    async def _connect_once(self) -> float:
        """Hold one connection for as long as it lasts; return the pause before the next one, seconds.

        Raises:
            SessionEnded: there must not be a next one.
        """
        try:
            token = await self._present_token()
            url = await self._choose_gateway(token)
            async with open_connection(url, token, self._codecs) as connection:
                await self._converse(connection, url)
        except _ATTEMPT_ENDED as error:
            self.welcome = None
            code, reason, pause_s = self._judge(error)
            self._emit(Disconnected(code, reason, pause_s))
            return pause_s
        raise AssertionError("a conversation ends by raising")

    async def _converse(self, connection: GatewayConnection, url: str) -> None:
        def on_message(data: bytes) -> None:
            try:
                message = connection.codec.decode_server(data)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise _NotOurProtocol(str(error)) from error
            if isinstance(message, Welcome):
                unwelcome.reschedule(None)
                self._begin(message, url)
            elif message is not None:
                self._take(message)

        self._connection = connection
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S) as unwelcome:
                await connection.run(on_message)
        finally:
            self._connection = None
            self.welcome = None

    async def _choose_gateway(self, token: str) -> str:
        if self._next_url is not None:
            url, self._next_url = self._next_url, None
            return _socket_url(url)
        if self._fixed_url is not None:
            return _socket_url(self._fixed_url)
        try:
            return _socket_url(await self._api.gateway(token))
        except ApiUnreachable:
            # Live traffic does not depend on the API: the gateway of before may well be there.
            if self._last_url is None:
                raise
            return self._last_url

    def _judge(self, error: Exception) -> tuple[int | None, str, float]:
        """Return the code and the reason of an end, and the pause that follows it, seconds (protocol §5)."""
        match error:
            case _SentAway(message=message):
                self._next_url, self._last_url = message.url, None
                return CloseCode.NORMAL, message.reason, message.after_ms / 1000
            case Closed(code=code, reason=reason):
                return code, reason, self._pause_after_close(code, reason)
            case UpgradeRefused(status=status):
                return status, str(error), self._pause_after_status(status, str(error)) + error.retry_after_s
            case ApiError(status=401):
                return 401, error.code, self._pause_after_refusal(401, error.code)
            case ApiError():
                return error.status, error.code, self._backoff.next_s()
            case _:
                return None, str(error) or type(error).__name__, self._backoff.next_s()

    def _pause_after_close(self, code: int, reason: str) -> float:
        if code == CloseCode.SERVICE_RESTART:
            self._last_url = None
        match after_close(code):
            case AfterClose.RECONNECT:
                return self._backoff.next_s()
            case AfterClose.RENEW_TOKEN:
                return self._pause_after_refusal(code, reason)
            case AfterClose.WAIT_A_MINUTE:
                return RATE_LIMIT_PAUSE_S + self._backoff.next_s()
            case AfterClose.STOP:
                raise SessionEnded(code, reason)

    def _pause_after_status(self, status: int, reason: str) -> float:
        if status == 401:
            return self._pause_after_refusal(status, reason)
        if status in (400, 403):
            raise SessionEnded(status, reason)
        return self._backoff.next_s()

    def _pause_after_refusal(self, code: int, reason: str) -> float:
        """Give up a token; a second one refused without a welcome between them means that none will do."""
        self._refusals += 1
        if self._provider is None or self._refusals > 1:
            raise SessionEnded(code, reason)
        self._refused_token, self._token = self._token, None
        return self._backoff.next_s()

    # ----------------------------------------------------------------------------------------- tokens

    async def _present_token(self) -> str:
        if self._token is None:
            self._token = await self._new_token(self._refused_token)
        return self._token

    async def _new_token(self, refused: str | None) -> str:
        assert self._provider is not None
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                return await self._provider(refused)
        except ApiError as error:
            if 400 <= error.status < 500 and error.status not in _RETRIED_STATUS:
                raise SessionEnded(error.status, error.code) from error
            raise

    def _renew_in_band(self) -> None:
        if self._provider is not None and (self._renewing is None or self._renewing.done()):
            self._renewing = self._tasks.create_task(self._renew(), name="nearby token renewal")

    async def _renew(self) -> None:
        try:
            token = await self._new_token(self._token)
        except (ApiError, ApiUnreachable, SessionEnded, OSError, TimeoutError):
            return  # The gateway will close with 4401, and then it is tried again.
        self._token = token
        self._send(AuthMessage(token))

    # --------------------------------------------------------------------------------------- messages

    def _begin(self, welcome: Welcome, url: str) -> None:
        self.welcome = welcome
        self._last_url = url
        self._backoff.reset()
        self._refusals = 0
        self._emit(Connected(welcome, url))
        if self._radius_m is not None and self._radius_m != welcome.radius_m:
            self._send(SettingsMessage(self._radius_m))
        self._send_report()

    def _take(self, message: ServerMessage) -> None:
        match message:
            case Update() | Snapshot():
                self._map.apply(message)
            case TokenExpiring():
                self._renew_in_band()
            case Welcome():
                return
        self._emit(message)
        if isinstance(message, Reconnect):
            raise _SentAway(message)

    def _send_report(self) -> None:
        if self._last_report is not None and self.welcome is not None:
            self._send(msgspec.structs.replace(self._last_report, sent_at_ms=self._clock()))

    def _send(self, message: ClientMessage) -> bool:
        return self.welcome is not None and self._connection is not None and self._connection.send(message)

    def _keep(self, event: Event) -> None:
        if len(self._events) >= EVENT_LIMIT:
            self._events.popleft()
            self.dropped_events += 1
        self._events.append(event)
        self._arrived.set()


def _socket_url(url: str) -> str:
    """Return ``url`` as a WebSocket URL with the protocol's path, if it has none of its own."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path if parts.path.strip("/") else "/v1/ws", parts.query, ""))
