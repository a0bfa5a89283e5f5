"""A phone of the dense fleet: one listener of picows, with no task but while it connects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import msgspec
import picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from loadtest import verdict
from loadtest.journal import CONNECT_TIMEOUT_S, End, Journal, retry_after_s
from nearby.close_codes import AfterClose, CloseCode, after_close
from nearby.codecs import Codec
from nearby.messages import Ack, ClientMessage, Error, Reconnect, ServerMessage, Snapshot, Update, Welcome

_NO_CODE = 1005
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
_BUFFER_BYTES = 1024
"""Grows where a larger frame comes; most are smaller."""


class NoGateway(Exception):
    """The API named none. It has been counted."""


class Network(Protocol):
    """What the phones of a process share."""

    codec: Codec
    silence_s: float
    """After so long without a message a connection is dead."""
    frames: int
    """How many have come in; phones count them here."""
    sockets: int
    """How many phones are connected now; they count themselves."""

    def count(self, kind: str, name: str, took_s: float, error: str | None) -> None:
        """Count one thing; see :data:`loadtest.journal.Count`."""
        ...

    async def gateway(self, token: str) -> str:
        """Return the URL to connect to.

        Raises:
            NoGateway: there is none now.
        """
        ...

    def source(self, url: str) -> str | None:
        """Return the address to connect to ``url`` from; ``None``: the system's choice."""
        ...

    def is_off(self, phone: Phone) -> None:
        """Nothing is left of a phone that was put away."""
        ...

    def look_at(self, ended: asyncio.Task[None]) -> None:
        """Fail for what a task ended with, if it is an error."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the whole run: there is an error in the load test itself."""
        ...


