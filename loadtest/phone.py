"""A phone: holds a connection, reports where it is, and shows friends."""

from __future__ import annotations

import contextlib
import random
import time
from typing import ClassVar

import gevent
import msgspec
import websocket
from gevent.event import AsyncResult
from locust import constant, task
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopUser

from cli.simulate.walk import Area, Walker
from loadtest import verdict
from loadtest.arguments import area_of
from loadtest.people import NobodyLeft, People, Person, Refused, call, log_in
from loadtest.screens import LOST_AFTER_S, Screen, Screens
from nearby.close_codes import AfterClose, after_close
from nearby.codecs import JSON
from nearby.messages import (
    Ack,
    AuthMessage,
    ClientMessage,
    Error,
    LocationMessage,
    Reconnect,
    SettingsMessage,
    Snapshot,
    TokenExpiring,
    Update,
    Welcome,
)
from nearby_client.backoff import Backoff

_CONNECT_TIMEOUT_S = 10.0
_SILENCE_S = 20.0
"""Every report is acknowledged, so a connection on which nothing comes for three intervals and this is dead."""
_RATE_LIMIT_PAUSE_S = 60.0
_NEVER = "never shown"

_BROKEN = (OSError, websocket.WebSocketException, msgspec.MsgspecError, UnicodeDecodeError)


class Ended(Exception):
    """A connection is over. ``after`` says what the protocol asks for, ``pause_s`` what the server asked for."""

    def __init__(self, code: int, after: AfterClose = AfterClose.RECONNECT, pause_s: float | None = None) -> None:
        self.code = code
        self.after = after
        self.pause_s = pause_s
        super().__init__(f"closed with {code}")


