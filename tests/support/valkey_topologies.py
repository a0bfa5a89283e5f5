"""Valkey as it runs in production, from real processes: a primary with a standby under three Sentinels, and a Cluster.

Both notice a failure after a time of the caller's choice, and take about two seconds more to promote a standby. Where
nothing shall fail that is long, or a machine too busy to run a server for a while would see a failover.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tests.support.loopback import own_host, own_port
from tests.support.valkey import ValkeyServer

SERVICE = "nearby"
SOON_MS, NEVER_MS = 1_500, 60_000
READY_WITHIN_S = 30.0
_POLL_S = 0.02


class Address(NamedTuple):
    """Where a server listens for TCP connections."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class TcpServer(ValkeyServer):
    """A server with a TCP port beside its Unix socket, both for life."""

    def __init__(self, *flags: str, tls: bool = False) -> None:
        """Prepare a server, whose TCP port may speak TLS; nothing runs yet."""
        self.address = Address(own_host(), own_port())
        listen = ("--bind", self.address.host, *(("--tls-port",) if tls else ("--port",)), str(self.address.port))
        sync = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5", "--repl-ping-replica-period", "1")
        announce = ("--replica-announce-ip", self.address.host, "--replica-announce-port", str(self.address.port))
        super().__init__(*listen, *sync, *announce, *flags)

    @property
    def tcp_url(self) -> str:
        return f"redis://{self.address}"

    def info(self) -> dict[str, str]:
        """Return what ``INFO replication`` says."""
        lines = self.command("INFO", "replication").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    @property
    def is_primary(self) -> bool:
        return self.info()["role"] == "master"

    def stop_replicating(self) -> None:
        """As a standby, lose the primary and fail to come back to it; until :meth:`replicate_again`."""
        # The primary has no password, and refuses whoever shows one.
        assert self.command("CONFIG", "SET", "masterauth", "wrong") == b"+OK\r\n"
        self.command("CLIENT", "KILL", "TYPE", "master")

    def replicate_again(self) -> None:
        """Let this server follow a primary again, should there be one."""
        assert self.command("CONFIG", "SET", "masterauth", "") == b"+OK\r\n"

    @property
    def in_sync(self) -> bool:
        """Whether this standby follows its primary."""
        return self.info().get("master_link_status") == "up"


class Sentinel(ValkeyServer):
    """One Sentinel. It keeps what it learns in its configuration file."""

    def __init__(self, number: int, *, tls: bool = False) -> None:
        self._port_line = "port 0\ntls-port" if tls else "port"
        self.address = Address(own_host(), own_port())
        self.sentinel_id = f"{number:040x}"
        super().__init__()

    def watch(
        self,
        primary: Address,
        standby: Address,
        peers: Sequence[Sentinel],
        noticed_after_ms: int,
        more: Sequence[str],
    ) -> None:
        """Write the configuration, with everything in it that Sentinels would take seconds to find out."""
        lines = [
            f"{self._port_line} {self.address.port}",
            f"bind {self.address.host}",
            f"unixsocket {self._socket_path}",
            f"dir {self._directory}",
            "logfile log",
            "daemonize no",
            f"sentinel announce-ip {self.address.host}",
            f"sentinel announce-port {self.address.port}",
            f"sentinel myid {self.sentinel_id}",
            f"sentinel monitor {SERVICE} {primary.host} {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {noticed_after_ms}",
            # An election that fails is held again after twice this.
            f"sentinel failover-timeout {SERVICE} 2000",
            f"sentinel known-replica {SERVICE} {standby.host} {standby.port}",
            *(
                f"sentinel known-sentinel {SERVICE} {peer.address.host} {peer.address.port} {peer.sentinel_id}"
                for peer in peers
                if peer is not self
            ),
            *more,
        ]
        (self._directory / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def _arguments(self) -> list[str]:
        return [str(self._directory / "sentinel.conf"), "--sentinel"]

    def primary(self) -> Address | None:
        """Return which server this Sentinel takes for the primary."""
        answer = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE).split(b"\r\n")
        return Address(answer[2].decode(), int(answer[4])) if len(answer) > 4 else None