class Phone(WSListener):
    """One person's phone, from its being switched on until it is put away.

    ``_timer`` is the one thing it waits for, other than messages: the end of a pause, the welcome, the next report.
    """

    __slots__ = (
        "_attempt",
        "_end",
        "_frame_type",
        "_heard_s",
        "_network",
        "_put_away",
        "_timer",
        "_transport",
        "_welcomed",
        "journal",
    )

    def __init__(self, journal: Journal, network: Network) -> None:
        self.journal = journal
        self._network = network
        self._frame_type = WSMsgType.BINARY if network.codec.binary else WSMsgType.TEXT
        self._attempt: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: WSTransport | None = None
        self._end: End | None = None
        self._heard_s = 0.0
        self._welcomed = False
        self._put_away = False
        self._connect()

    def put_away(self) -> None:
        """Close the connection, and be silent for ever."""
        self._put_away = True
        self._stop_waiting()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._transport is not None:
            self._hang_up(self._transport)
        self.journal.put_away(monotonic())
        self._tell_if_off()

    def drop(self) -> None:
        """Lose the connection as in a dead spot: without a word."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # ------------------------------------------------------------------------------------- connection

    def _connect(self) -> None:
        self._timer = None
        self._attempt = asyncio.get_running_loop().create_task(self._try_to_connect())
        self._attempt.add_done_callback(self._network.look_at)

    async def _try_to_connect(self) -> None:
        """Connect; if that fails, plan to do so again."""
        pause_s = None
        try:
            url = await self._network.gateway(self.journal.person.token)
            await self._open(url)
        except picows.WSInvalidStatusError as error:
            if error.response is not None and error.response.status == 401:
                self._come_back(End(401, AfterClose.RENEW_TOKEN))
                return
            header = error.response.headers.get("Retry-After") if error.response is not None else None
            pause_s = retry_after_s(header) + self.journal.pause_s()
        except (NoGateway, OSError, picows.WSError):
            pause_s = self.journal.pause_s()
        finally:
            self._attempt = None
            self._tell_if_off()
        if pause_s is not None:
            self._wait(pause_s, self._connect)

    async def _open(self, url: str) -> None:
        """Open a WebSocket, and count the attempt, as long as it is not cancelled."""
        source = self._network.source(url)
        own_end: dict[str, Any] = {} if source is None else {"local_addr": (source, 0)}
        began_s = monotonic()
        try:
            await picows.ws_connect(
                lambda: self,
                url,
                extra_headers={
                    "Authorization": f"Bearer {self.journal.person.token}",
                    "Sec-WebSocket-Protocol": self._network.codec.name,
                },
                read_buffer_init_size=_BUFFER_BYTES,
                websocket_handshake_timeout=CONNECT_TIMEOUT_S,
                **own_end,
            )
        except picows.WSInvalidStatusError as error:
            self._count_attempt(began_s, f"HTTP {error.response.status}" if error.response is not None else "no HTTP")
            raise
        except (OSError, picows.WSError) as error:
            self._count_attempt(began_s, type(error).__name__)
            raise
        self._count_attempt(began_s, None)

    def _count_attempt(self, began_s: float, problem: str | None) -> None:
        self._network.count(verdict.SOCKET, verdict.ATTEMPT, monotonic() - began_s, problem)

    def _come_back(self, end: End) -> None:
        """Plan the next connection as the end of this one asks, if there is to be one."""
        if not self.journal.give_up(end):
            self._wait(self.journal.pause_s(end), self._connect)

    def _tell_if_off(self) -> None:
        if self._put_away and self._transport is None and self._attempt is None:
            self._network.is_off(self)

    def _hang_up(self, transport: WSTransport) -> None:
        if not transport.is_close_frame_sent:
            transport.send_close(picows.WSCloseCode.OK)
        transport.disconnect()

    # ------------------------------------------------------------------------------------- from picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Wait for the welcome."""
        self._transport = transport
        self._end = None
        if self._put_away:
            self._hang_up(transport)
        else:
            self._wait(CONNECT_TIMEOUT_S, self.drop)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message; whatever is not of the protocol ends the connection."""
        try:
            kind = frame.msg_type
            if kind is self._frame_type:
                self._network.frames += 1
                self._heard_s = now_s = monotonic()
                self._take(transport, self._network.codec.decode_server(frame.get_payload_as_bytes()), now_s)
            elif kind is WSMsgType.CLOSE:
                self._hang_up(transport)
        except _UNREADABLE:
            transport.disconnect(graceful=False)
        except Exception as error:  # noqa: BLE001 - picows would keep it to itself, and the run go on without it
            self._network.fail(error)
            transport.disconnect(graceful=False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Count what is lost with the connection, and come back."""
        self._transport = None
        self._stop_waiting()
        if self._welcomed:
            self._network.sockets -= 1
            self._welcomed = False
        self.journal.lose(monotonic())
        if self._put_away:
            self._tell_if_off()
        else:
            self._come_back(self._end or _end_of(transport))

    # --------------------------------------------------------------------------------------- messages

    def _take(self, transport: WSTransport, message: ServerMessage | None, now_s: float) -> None:
        if self._put_away:
            return
        match message:
            case Update() | Snapshot():
                self.journal.show(message, now_s)
            case Ack() | Error():
                self.journal.hear_back(message, time.time())
            case Welcome():
                self._begin(message, now_s)
            case Reconnect():
                self._end = End(CloseCode.NORMAL, pause_s=message.after_ms / 1000)
                self._hang_up(transport)

    def _begin(self, welcome: Welcome, now_s: float) -> None:
        self._welcomed = True
        self._network.sockets += 1
        first = self.journal.welcome(welcome, now_s)
        if first is not None:
            self._send(first)
        self._send(self.journal.report(now_s, _unix_ms()))
        self._await_next_report(now_s)

    def _report(self) -> None:
        now_s = monotonic()
        if now_s - self._heard_s > self._network.silence_s:
            self.drop()
            return
        self._send(self.journal.report_due(now_s, _unix_ms()))
        self._await_next_report(now_s)

    def _await_next_report(self, now_s: float) -> None:
        self._wait(self.journal.due_s - now_s, self._report)

    def _send(self, message: ClientMessage) -> None:
        if self._transport is not None:
            self._transport.send(self._frame_type, self._network.codec.encode(message))

    # ---------------------------------------------------------------------------------------- waiting

    def _wait(self, pause_s: float, then: Callable[[], Any]) -> None:
        self._stop_waiting()
        # The loop keeps the timers of all phones in one heap.
        self._timer = asyncio.get_running_loop().call_later(pause_s, then)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end_of(transport: WSTransport) -> End:
    shake: Any = transport.close_handshake  # the stubs of picows hide that it may be None
    if shake is None or shake.recv is None:
        return End(CloseCode.ABNORMAL)
    code = int(shake.recv.code) or _NO_CODE
    return End(code, after_close(code))


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
