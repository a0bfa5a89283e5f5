"""Real Cassandra nodes, one alone or three together, that tests may kill and freeze."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy

from tests.support.jvm.java import classpath, java17
from tests.support.valkey import _DIE_WITH_PARENT

START_TIMEOUT_S = 120.0
_POLL_S = 0.05
_HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
SETTINGS = {"NEARBY_CASSANDRA_REPLICATION": "datacenter1=1", "NEARBY_CASSANDRA_CONSISTENCY": "LOCAL_QUORUM"}
"""For one node alone."""

JVM = (
    *("-Xms512m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:+PerfDisableSharedMem"),
    *("-XX:+ExitOnOutOfMemoryError", "-Djava.net.preferIPv4Stack=true", "-Dcassandra-foreground=yes"),
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
)

QUICK_TO_START = (*JVM, "-XX:TieredStopAtLevel=1")

# Everything that a node needs to be told; its folders follow from cassandra.storagedir. What it has answered is on its
# disk (`batch`): with the default, a node that is killed loses its last 10 to 80 ms, and tests count rows.
_YAML = """
cluster_name: test
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
num_tokens: 1
initial_token: {token}
auto_bootstrap: false
commitlog_sync: batch
auto_snapshot: false
listen_address: {host}
rpc_address: {host}
storage_port: {storage_port}
native_transport_port: {native_port}
batch_size_warn_threshold: 64KiB
batch_size_fail_threshold: 640KiB
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "{seeds}"
"""
_LOGBACK = """
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
"""
_OPTIONS_FRAME = struct.pack(">BBhBi", 4, 0, 0, 5, 0)
_SUPPORTED = 6


@dataclass(frozen=True, slots=True)
class Place:
    """Where one node of a cluster listens, and the token where its range ends."""

    host: str
    native_port: int
    storage_port: int
    token: int
    seeds: str


class CassandraNode:
    """One node on one address for life: a restart comes back with its data under the same address.

    Start it on the main thread; on Linux it dies with the thread that started it.
    """

    def __init__(
        self, place: Place | None = None, jvm: Sequence[str] = QUICK_TO_START, yaml: Mapping[str, str] | None = None
    ):
        """Prepare a node at ``place``, or one alone; ``yaml`` is set besides, or otherwise. Nothing runs yet."""
        self._place = place if place is not None else free_places(1)[0]
        self._jvm = jvm
        self._directory = Path(tempfile.mkdtemp(prefix="nearby-cassandra-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        at = self._place
        settings = _YAML.format(
            token=at.token, host=at.host, storage_port=at.storage_port, native_port=at.native_port, seeds=at.seeds
        )
        own = yaml or {}
        kept = [line for line in settings.splitlines() if line.partition(":")[0] not in own]
        lines = [*kept, *(f"{name}: {value}" for name, value in own.items())]
        (self._directory / "cassandra.yaml").write_text("\n".join(lines))
        (self._directory / "logback.xml").write_text(_LOGBACK)

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{self._place.host}:{self._place.native_port}"

    @property
    def host(self) -> str:
        return self._place.host

    @property
    def port(self) -> int:
        return self._place.native_port

    @property
    def pid(self) -> int:
        """The process id; the node must be running."""
        assert self._process is not None, "the node is not running"
        return self._process.pid

    def fresh_url(self) -> str:
        """Return a ``NEARBY_HISTORY_URL`` whose keyspace nobody has used yet; it is still to be migrated."""
        return f"cassandra://{self.address}/{fresh_keyspace()}"

    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start, and return once the node answers."""
        assert not self.running(), "the node is running"
        with socket.socket() as probe:
            assert probe.connect_ex((self.host, self.port)), f"{self.address} is already in use"
        at = self._directory
        command = [
            *(str(java17()), *self._jvm, f"-Dcassandra.config=file://{at}/cassandra.yaml"),
            *(f"-Dcassandra.storagedir={at}", f"-Djava.io.tmpdir={at}"),
            *(f"-Dlogback.configurationFile={at}/logback.xml", "-cp", classpath()),
            "org.apache.cassandra.service.CassandraDaemon",
        ]
        with (at / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self) -> None:
        """Return once clients are served."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if not self.running() or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"Cassandra did not start:\n{(self._directory / 'log').read_text()[-4000:]}")
            time.sleep(_POLL_S)

    def answers(self) -> bool:
        """Whether a client that says OPTIONS is told what is SUPPORTED."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(_OPTIONS_FRAME)
                header = connection.recv(9)
                return len(header) == 9 and header[4] == _SUPPORTED
        except OSError:
            return False

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Run ``statement`` and return the rows. Blocks; for what a test must look at behind our back."""
        with ExitStack() as closing:
            profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([self.host]))
            cluster = Cluster(
                [self.host], port=self.port, protocol_version=5, execution_profiles={EXEC_PROFILE_DEFAULT: profile}
            )
            closing.callback(cluster.shutdown)
            return [tuple(row) for row in cluster.connect().execute(statement, timeout=60)]

    def kill(self) -> None:
        """End the node at once (SIGKILL) and wait for it. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_TIMEOUT_S)
        self._process, self._frozen = None, False

    def freeze(self) -> None:
        """Stop the node with SIGSTOP: its connections stay open and nothing answers."""
        assert self._process is not None, "the node is not running"
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen node go on. Idempotent."""
        if self._frozen and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        """Kill the node and delete its folder. Idempotent."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class CassandraCluster:
    """Three nodes, each with a replica of everything; two of them are a quorum."""

    def __init__(self) -> None:
        self.nodes = [CassandraNode(place) for place in free_places(3)]

    def fresh_url(self) -> str:
        """Return a ``NEARBY_HISTORY_URL`` whose keyspace nobody has used yet; it is still to be migrated."""
        hosts = ",".join(node.address for node in self.nodes)
        return f"cassandra://{hosts}/{fresh_keyspace()}"

    def start(self) -> None:
        """Start the nodes, and return once each knows the two others."""
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait_until_serving()
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(len(node.query("SELECT peer FROM system.peers_v2")) < 2 for node in self.nodes):
            assert time.monotonic() < deadline, "the nodes do not find each other"
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Kill the nodes and delete their folders. Idempotent."""
        with ExitStack() as closing:
            for node in self.nodes:
                closing.callback(node.close)


def migrate(url: str, settings: Mapping[str, str], retention_days: float = 90) -> str:
    """Make or upgrade the keyspace at ``url``, and return what was said. Blocks."""
    environ = {"NEARBY_HISTORY_URL": url, "NEARBY_HISTORY_RETENTION_DAYS": str(retention_days), **settings}
    command = [sys.executable, "-m", "location_history", "migrate"]
    done = subprocess.run(
        command,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fresh_keyspace() -> str:
    """Return the name of a keyspace that nobody has used yet."""
    return f"test_{uuid.uuid4().hex}"


def free_places(count: int) -> list[Place]:
    """Return places for a cluster of ``count`` nodes, on ports that nobody listens on at this moment."""
    hosts = _HOSTS[:count]
    seeds_port, native_port = _free_port(hosts), _free_port(hosts)
    seeds = ",".join(f"{host}:{seeds_port}" for host in hosts)
    return [
        Place(host, native_port, seeds_port, -(2**63) + index * (2**64 // count) + 1, seeds)
        for index, host in enumerate(hosts)
    ]


def _free_port(hosts: Sequence[str]) -> int:
    """Return a port that is free on each of ``hosts``."""
    while True:
        with ExitStack() as sockets:
            port = 0
            try:
                for host in hosts:
                    listener = sockets.enter_context(socket.socket())
                    listener.bind((host, port))
                    port = listener.getsockname()[1]
            except OSError:
                continue
            return port