class SentinelValkey:
    """A primary, a standby and three Sentinels, of which two must live."""

    def __init__(
        self,
        *flags: str,
        noticed_after_ms: int = SOON_MS,
        sentinel_lines: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        """Prepare servers with extra command-line ``flags`` and Sentinels with extra configuration lines."""
        self._noticed_after_ms = noticed_after_ms
        self.servers = [TcpServer(*flags, tls=tls) for _ in range(2)]
        self.sentinels = [Sentinel(secrets.randbits(150), tls=tls) for _ in range(3)]
        self._sentinel_lines = sentinel_lines

    @property
    def sentinel_addresses(self) -> str:
        """``HOST:PORT,HOST:PORT,HOST:PORT``."""
        return ",".join(str(sentinel.address) for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.sentinel_addresses}/{SERVICE}"

    def start(self) -> None:
        """Start everything, and return once the standby is in sync and the Sentinels agree."""
        primary, standby = self.servers
        primary.start()
        standby.start()
        standby.command("REPLICAOF", primary.address.host, str(primary.address.port))
        for sentinel in self.sentinels:
            sentinel.watch(
                primary.address, standby.address, self.sentinels, self._noticed_after_ms, self._sentinel_lines
            )
            sentinel.start()
        _wait(lambda: standby.in_sync, "the standby follows its primary")
        for sentinel in self.sentinels:
            _wait(
                lambda sentinel=sentinel: b"OK 3 usable" in sentinel.command("SENTINEL", "CKQUORUM", SERVICE),  # type: ignore[misc]
                "the Sentinels are in touch",
            )

    def primary(self) -> TcpServer:
        """Return the server that most Sentinels take for the primary."""
        votes = [sentinel.primary() for sentinel in self.sentinels if sentinel.running() and not sentinel.frozen]
        address = max(set(votes), key=votes.count)
        return next(server for server in self.servers if server.address == address)

    def standby(self) -> TcpServer:
        """Return the other one."""
        primary = self.primary()
        return next(server for server in self.servers if server is not primary)

    def flush(self) -> None:
        """Delete all data."""
        self.primary().flush()

    def close(self) -> None:
        """Kill everything and delete the folders. Idempotent."""
        _close([*self.sentinels, *self.servers])


class ClusterValkey:
    """Three primaries with a standby each."""

    def __init__(self, *flags: str, noticed_after_ms: int = SOON_MS, tls: bool = False) -> None:
        """Prepare servers with extra command-line ``flags``."""
        timeout = ("--cluster-node-timeout", str(noticed_after_ms))
        self.servers = [ClusterServer(*timeout, *flags, tls=tls) for _ in range(6)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(str(server.address) for server in self.servers)}"

    def start(self) -> None:
        """Start everything, and return once every node knows all slots served and every standby is in sync."""
        for server in self.servers:
            server.start()
        primaries, standbys = self.servers[:3], self.servers[3:]
        edges = [16_384 * index // 3 for index in range(4)]
        for number, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            for peer in self.servers:
                if peer is not server:
                    server.meet(peer)
        for number, primary in enumerate(primaries):
            primary.command("CLUSTER", "ADDSLOTSRANGE", str(edges[number]), str(edges[number + 1] - 1))
        for server in self.servers:
            _wait(lambda server=server: server.has_met(6), "the nodes have met")  # type: ignore[misc]
        for primary, standby in zip(primaries, standbys, strict=True):
            _wait(lambda p=primary, s=standby: s.replicate(p), "a standby follows its primary")  # type: ignore[misc]
        for server in self.servers:
            _wait(lambda server=server: server.cluster_info()["cluster_state"] == "ok", "all slots are served")  # type: ignore[misc]
        for standby in standbys:
            _wait(lambda standby=standby: standby.in_sync, "a standby is in sync")  # type: ignore[misc]

    def primaries(self) -> list[ClusterServer]:
        """Return the primaries that run and are not frozen."""
        return [each for each in self.servers if each.running() and not each.frozen and each.is_primary]

    def owner(self, key: str) -> ClusterServer:
        """Return the primary that serves ``key``, as another node sees it."""
        slot = int(self.primaries()[0].command("CLUSTER", "KEYSLOT", key)[1:])
        for server in self.primaries():
            if server.serves(slot):
                return server
        raise AssertionError(f"nobody serves slot {slot}")

    def flush(self) -> None:
        """Delete all data."""
        for server in self.primaries():
            server.flush()

    def close(self) -> None:
        """Kill everything and delete the folders. Idempotent."""
        _close(self.servers)


class ClusterServer(TcpServer):
    """One node of a Cluster."""

    def __init__(self, *flags: str, tls: bool = False) -> None:
        """Prepare a node with extra command-line ``flags``; nothing runs yet."""
        self._bus_port = own_port()
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-announce-ip", own_host()),
            *("--cluster-require-full-coverage", "no", "--cluster-port", str(self._bus_port)),
            *flags,
            tls=tls,
        )

    def meet(self, peer: ClusterServer) -> None:
        """Make ``peer`` known to this node."""
        words = "CLUSTER", "MEET", peer.address.host, str(peer.address.port), str(peer._bus_port)
        assert self.command(*words) == b"+OK\r\n"

    def has_met(self, count: int) -> bool:
        """Whether this node knows ``count`` nodes and has spoken with each."""
        lines = self.command("CLUSTER", "NODES").decode().split("\r\n")[1].splitlines()
        return len(lines) == count and not any("handshake" in line for line in lines)

    def cluster_info(self) -> dict[str, str]:
        """Return what ``CLUSTER INFO`` says."""
        lines = self.command("CLUSTER", "INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    @property
    def node_id(self) -> str:
        return self.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()

    def replicate(self, primary: ClusterServer) -> bool:
        """Become a standby of ``primary``; return whether that was possible yet."""
        return self.command("CLUSTER", "REPLICATE", primary.node_id).startswith(b"+OK")

    def serves(self, slot: int) -> bool:
        """Whether this node is the primary of ``slot``, as it sees it itself."""
        lines = self.command("CLUSTER", "NODES").decode().splitlines()
        (own,) = [line.split() for line in lines if "myself" in line]
        for word in own[8:]:
            if word.startswith("["):
                continue  # a slot on its way
            first, _, last = word.partition("-")
            if int(first) <= slot <= int(last or first):
                return True
        return False


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {READY_WITHIN_S:g} s: {what}"
        time.sleep(_POLL_S)


def _close(servers: Sequence[ValkeyServer]) -> None:
    with ExitStack() as closing:
        for server in servers:
            closing.callback(server.close)
