"""Choose the TCP ports of a stack once, before anything starts, so that a restarted process keeps its own."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cli.up.errors import StartError
from cli.up.plan import Ports

API_OPTION = "--api-port"
GATEWAYS_OPTION = "--gateway-ports"


@contextmanager
def reserve_ports(host: str, api_port: int, gateway_ports: Sequence[int]) -> Iterator[Ports]:
    """Yield the ports of a stack, each 0 replaced by a free port, and keep others from getting them.

    Raises:
        StartError: a port is taken, or named twice.
    """
    named = [port for port in (api_port, *gateway_ports) if port]
    for port in named:
        if named.count(port) > 1:
            raise StartError(f"port {port} is named twice in {API_OPTION} and {GATEWAYS_OPTION}", 2)
    with contextlib.ExitStack() as sockets:

        def reserve(port: int, option: str) -> int:
            return sockets.enter_context(_reserved(host, port, option))

        yield Ports(
            host,
            api=reserve(api_port, API_OPTION),
            api_admin=reserve(0, API_OPTION),
            api_internal=reserve(0, API_OPTION),
            gateways=tuple(reserve(port, GATEWAYS_OPTION) for port in gateway_ports),
            gateway_admins=tuple(reserve(0, GATEWAYS_OPTION) for _ in gateway_ports),
            history_writer_admin=reserve(0, API_OPTION),
            ring_keeper_admin=reserve(0, API_OPTION),
        )


@contextmanager
def _reserved(host: str, port: int, option: str) -> Iterator[int]:
    """Bind a port without listening.

    On Linux our processes can bind and listen beside that (both with SO_REUSEADDR, socket(7)), while nobody who asks
    for any free port is given it. Elsewhere they could not, so the port is let go at once.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise _refusal(error, host, port, option) from error
        chosen: int = sock.getsockname()[1]
        if sys.platform != "linux":
            sock.close()
        yield chosen


def _refusal(error: OSError, host: str, port: int, option: str) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"port {port} of {option} is taken; choose another one, or 0 for any free port", 2)
    if error.errno == errno.EACCES:
        return StartError(f"port {port} of {option} is not allowed to this user; choose one above 1023", 2)
    return StartError(f"cannot listen on {host} (NEARBY_HOST), port {port} of {option}: {error.strerror}", 2)
