"""One WebSocket to one gateway. The only file that knows the ``websockets`` library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State
from websockets.typing import Subprotocol

from nearby.codecs import Codec
from nearby.messages import ClientMessage

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
KEEPALIVE_S = 20.0
"""Interval of our pings and the time a gateway has to answer one."""
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""A snapshot of some 100,000 friends."""
MAX_BACKLOG_BYTES = 64 * 1024
"""What may wait in the socket's buffer before :meth:`GatewayConnection.send` refuses more."""

ABNORMAL = 1006
"""What RFC 6455 §7.1.5 calls a connection that ended without a close frame."""


class UpgradeRefused(Exception):
    """The gateway answered the upgrade with an HTTP status; ``retry_after_s`` is what it asked for, if it did."""

    def __init__(self, status: int, retry_after_s: float) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"upgrade refused with HTTP {status}")


class Unreachable(Exception):
    """No WebSocket came about: nobody listens, time-out, or not our protocol."""


class Closed(Exception):
    """The connection ended. ``code`` is :data:`ABNORMAL` where there was no close frame."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed with {code} {reason}")


class GatewayConnection:
    """An open WebSocket, on which both sides write in ``codec``."""

    def __init__(self, socket: ClientConnection, codec: Codec) -> None:
        self.codec = codec
        self._socket = socket

    def send(self, message: ClientMessage) -> bool:
        """Write one message without waiting; return false if it was not taken.

        It is not taken while the connection is closing, or when the gateway leaves more than
        :data:`MAX_BACKLOG_BYTES` unread.
        """
        socket = self._socket
        if socket.protocol.state is not State.OPEN or socket.transport.is_closing():
            return False
        if socket.transport.get_write_buffer_size() > MAX_BACKLOG_BYTES:
            return False
        # The library's send() is a coroutine only for the sake of back-pressure, which is decided above.
        data = self.codec.encode(message)
        if self.codec.binary:
            socket.protocol.send_binary(data)
        else:
            socket.protocol.send_text(data)
        socket.send_data()
        return True

    async def run(self, on_message: Callable[[bytes], None]) -> None:
        """Hand over each message in order until the connection ends; keepalive ends a silent one.

        Raises:
            Closed: always, in the end, unless ``on_message`` raised: then that.
        """
        try:
            while True:
                on_message(await self._socket.recv(decode=False))
        except ConnectionClosed as error:
            code, reason = (ABNORMAL, "") if error.rcvd is None else (error.rcvd.code, error.rcvd.reason)
            raise Closed(code, reason) from error


@asynccontextmanager
async def open_connection(url: str, token: str, codecs: Sequence[Codec]) -> AsyncIterator[GatewayConnection]:
    """Connect to the gateway at ``url`` as the bearer of ``token``; close with code 1000 at the end of the context.

    The connection has the first of ``codecs`` that the gateway knows.

    Raises:
        UpgradeRefused: the gateway answered, but not with a WebSocket.
        Unreachable: it did not answer within :data:`OPEN_TIMEOUT_S`, or not in our protocol.
    """
    opening = connect(
        url,
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[Subprotocol(codec.name) for codec in codecs],
        compression=None,
        proxy=None,
        open_timeout=OPEN_TIMEOUT_S,
        ping_interval=KEEPALIVE_S,
        ping_timeout=KEEPALIVE_S,
        close_timeout=CLOSE_TIMEOUT_S,
        max_size=MAX_FRAME_BYTES,
    )
    try:
        socket = await opening
    except InvalidStatus as error:
        response = error.response
        raise UpgradeRefused(response.status_code, _seconds(response.headers.get("Retry-After"))) from error
    except (OSError, TimeoutError, WebSocketException, ValueError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error
    try:
        codec = next((codec for codec in codecs if codec.name == socket.subprotocol), None)
        if codec is None:
            raise Unreachable("the gateway chose no subprotocol")
        yield GatewayConnection(socket, codec)
    finally:
        await socket.close()


def _seconds(retry_after: str | None) -> float:
    """Read ``Retry-After`` in seconds (RFC 9110 §10.2.3); its date form is taken as absent."""
    try:
        return min(60.0, max(0.0, float(retry_after or 0)))
    except ValueError:
        return 0.0
