"""The system itself as a benchmark meets it: a whole stack whose gateway has a core to itself."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.crowd import Client, Marks
from benchmarks.processes import pin, split_cores
from benchmarks.town import Town
from nearby.model import UserId
from tests.support.seeding import seed
from tests.support.stack import Stack, running_stack

NO_LIMITS = {
    "NEARBY_CONNECT_RATE": "0",
    "NEARBY_MESSAGE_RATE": "0",
    "NEARBY_MAX_SPEED_MPS": "0",
    "NEARBY_LOG_LEVEL": "warning",
}
ONE_GATEWAY = ("--api-port", "0", "--gateway-ports", "0", "--shards", "1", "--ephemeral")
MARKS = Marks(delivery=b'"updated_at_ms":', ready=b'"type":"snapshot"')
ACKS = Marks(delivery=b'"type":"ack"', ready=b'"type":"snapshot"')


@dataclass(frozen=True, slots=True)
class Scene:
    """A stack, its gateway's process and port, and its people with their tokens."""

    stack: Stack
    pid: int
    port: int
    tokens: Mapping[UserId, str]
    town: Town

    def clients(self, users: Sequence[int]) -> list[Client]:
        """Return clients of ``users``, by number, who report once when they are connected."""
        tokens = list(self.tokens.values())
        report = self.town.report
        return [Client(_request(tokens[user]), [report(user)], report(user)) for user in users]


def upgrade_request(path: str, headers: Mapping[str, str]) -> bytes:
    """Return the HTTP request that asks for a WebSocket at ``path``."""
    upgrade = {
        "Host": "127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**upgrade, **headers}.items()), "", ""]
    return "\r\n".join(lines).encode()


def _request(token: str) -> bytes:
    headers = {"Sec-WebSocket-Protocol": "nearby.v1.json", "Authorization": f"Bearer {token}"}
    return upgrade_request("/v1/ws", headers)


@asynccontextmanager
async def scene(
    users: int,
    friends: int,
    environ: Mapping[str, str] | None = None,
    *,
    two_sides: bool = False,
    arguments: tuple[str, ...] = ONE_GATEWAY,
) -> AsyncIterator[Scene]:
    """Start a stack with ``users`` people of ``friends`` friends each; the first gateway has the first core."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(Path(directory), {**NO_LIMITS, **(environ or {})}, arguments) as stack:
            tokens = seed(stack.data_dir, users, friends, two_sides=two_sides)
            core, others = split_cores()
            gateway = stack.gateways[0]
            for pid in (stack.process.pid, *stack.pids.values()):
                pin(pid, others)
            pin(gateway.pid, core)
            yield Scene(stack, gateway.pid, urlsplit(gateway.ws_url).port or 0, tokens, Town(list(tokens)))
