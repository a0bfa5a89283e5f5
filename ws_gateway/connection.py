"""One WebSocket: picows frames to whole messages, and messages to frames. Decides nothing."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from nearby.changes import Change
from nearby.close_codes import CloseCode
from nearby.codecs import JSON, Codec
from nearby.tokens import AccessToken
from ws_gateway.session import MAX_FRAME_BYTES, Report, Session
from ws_gateway.viewer import Viewer

if TYPE_CHECKING:
    from ws_gateway.gateway import Gateway

BACKLOG_BYTES = 64 * 1024
"""A client that leaves more than this unread gets no updates until it has read it (protocol §4)."""
MAX_BACKLOG_BYTES = 4 * BACKLOG_BYTES
"""Answers go out beyond the backlog, but not beyond this."""
CLOSE_TIMEOUT_S = 1.0
PROBE_BYTES = 4 * 1024
"""After this much has been sent a ping asks whether the client still reads. The buffers of both kernels would take
minutes of modest traffic for a client that has been frozen before the backlog shows."""
MAX_FRAGMENTS = 1024
"""Per message: empty fragments, for one, could go on for ever."""
SMALL_BYTES = 512
"""picows keeps a buffer as large as the largest frame that it copied, for each connection; larger frames go around."""
HEADER_ROOM = bytes(14)
_FRAMES = (WSMsgType.TEXT, WSMsgType.BINARY)
"""By whether the codec is binary."""
_NO_HEADERS: CIMultiDict[str] = CIMultiDict()
_NO_CODE = 1005
_OTHER_CODE = 3000
_COUNTED = frozenset(CloseCode)
_NOT_ON_THE_WIRE = frozenset({0, 1006})
"""Close codes that picows lets through (RFC 6455 §7.4.1 and §7.4.2 do not); those from 5000 on are nobody's."""


class Arrival:
    """What came in for a client while its friends are being loaded, to be seen to right after."""

    __slots__ = ("changes", "reports")

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.changes: list[Change] = []


