"""The reference servers that this repository brings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.references import build
from benchmarks.targets import ENTRY_MARKER, FRIENDS, HttpRequest


@dataclass(frozen=True, slots=True)
class LocalReference:
    """A server that is started for a run and fed over Redis.

    ``command`` builds what is not built yet and returns the start of the command line.
    """

    name: str
    command: Callable[[], Sequence[str]]
    friends: int = FRIENDS
    request: str = "/?user="
    greetings: tuple[bytes, ...] = ()
    ping: tuple[bytes, bytes] | None = None
    subscribed: bytes = b"subscribed"
    marker: bytes = ENTRY_MARKER
    headers: Mapping[str, str] = field(default_factory=dict)
    address: tuple[str, int] | None = None

    def prepare(self) -> None:
        self.command()

    def argv(self, port: int, redis_port: int, users: int) -> list[str]:
        where = ["--port", str(port), "--redis", f"127.0.0.1:{redis_port}"]
        return [*self.command(), *where, "--users", str(users), "--friends", str(self.friends)]

    def path(self, user: int) -> str:
        return f"{self.request}{user}"

    def hello(self, user: int, users: int) -> list[bytes]:
        return list(self.greetings)

    def post(self, entries: Sequence[tuple[int, bytes]]) -> HttpRequest | None:
        return None


def _sender() -> Sequence[str]:
    return [str(build.c_program(build.SOURCES / "sender.c"))]


def _socketio() -> Sequence[str]:
    return ["node", str(build.node_program())]


def _python(module: str, *options: str) -> Callable[[], Sequence[str]]:
    return lambda: [sys.executable, "-m", f"benchmarks.references.{module}", *options]


def local_references(friends: int = FRIENDS) -> tuple[LocalReference, ...]:
    """Return them all, the floor first; each user watches ``friends`` others."""
    return (
        LocalReference("C sender", _sender, friends),
        LocalReference("websockets", _python("websockets_broadcast"), friends),
        LocalReference("FastAPI", _python("fastapi_pubsub"), friends),
        LocalReference("FastAPI, a pub/sub connection per socket", _python("fastapi_pubsub", "--per-socket"), friends),
        LocalReference(
            "Socket.IO",
            _socketio,
            friends,
            # Engine.IO 4: "0{…}" comes first, "40" connects to the namespace "/", "40{…}" confirms, an event is
            # 42["name",…]; "2" is a ping and "3" its answer.
            request="/socket.io/?EIO=4&transport=websocket&user=",
            greetings=(b"40",),
            ping=(b"2", b"3"),
        ),
    )
