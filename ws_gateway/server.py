"""The public port: who may open a socket (protocol §1, §4). What costs least is checked first."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import socket
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import picows
from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from nearby.codecs import CODECS, Codec
from nearby.errors import TokenError
from nearby.tokens import AccessToken
from ws_gateway import descriptors
from ws_gateway.admission import Refusal, client_address
from ws_gateway.gateway import Gateway
from ws_gateway.session import MAX_FRAME_BYTES

log = logging.getLogger(__name__)

PATH = "/v1/ws"
TOKEN_PARAMETERS = frozenset({"token", "access_token", "authorization"})
RETRY_AFTER_S = (1, 10)
"""Who is turned away comes back after a random time in this range, so that a storm does not come back as one."""
HANDSHAKE_TIMEOUT_S = 5
READ_BUFFER_BYTES = 1024
"""A report is some 150 bytes; a larger frame grows the buffer. 16 KiB, the default, would cost 15 KB per connection."""
BACKLOG_LENGTH = 4096
SEND_BUFFER_BYTES = 64 * 1024
"""What the kernel holds for one client (it doubles this for its own use), instead of megabytes for one that stalls."""
RECEIVE_BUFFER_BYTES = 32 * 1024
"""What a client can make us work through in one turn of the event loop: picows takes all there is."""
MAX_ACCEPTS_PER_TURN = 64
"""Sockets accepted in one turn of the event loop; each costs some 0.1 ms."""
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

peer_address: ContextVar[str | None] = ContextVar("peer_address", default=None)
"""Who is at the other end of the socket. Set when it is accepted; whatever its bytes bring about runs in that context.
Not known with ``NEARBY_COMPACT_MEMORY``, where libuv accepts."""


class Door(socket.socket):
    """A listening socket that lets clients in at a steady pace and keeps descriptors free.

    The system gives the lowest free descriptor, so one above ``ceiling`` tells that nearly all are taken; its client
    is turned away. What one client does there no other notices. ``refused`` counts under (0, "descriptors").
    """

    def __init__(self, listening: socket.socket, refused: Counter[tuple[int, str]], ceiling: int | None = None) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self._ceiling = descriptors.limit() - descriptors.RESERVED if ceiling is None else ceiling
        # Inherited by what it accepts.
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._refused = refused
        self._accepted_count = 0
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next client's socket and address.

        Raises:
            BlockingIOError: nobody waits, or enough for this turn of the event loop.
            ConnectionAbortedError: this client was turned away; there may be others.
        """
        if self._accepted_count >= MAX_ACCEPTS_PER_TURN:
            self._accepted_count = 0
            raise BlockingIOError
        try:
            accepted, address = super().accept()
        except BlockingIOError:
            self._accepted_count = 0
            raise
        except OSError as error:
            self._accepted_count = 0
            if error.errno in _OUT_OF_DESCRIPTORS:
                self._turn_away()
                raise BlockingIOError from error
            raise
        self._accepted_count += 1
        if accepted.fileno() >= self._ceiling:
            accepted.close()
            self._refused[0, "descriptors"] += 1
            raise ConnectionAbortedError
        peer_address.set(address[0])
        return accepted, address

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        super().close()

    def _turn_away(self) -> None:
        """Close the first in the queue, who would otherwise wake the event loop for ever, by means of a spare."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        try:
            super().accept()[0].close()
            self._refused[0, "descriptors"] += 1
            self._spare = os.open(os.devnull, os.O_RDONLY)
        except OSError as error:
            log.warning("out of descriptors: %s", error)


async def accept_clients(
    door: Door,
    answer: Callable[[WSUpgradeRequest], WSListener | WSUpgradeResponseWithListener | None],
    *,
    compact: bool = False,
) -> asyncio.Server:
    """Let clients in by ``door`` until the server is closed; ``answer`` says what becomes of an upgrade request.

    ``compact`` is ``NEARBY_COMPACT_MEMORY``. A client that does not finish its request in 5 s is cut off.
    """
    # picows logs each connection, and makes a logger for each unless it is given an adapter.
    logger = logging.getLogger("picows")
    logger.setLevel(logging.CRITICAL)
    return await picows.ws_create_server(
        answer,
        sock=door,
        backlog=BACKLOG_LENGTH,
        websocket_handshake_timeout=HANDSHAKE_TIMEOUT_S,
        max_frame_size=MAX_FRAME_BYTES,
        enable_auto_pong=False,
        read_buffer_init_size=READ_BUFFER_BYTES,
        use_aiofastnet=not compact,
        logger_name=logging.LoggerAdapter(logger, {}),
    )


class _Refused(Exception):
    """An upgrade that is answered with an HTTP error and no socket; ``reason`` for metrics, ``detail`` for clients."""

    def __init__(self, status: HTTPStatus, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = headers or {}


def upgrade(gateway: Gateway, request: WSUpgradeRequest, now_ms: int) -> WSUpgradeResponseWithListener:
    """Return the connection for ``request``, or the HTTP error that refuses it."""
    try:
        codec = _check_request(request)
        _check_capacity(gateway)
        _check_origin(request, gateway)
        _check_rate(request, gateway)
        token = _token(request, gateway, now_ms)
    except _Refused as refused:
        gateway.refused_counts[refused.status.value, refused.reason] += 1
        body = f"{refused.detail}\n".encode()
        response = WSUpgradeResponse.create_error_response(refused.status, body, refused.headers)
        return WSUpgradeResponseWithListener(response, None)
    response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": codec.name})
    return WSUpgradeResponseWithListener(response, gateway.new_connection(token, codec))


def _check_request(request: WSUpgradeRequest) -> Codec:
    """Return the codec of the first subprotocol offered that is one of ours."""
    parts = urlsplit(request.path.decode("latin-1"))
    if any(name.lower() in TOKEN_PARAMETERS for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        detail = "a token never goes into a URL; use the Authorization header"
        raise _Refused(HTTPStatus.BAD_REQUEST, "token_in_url", detail)
    if parts.path != PATH:
        raise _Refused(HTTPStatus.NOT_FOUND, "path", f"the WebSocket is at {PATH}")
    if request.headers.getall("Sec-WebSocket-Version", []) != ["13"]:
        versions = {"Sec-WebSocket-Version": "13"}
        raise _Refused(HTTPStatus.UPGRADE_REQUIRED, "version", "WebSocket version 13 only", versions)
    known = [CODECS[name] for name in _words(request, "Sec-WebSocket-Protocol") if name in CODECS]
    if not known:
        raise _Refused(HTTPStatus.BAD_REQUEST, "subprotocol", f"offer the subprotocol {' or '.join(CODECS)}")
    if "upgrade" in (word.lower() for word in _words(request, "Connection")):
        # Firefox sends "keep-alive, Upgrade" (RFC 9110 §7.6.1: a list); picows takes "Upgrade" alone.
        request.headers["Connection"] = "Upgrade"
    return known[0]


def _words(request: WSUpgradeRequest, header: str) -> list[str]:
    return [word.strip() for value in request.headers.getall(header, []) for word in value.split(",")]


def _check_capacity(gateway: Gateway) -> None:
    reason = gateway.not_ready()
    if reason is not None:
        raise _later(reason, "no more connections here")


def _check_origin(request: WSUpgradeRequest, gateway: Gateway) -> None:
    origins = request.headers.getall("Origin", [])
    if any(origin not in gateway.settings.allowed_origins for origin in origins):
        raise _Refused(HTTPStatus.FORBIDDEN, "origin", "origin not allowed")


def _check_rate(request: WSUpgradeRequest, gateway: Gateway) -> None:
    peer = peer_address.get()
    address = None
    if peer is not None:
        trusted = gateway.settings.admission.trusted_proxies
        address = client_address(peer, request.headers.getall("X-Forwarded-For", []), trusted)
    refusal = gateway.refuse(address)
    if refusal is Refusal.ADDRESS_RATE:
        # Not 503, upon which a load balancer takes the gateway for unfit and tries the others.
        raise _later(refusal.value, "too many new connections from there", HTTPStatus.TOO_MANY_REQUESTS)
    if refusal is not None:
        raise _later(refusal.value, "too many new connections")


def _later(reason: str, detail: str, status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE) -> _Refused:
    retry_after_s = random.randint(*RETRY_AFTER_S)  # noqa: S311 - spreads load, guards nothing
    return _Refused(status, reason, detail, {"Retry-After": str(retry_after_s)})


def _token(request: WSUpgradeRequest, gateway: Gateway, now_ms: int) -> AccessToken | None:
    """Return the token of the ``Authorization`` header; ``None`` where there is no such header."""
    headers = request.headers.getall("Authorization", [])
    if not headers:
        return None
    scheme, _, token = headers[0].partition(" ")
    try:
        if scheme.lower() != "bearer" or len(headers) != 1:
            raise TokenError("not one bearer token")
        return gateway.settings.token_keys.verify(token.strip(), now_ms)
    except TokenError as error:
        log.debug("upgrade refused: %s", error.reason)
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise _Refused(HTTPStatus.UNAUTHORIZED, "token", "token refused", challenge) from error
