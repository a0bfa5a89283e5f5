"""The gateway's own connection class and port behind a session that echoes: ``python -m tests.support.echo_gateway``.

Conformance suites want an echo. Everything below the session is the real stack, with the gateway's own options.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any, cast

import uvloop

from http_port.serve import listen
from nearby.close_codes import CloseCode
from nearby.tokens import AccessToken
from ws_gateway.connection import Connection
from ws_gateway.gateway import Gateway
from ws_gateway.server import Door, accept_clients


class EchoGateway:
    """What :class:`Connection` calls, and nothing else."""

    def connection(self, token: AccessToken | None = None) -> Connection:
        return Connection(cast(Gateway, self), cast(Any, None), "c-echo", token)

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection, code: int, initiator: str) -> None: ...

    def blocked(self, connection: Connection) -> None: ...

    def unblocked(self, connection: Connection) -> None: ...

    def received(self, connection: Connection, data: bytes) -> None:
        try:
            data.decode()
        except UnicodeDecodeError:
            self.fail(connection, CloseCode.INVALID_TEXT, "not UTF-8")
        else:
            connection.send_frame(data)

    def pinged(self, connection: Connection, payload: bytes) -> None:
        connection.pong(payload)

    def ponged(self, connection: Connection) -> None:
        connection.reads()

    def fail(self, connection: Connection, code: CloseCode, reason: str) -> None:
        connection.close(code, reason)


async def main() -> None:
    """Echo on a free port, which is printed, until killed."""
    gateway = EchoGateway()
    sock = Door(listen("127.0.0.1", 0), Counter())
    server = await accept_clients(sock, lambda _: gateway.connection())
    sys.stdout.write(f"{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
