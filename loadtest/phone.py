"""A phone of Locust's: a WebSocket under gevent."""

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

from loadtest import verdict
from loadtest.journal import CONNECT_TIMEOUT_S, End, Journal, retry_after_s, silence_s
from loadtest.people import NobodyLeft, People, Refused, call, log_in
from loadtest.person import Person
from loadtest.screens import Screens
from nearby.close_codes import AfterClose, after_close
from nearby.codecs import JSON
from nearby.messages import (
    Ack,
    AuthMessage,
    ClientMessage,
    Error,
    Reconnect,
    Snapshot,
    TokenExpiring,
    Update,
    Welcome,
)

_BROKEN = (OSError, websocket.WebSocketException, msgspec.MsgspecError, UnicodeDecodeError)


class Ended(Exception):
    """A connection is over."""

    def __init__(self, end: End) -> None:
        self.end = end
        super().__init__(f"closed with {end.code}")


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
        self.socket: websocket.WebSocket | None = None
        self.journal: Journal | None = None
        try:
            person = self.people.take(self.client)
        except NobodyLeft as error:
            self._count(verdict.SOCKET, "people in the file", 0.0, "fewer than phones")
            raise StopUser from error
        rng = random.SystemRandom()
        self.journal = Journal(person, self.options, self.screens, self._count, rng, time.monotonic())
        self.switched_on.add(self)

    def on_stop(self) -> None:
        """Count whoever could not connect for too long, and give the account to the next phone."""
        if self.journal is None:
            return
        self.switched_on.discard(self)
        self.journal.put_away(time.monotonic())
        self.people.give_back(self.journal.person)

    @property
    def person(self) -> Person | None:
        """Who carries the phone, if anybody."""
        return self.journal.person if self.journal is not None else None

    @task
    def hold_a_connection(self) -> None:
        """Connect, report until the connection ends, and wait as the protocol asks."""
        assert self.journal is not None
        try:
            self._converse(self.journal)
        except Ended as ended:
            self._come_back_later(self.journal, ended.end)
        except (Refused, *_BROKEN):
            gevent.sleep(self.journal.pause_s())

    def drop(self) -> None:
        """Lose the connection as in a dead spot: without a word."""
        if self.socket is not None:
            self.socket.shutdown()

    # ------------------------------------------------------------------------------------- connection

    def _converse(self, journal: Journal) -> None:
        """Hold one connection.

        Raises:
            Ended: it was welcomed, or closed by the server, and is over.
        """
        self.socket = socket = self._open(journal.person)
        ended: AsyncResult[End] = AsyncResult()
        try:
            self._begin(journal, self._receive_welcome(socket))
            reading = gevent.spawn(lambda: ended.set(self._read(socket, journal)))
            try:
                self._report_until(ended, journal)
            finally:
                reading.kill()
        finally:
            self.socket = None
            journal.lose(time.monotonic())
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
                timeout=CONNECT_TIMEOUT_S,
                header=[f"Authorization: Bearer {person.token}"],
                subprotocols=[JSON.name],
                suppress_origin=True,
                http_no_proxy=["*"],
            )
        except websocket.WebSocketBadStatusException as error:
            self._count_attempt(began_s, f"HTTP {error.status_code}")
            if error.status_code == 401:
                raise Ended(End(401, AfterClose.RENEW_TOKEN)) from error
            gevent.sleep(retry_after_s((error.resp_headers or {}).get("retry-after")))
            raise
        except _BROKEN as error:
            self._count_attempt(began_s, type(error).__name__)
            raise
        self._count_attempt(began_s, None)
        return socket

    def _receive_welcome(self, socket: websocket.WebSocket) -> Welcome:
        message = JSON.decode_server(self._receive(socket))
        if not isinstance(message, Welcome):
            raise websocket.WebSocketException("the first message is no welcome")
        socket.settimeout(silence_s(self.options))
        return message

    def _begin(self, journal: Journal, welcome: Welcome) -> None:
        first = journal.welcome(welcome, time.monotonic())
        if first is not None:
            self._send(first)

    def _come_back_later(self, journal: Journal, end: End) -> None:
        """Wait as the end of a connection asks.

        Raises:
            StopUser: the server does not want this client back.
        """
        if journal.give_up(end):
            raise StopUser
        if end.after is AfterClose.RENEW_TOKEN:
            with contextlib.suppress(Refused):
                log_in(self.client, journal.person)
        gevent.sleep(journal.pause_s(end))

    # --------------------------------------------------------------------------------------- messages

    def _read(self, socket: websocket.WebSocket, journal: Journal) -> End:
        """Take messages until the connection ends."""
        try:
            while True:
                message = JSON.decode_server(self._receive(socket))
                match message:
                    case Update() | Snapshot():
                        journal.show(message, time.monotonic())
                    case Ack() | Error():
                        journal.hear_back(message, time.time())
                    case Reconnect():
                        return End(1000, pause_s=message.after_ms / 1000)
                    case TokenExpiring():
                        self._renew(journal.person)
        except Ended as ended:
            return ended.end
        except _BROKEN:
            return End(1006)

    def _receive(self, socket: websocket.WebSocket) -> bytes:
        """Return the next text message; pings are answered on the way.

        Raises:
            Ended: a close frame came.
        """
        opcode, data = socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
            raise Ended(End(code, after_close(code)))
        return bytes(data)

    def _renew(self, person: Person) -> None:
        if not person.password:
            return
        with contextlib.suppress(Refused):
            log_in(self.client, person)
            self._send(AuthMessage(person.token))

    def _report_until(self, ended: AsyncResult[End], journal: Journal) -> None:
        """Report at this phone's own moments, whatever the answers do, until the connection ends; then raise that."""
        self._send(journal.report(time.monotonic(), _unix_ms()))
        while True:
            with contextlib.suppress(gevent.Timeout):
                raise Ended(ended.get(timeout=max(0.001, journal.due_s - time.monotonic())))
            self._send(journal.report_due(time.monotonic(), _unix_ms()))

    def _send(self, message: ClientMessage) -> None:
        """Send, and leave it to the reader to find out what became of a connection that does not take it."""
        if self.socket is not None:
            with contextlib.suppress(*_BROKEN):
                self.socket.send(JSON.encode(message))

    # ---------------------------------------------------------------------------------------- counting

    def _count_attempt(self, began_s: float, error: str | None) -> None:
        self._count(verdict.SOCKET, verdict.ATTEMPT, time.monotonic() - began_s, error)

    def _count(self, kind: str, name: str, took_s: float, error: str | None) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=took_s * 1000,
            response_length=0,
            exception=None if error is None else RuntimeError(error),
            context={},
        )


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
