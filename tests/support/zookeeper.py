"""Real ZooKeeper servers, one alone or three together, that tests may kill and freeze."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kazoo.client import KazooClient

from tests.support.jvm.java import classpath, java17
from tests.support.valkey import _DIE_WITH_PARENT

START_TIMEOUT_S = 30.0
TICK_MS = 500
"""Sessions are possible from 2 ticks (1 s) to 20 ticks (10 s)."""
_POLL_S = 0.02
_HOST = "127.0.0.1"

JVM = (
    *("-Xmx96m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+PerfDisableSharedMem"),
    *("-XX:+ExitOnOutOfMemoryError", "-Djava.net.preferIPv4Stack=true", "-Dzookeeper.forceSync=no"),
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where one server listens: for clients, its peers and elections."""

    client: int
    peer: int
    election: int


class ZooKeeperServer:
    """One server on one port for life: a restart comes back with its data under the same address.

    Start it on the main thread; on Linux it dies with the thread that started it.
    """

    def __init__(self, ports: Ports | None = None, number: int = 0, peers: Sequence[Ports] = ()) -> None:
        """Prepare server ``number`` (from 1) of the ensemble ``peers``, or one alone; nothing runs yet."""
        self._ports = ports if ports is not None else free_ports(1)[0]
        self._directory = Path(tempfile.mkdtemp(prefix="nearby-zookeeper-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        lines = [
            *(f"tickTime={TICK_MS}", "initLimit=20", "syncLimit=10", "maxClientCnxns=0", "admin.enableServer=false"),
            *("4lw.commands.whitelist=*", f"dataDir={self._directory}", f"clientPort={self._ports.client}"),
            f"clientPortAddress={_HOST}",
        ]
        if peers:
            (self._directory / "myid").write_text(str(number))
            lines += [f"server.{each}={_HOST}:{peer.peer}:{peer.election}" for each, peer in enumerate(peers, 1)]
        (self._directory / "zoo.cfg").write_text("\n".join(lines) + "\n")

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{_HOST}:{self._ports.client}"

    def fresh_url(self) -> str:
        """Return a ``NEARBY_DISCOVERY`` that nobody has used yet."""
        return fresh_url(self.address)

    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start, and return once the server serves; an ensemble does so only when two servers have started."""
        assert not self.running(), "the server is running"
        with socket.socket() as probe:
            assert probe.connect_ex((_HOST, self._ports.client)), f"{self.address} is already in use"
        command = [str(java17()), *JVM, "-cp", classpath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *command, str(self._directory / "zoo.cfg")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self) -> None:
        """Return once clients are served."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.mode() is None:
            if not self.running() or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"ZooKeeper did not start:\n{(self._directory / 'log').read_text()[-4000:]}")
            time.sleep(_POLL_S)

    def mode(self) -> str | None:
        """Return ``standalone``, ``leader`` or ``follower``; ``None`` while it does not serve."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return None

    def ask(self, word: str) -> str:
        """Return the answer to a four-letter word, empty if there is none."""
        try:
            with socket.create_connection((_HOST, self._ports.client), timeout=1) as connection:
                connection.sendall(word.encode())
                with connection.makefile("rb") as answer:
                    return answer.read().decode()
        except OSError:
            return ""

    def stop(self) -> None:
        """End the server in an orderly way (SIGTERM) and wait for it. Idempotent."""
        self.thaw()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once (SIGKILL) and wait for it. Idempotent."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the server with SIGSTOP: its connections stay open and nothing answers."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen server go on. Idempotent."""
        if self._frozen and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def restart(self) -> None:
        """Kill the server and start it again with its data."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Kill the server and delete its folder. Idempotent."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(START_TIMEOUT_S)
        self._process, self._frozen = None, False


class ZooKeeperEnsemble:
    """Three servers, of which two must live."""

    def __init__(self) -> None:
        ports = free_ports(3)
        self.servers = [ZooKeeperServer(own, number, ports) for number, own in enumerate(ports, 1)]

    @property
    def address(self) -> str:
        """``HOST:PORT,HOST:PORT,HOST:PORT``."""
        return ",".join(server.address for server in self.servers)

    def fresh_url(self) -> str:
        """Return a ``NEARBY_DISCOVERY`` that nobody has used yet."""
        return fresh_url(self.address)

    def start(self) -> None:
        """Start every server that does not run, and return once all serve."""
        for server in self.servers:
            if not server.running():
                server.start(wait=False)
        for server in self.servers:
            server.wait_until_serving()

    def leader(self) -> ZooKeeperServer:
        """Return the server that leads; one must."""
        return next(server for server in self.servers if server.running() and server.mode() == "leader")

    def close(self) -> None:
        """Kill the servers and delete their folders. Idempotent."""
        with ExitStack() as closing:
            for server in self.servers:
                closing.callback(server.close)


def fresh_url(address: str) -> str:
    """Return a ``NEARBY_DISCOVERY`` at ``address`` that nobody has used yet."""
    return f"zk://{address}{fresh_root()}"


def fresh_root() -> str:
    """Return the path of a node that nobody has used yet."""
    return f"/test-{uuid.uuid4().hex}"


def free_ports(count: int) -> list[Ports]:
    """Return ports that nobody listens on at this moment, for ``count`` servers."""
    with ExitStack() as sockets:
        numbers = []
        for _ in range(3 * count):
            listener = sockets.enter_context(socket.socket())
            listener.bind((_HOST, 0))
            numbers.append(listener.getsockname()[1])
    return [Ports(*numbers[index : index + 3]) for index in range(0, len(numbers), 3)]


async def expire_session(address: str, client_id: tuple[int, bytes]) -> None:
    """End the session ``client_id`` (id and password) as a server does that has not heard of its owner for too long."""

    def end() -> None:
        client = KazooClient(address, client_id=client_id)
        client.start(timeout=START_TIMEOUT_S)
        client.stop()
        client.close()

    await asyncio.to_thread(end)