class Phone(FastHttpUser):
    """One person's phone. Its one task is one connection; after the end of one comes the next."""

    weight = 19
    wait_time = constant(0)
    network_timeout = connection_timeout = 10.0

    people: ClassVar[People]
    screens: ClassVar[Screens]
    switched_on: ClassVar[set[Phone]] = set()

    def on_start(self) -> None:
        """Find somebody to carry this phone, and a random moment of the interval to report at."""
        self.options = self.environment.parsed_options
        self.screen = Screen()
        self.rng = random.SystemRandom()
        self.backoff = Backoff(self.rng)
        self.person: Person | None = None
        self.socket: websocket.WebSocket | None = None
        self.reported_ms = 0
        try:
            self.person = self.people.take(self.client)
        except NobodyLeft as error:
            self._count("people in the file", error=RuntimeError("fewer than phones"))
            raise StopUser from error
        self.away_since_s: float | None = time.monotonic()
        self.was_connected = False
        self.due_s = time.monotonic() + self.rng.uniform(0, self.options.interval)
        self.switched_on.add(self)

    def on_stop(self) -> None:
        """Count whoever could not connect for too long, and give the account to the next phone."""
        if self.person is None:
            return
        self.switched_on.discard(self)
        late_ms = self._away_ms()
        if late_ms > self.options.slo_connect_ms:
            self._count_connected(late_ms)
        self.people.give_back(self.person)

    @task
    def hold_a_connection(self) -> None:
        """Connect, report until the connection ends, and wait as the protocol asks."""
        try:
            self._converse()
        except Ended as ended:
            self._come_back_later(ended)
        except (Refused, *_BROKEN):
            gevent.sleep(self.backoff.next_s())

    def drop(self) -> None:
        """Lose the connection as in a dead spot: without a word."""
        if self.socket is not None:
            self.socket.shutdown()

    # ------------------------------------------------------------------------------------- connection

    def _converse(self) -> None:
        """Hold one connection.

        Raises:
            Ended: it was welcomed, or closed by the server, and is over.
        """
        assert self.person is not None
        self.socket = socket = self._open(self.person)
        ended: AsyncResult[Ended] = AsyncResult()
        try:
            self._begin(self._receive_welcome(socket))
            reading = gevent.spawn(lambda: ended.set(self._read(socket)))
            try:
                self._report_until(ended)
            finally:
                reading.kill()
        finally:
            self.socket = None
            if self.away_since_s is None:
                self.away_since_s = time.monotonic()
            # What has missed its goal already counts, although the connection has ended; the rest is excused.
            self._give_up_overdue(self.options.slo_screen_ms / 1000)
            self.screens.darken(self.screen)
            with contextlib.suppress(*_BROKEN):
                socket.send_close()
            with contextlib.suppress(*_BROKEN):
                socket.shutdown()

    def _open(self, person: Person) -> websocket.WebSocket:
        url = self.options.gateway or call(self.client, "GET", "/v1/gateway", person.token)["url"]
        began_s = time.monotonic()
        try:
            socket = websocket.create_connection(
                url,
                timeout=_CONNECT_TIMEOUT_S,
                header=[f"Authorization: Bearer {person.token}"],
                subprotocols=[JSON.name],
                suppress_origin=True,
                http_no_proxy=["*"],
            )
        except websocket.WebSocketBadStatusException as error:
            refused = RuntimeError(f"HTTP {error.status_code}")
            self._count(verdict.ATTEMPT, time.monotonic() - began_s, refused)
            if error.status_code == 401:
                raise Ended(401, AfterClose.RENEW_TOKEN) from error
            retry_after = (error.resp_headers or {}).get("retry-after", "0")
            gevent.sleep(min(60.0, float(retry_after)) if retry_after.isdigit() else 0)
            raise
        except _BROKEN as error:
            self._count(verdict.ATTEMPT, time.monotonic() - began_s, RuntimeError(type(error).__name__))
            raise
        self._count(verdict.ATTEMPT, time.monotonic() - began_s)
        return socket

    def _receive_welcome(self, socket: websocket.WebSocket) -> Welcome:
        message = JSON.decode_server(self._receive(socket))
        if not isinstance(message, Welcome):
            raise websocket.WebSocketException("the first message is no welcome")
        socket.settimeout(3 * self.options.interval + _SILENCE_S)
        return message

    def _begin(self, welcome: Welcome) -> None:
        assert self.person is not None
        self._count_connected(self._away_ms())
        self.away_since_s, self.was_connected = None, True
        self.backoff.reset()
        if self.person.walker is None:
            area = Area(*area_of(self.options, self.options.radius or welcome.radius_m))
            self.person.walker = Walker(area, random.Random(self.rng.random()))  # noqa: S311 - a walk is no secret
        if self.options.radius:
            self._send(SettingsMessage(self.options.radius))

    def _come_back_later(self, ended: Ended) -> None:
        """Wait as the end of a connection asks.

        Raises:
            StopUser: the server does not want this client back.
        """
        assert self.person is not None
        if ended.after is AfterClose.STOP or (ended.after is AfterClose.RENEW_TOKEN and not self.person.password):
            self._count("session", error=RuntimeError(f"ended with {ended.code}"))
            raise StopUser
        if ended.after is AfterClose.RENEW_TOKEN:
            with contextlib.suppress(Refused):
                log_in(self.client, self.person)
        pause_s = _RATE_LIMIT_PAUSE_S if ended.after is AfterClose.WAIT_A_MINUTE else 0.0
        gevent.sleep(self.backoff.next_s() + pause_s if ended.pause_s is None else ended.pause_s)

    # --------------------------------------------------------------------------------------- messages

    def _read(self, socket: websocket.WebSocket) -> Ended:
        """Take messages until the connection ends."""
        try:
            while True:
                message = JSON.decode_server(self._receive(socket))
                match message:
                    case Update() | Snapshot():
                        self._show(message)
                    case Ack() | Error():
                        self._hear_back(message)
                    case Reconnect():
                        return Ended(1000, pause_s=message.after_ms / 1000)
                    case TokenExpiring():
                        self._renew()
        except Ended as ended:
            return ended
        except _BROKEN:
            return Ended(1006)

    def _receive(self, socket: websocket.WebSocket) -> bytes:
        """Return the next text message; pings are answered on the way.

        Raises:
            Ended: a close frame came.
        """
        opcode, data = socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
            raise Ended(code, after_close(code))
        return bytes(data)

    def _show(self, message: Update | Snapshot) -> None:
        within_s = self.options.slo_screen_ms / 1000
        for took_s in self.screens.take(self.screen, message, time.monotonic()):
            late = RuntimeError(f"later than {self.options.slo_screen_ms:g} ms") if took_s > within_s else None
            self._count(verdict.SCREEN, took_s, late)

    def _hear_back(self, answer: Ack | Error) -> None:
        """An answer to a report; its ``seq`` is the report's time."""
        assert self.person is not None
        refused = RuntimeError(answer.code) if isinstance(answer, Error) else None
        took_s = 0.0 if answer.seq is None else time.time() - answer.seq / 1000
        self._count(verdict.ACK, took_s, refused)
        if answer.seq is not None and (refused or (isinstance(answer, Ack) and answer.live is False)):
            self.screens.withdraw(self.person.user_id, answer.seq)

    def _renew(self) -> None:
        if self.person is None or not self.person.password:
            return
        with contextlib.suppress(Refused):
            log_in(self.client, self.person)
            self._send(AuthMessage(self.person.token))

    # ---------------------------------------------------------------------------------------- reports

    def _report_until(self, ended: AsyncResult[Ended]) -> None:
        """Report at this phone's own moments, whatever the answers do, until the connection ends; then raise that."""
        self._report()
        self._plan_next_report()
        while True:
            with contextlib.suppress(gevent.Timeout):
                raise ended.get(timeout=max(0.001, self.due_s - time.monotonic()))
            self._count(verdict.LATENESS, max(0.0, time.monotonic() - self.due_s), kind=verdict.CLIENT)
            self._report()
            self._plan_next_report()

    def _plan_next_report(self) -> None:
        """Choose this phone's next moment to come; those that have passed, as without a connection, are left out."""
        behind_s = time.monotonic() - self.due_s
        if behind_s >= 0:
            self.due_s += (1 + int(behind_s / self.options.interval)) * self.options.interval

    def _report(self) -> None:
        assert self.person is not None
        assert self.person.walker is not None
        now_s = time.monotonic()
        lat_deg, lon_deg = self.person.walker.at(now_s)
        self.reported_ms = max(time.time_ns() // 1_000_000, self.reported_ms + 1)
        self.screens.sent(self.person.user_id, self.reported_ms, now_s)
        self._send(
            LocationMessage(
                lat=lat_deg, lon=lon_deg, accuracy_m=8, recorded_at_ms=self.reported_ms, seq=self.reported_ms
            )
        )
        self._give_up_overdue(max(LOST_AFTER_S, self.options.slo_screen_ms / 1000))

    def _send(self, message: ClientMessage) -> None:
        """Send, and leave it to the reader to find out what became of a connection that does not take it."""
        if self.socket is not None:
            with contextlib.suppress(*_BROKEN):
                self.socket.send(JSON.encode(message))

    # ---------------------------------------------------------------------------------------- counting

    def _give_up_overdue(self, after_s: float) -> None:
        for _ in range(self.screens.overdue(self.screen, time.monotonic(), after_s)):
            self._count(verdict.SCREEN, after_s, RuntimeError(_NEVER))

    def _away_ms(self) -> float:
        return 0.0 if self.away_since_s is None else (time.monotonic() - self.away_since_s) * 1000

    def _count_connected(self, took_ms: float) -> None:
        late = took_ms > self.options.slo_connect_ms
        error = RuntimeError(f"later than {self.options.slo_connect_ms:g} ms") if late else None
        self._count(verdict.RECONNECT if self.was_connected else verdict.CONNECT, took_ms / 1000, error)

    def _count(
        self, name: str, took_s: float = 0.0, error: Exception | None = None, kind: str = verdict.SOCKET
    ) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=took_s * 1000,
            response_length=0,
            exception=error,
            context={},
        )