class Connection(WSListener):
    """One client's socket, with the session that speaks for it and the viewer that watches for it.

    ``codec`` is what it chose on the upgrade; a frame of the other type than the codec's ends it.
    ``writable`` is false while the client does not take what it was sent; since ``blocked_at_ms`` then.
    ``unproven_bytes`` were sent since the client last showed that it reads; ``probed_at_ms`` is when it was asked to.
    ``arrival`` is there until the client's friends are loaded. ``listening``: subscribed to its user's own channels.
    ``has_reported``: a location of this connection has been looked at.
    """

    __slots__ = (
        "_closing",
        "_fragment_count",
        "_fragments",
        "_gateway",
        "_kind",
        "_transport",
        "arrival",
        "blocked_at_ms",
        "closed_with",
        "codec",
        "connection_id",
        "has_reported",
        "listening",
        "probed_at_ms",
        "session",
        "unproven_bytes",
        "upgrade_token",
        "viewer",
        "writable",
    )

    def __init__(
        self,
        gateway: Gateway,
        session: Session,
        connection_id: str,
        upgrade_token: AccessToken | None,
        codec: Codec = JSON,
    ) -> None:
        self.codec = codec
        self.connection_id = connection_id
        self.session = session
        self.upgrade_token = upgrade_token
        self.viewer: Viewer | None = None
        self.arrival: Arrival | None = Arrival()
        self.listening = False
        self.writable = False
        self.blocked_at_ms: int | None = None
        self.unproven_bytes = 0
        self.probed_at_ms: int | None = None
        self.has_reported = False
        self.closed_with: CloseCode | None = None
        self._gateway = gateway
        self._kind = _FRAMES[codec.binary]
        self._transport: WSTransport | None = None
        self._fragments: bytearray | None = None
        self._fragment_count = 0
        self._closing = False

    def is_open(self) -> bool:
        """Whether the client is there and has not been told to go."""
        return self._transport is not None and self.closed_with is None

    # ------------------------------------------------------------------------------------- from picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The socket is open."""
        self._transport = transport
        # picows keeps both for as long as the connection: 2 KB, and the token.
        transport.request.headers = transport.response.headers = _NO_HEADERS
        transport.underlying_transport.set_write_buffer_limits(high=BACKLOG_BYTES)
        self.writable = True
        self._gateway.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame has come in. After a close frame, theirs or ours, nothing counts any more."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._on_close(transport, frame)
        elif transport.is_close_frame_sent:
            return
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._gateway.fail(self, CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        elif kind == self._kind and frame.fin and self._fragments is None:
            self._gateway.received(self, frame.get_payload_as_bytes())
        elif kind == WSMsgType.PING:
            self._gateway.pinged(self, frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            self._gateway.ponged(self)
        elif kind == _FRAMES[not self.codec.binary]:
            only = "binary" if self.codec.binary else "text"
            self._gateway.fail(self, CloseCode.UNSUPPORTED_DATA, f"{only} frames only")
        else:
            self._on_fragment(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        self.writable = False
        self._transport = None
        if self.closed_with is not None:
            self._gateway.closed(self, self.closed_with, "server")
        else:
            self._gateway.closed(self, *_closed_by_peer(transport))

    def pause_writing(self) -> None:
        """The client leaves too much unread."""
        self.writable = False
        self._gateway.blocked(self)

    def resume_writing(self) -> None:
        """The client has read its backlog."""
        self.writable = True
        self.blocked_at_ms = None
        self._gateway.unblocked(self)

    def _on_fragment(self, frame: WSFrame) -> None:
        """Put a fragmented message together (RFC 6455 §5.4)."""
        starts = frame.msg_type == self._kind
        if starts is (self._fragments is not None):
            self._gateway.fail(self, CloseCode.PROTOCOL_ERROR, "fragments out of order")
            return
        if self._fragments is None:
            self._fragments = bytearray()
            self._fragment_count = 0
        self._fragments += frame.get_payload_as_bytes()
        self._fragment_count += 1
        if len(self._fragments) > MAX_FRAME_BYTES or self._fragment_count > MAX_FRAGMENTS:
            self._fragments = None
            self._gateway.fail(self, CloseCode.TOO_BIG, "message too big")
        elif frame.fin:
            data, self._fragments = bytes(self._fragments), None
            self._gateway.received(self, data)

    def _on_close(self, transport: WSTransport, frame: WSFrame) -> None:
        """The client closes, or answers our close: echo its code (RFC 6455 §5.5.1) and hang up."""
        if not transport.is_close_frame_sent:
            payload = frame.get_payload_as_bytes()
            code = int.from_bytes(payload[:2], "big") if payload else int(CloseCode.NORMAL)
            if frame.rsv1 or frame.rsv2 or frame.rsv3 or code in _NOT_ON_THE_WIRE or code >= 5000:
                code = int(CloseCode.PROTOCOL_ERROR)
            transport.send_close(WSCloseCode(code))
        transport.disconnect()

    # ----------------------------------------------------------------------------------- to the client

    def send_frame(self, frame: bytes) -> None:
        """Send one frame of the codec's type. A client that leaves too much unread is cut off instead."""
        transport = self._transport
        if transport is None:
            return
        size = len(frame)
        if not self.writable and transport.underlying_transport.get_write_buffer_size() > MAX_BACKLOG_BYTES:
            self._gateway.fail(self, CloseCode.TOO_SLOW, "too slow")
        elif size <= SMALL_BYTES:
            transport.send(self._kind, frame)
        else:
            transport.send_reuse_external_bytearray(self._kind, bytearray(HEADER_ROOM + frame), len(HEADER_ROOM))
        self.unproven_bytes += size

    def ping(self) -> None:
        """Send a WebSocket ping."""
        if self._transport is not None:
            self._transport.send_ping()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, unless the client reads nothing anyway."""
        if self._transport is not None and self.writable:
            self._transport.send_pong(payload)

    def probe(self, now_ms: int) -> None:
        """Ask the client to show that it reads, where much was sent since it last did. A pong shows it."""
        if self.probed_at_ms is None and self.unproven_bytes >= PROBE_BYTES:
            self.probed_at_ms = now_ms
            self.ping()

    def reads(self) -> bool:
        """Note that the client has read all up to a ping of ours. Return whether it was asked."""
        asked = self.probed_at_ms is not None
        self.probed_at_ms = None
        self.unproven_bytes = 0
        return asked

    def stalled(self, now_ms: int) -> None:
        """Start every deadline of the client anew: it was ours that passed. A client long gone does not answer."""
        self.blocked_at_ms = None if self.blocked_at_ms is None else now_ms
        self.probed_at_ms = now_ms
        self.ping()

    def reap(self) -> None:
        """Abort a connection that was closing at the call before: the client leaves the close frame unread."""
        transport = self._transport
        if transport is not None and transport.is_close_frame_sent:
            if self._closing:
                transport.disconnect(graceful=False)
            self._closing = True

    def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame and hang up when it is answered, or after :data:`CLOSE_TIMEOUT_S`."""
        transport = self._transport
        if transport is None or self.closed_with is not None:
            return
        self.closed_with = code
        self.writable = False
        transport.send_close(WSCloseCode(code), reason.encode())
        # Not all at the same moment, where many are closed at once.
        wait_s = CLOSE_TIMEOUT_S * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
        asyncio.get_running_loop().call_later(wait_s, self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)


def _closed_by_peer(transport: WSTransport) -> tuple[int, str]:
    """Return the close code and who sent it: the client, or picows on a broken frame."""
    shake: Any = transport.close_handshake  # the stubs of picows hide that it may be None
    if shake is None:
        return CloseCode.ABNORMAL, "nobody"
    if shake.recv is not None and (shake.recv_then_sent or shake.sent is None):
        return _counted(int(shake.recv.code)), "client"
    return int(shake.sent.code), "server"


def _counted(code: int) -> int:
    """Return the code under which a client's close is counted: clients must not make up labels of metrics."""
    if code == 0:
        return _NO_CODE
    return code if code in _COUNTED else _OTHER_CODE
