"""Fixtures of every test: real servers, and a guard of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import blockbuster.blockbuster
import pytest
from blockbuster import BlockBuster

from tests.support.cassandra import SETTINGS, CassandraNode, migrate
from tests.support.postgresql import PostgresServer
from tests.support.valkey import ValkeyServer
from tests.support.valkey_topologies import NEVER_MS, ClusterValkey, SentinelValkey
from tests.support.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

OUR_PACKAGES = [
    "api",
    "cli",
    "discovery",
    "http_port",
    "location_cache",
    "location_history",
    "nearby",
    "nearby_client",
    "prober",
    "pubsub_router",
    "rate_limits",
    "redis_topology",
    "social_graph",
    "ws_gateway",
]


class EventLoopGuard:
    """What blocked the event loop since the last look, kept even if the code at fault swallowed the error."""

    def __init__(self) -> None:
        self._blocked: list[str] = []

    def record(self, function: str) -> blockbuster.BlockingError:
        error = blockbuster.BlockingError(function)
        self._blocked.append(str(error))
        return error

    def take(self) -> list[str]:
        found, self._blocked = self._blocked, []
        return found


@pytest.fixture(scope="session")
def event_loop_guard() -> Iterator[EventLoopGuard]:
    """Raise ``BlockingError`` wherever one of our packages blocks a running event loop."""
    guard = EventLoopGuard()
    blocking = BlockBuster(OUR_PACKAGES)
    for function in blocking.functions.values():
        # A log line is written where it arises.
        function.can_block_in("logging/__init__.py", {"emit"})
        # A time zone is a file of a few kilobytes, read once per process.
        function.can_block_in("nearby/sharing.py", {"_zone"})
        # One byte into a pipe that wakes kazoo's thread; it would take a hundred thousand open questions to fill it.
        function.can_block_in("kazoo/client.py", {"_call"})
        # Passwords and certificates of PostgreSQL may be in small local files, read when a connection is opened.
        function.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
        # Migrations have an event loop of their own, with nobody else on it.
        function.can_block_in("social_graph/upgrade.py", {"_run"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockbuster.blockbuster, "BlockingError", guard.record)
        blocking.activate()
        try:
            yield guard
        finally:
            blocking.deactivate()


@pytest.fixture(autouse=True)
def event_loop_is_never_blocked(event_loop_guard: EventLoopGuard) -> Iterator[None]:
    event_loop_guard.take()
    yield
    assert event_loop_guard.take() == [], "our code blocked the event loop"


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[ValkeyServer]:
    with closing(ValkeyServer()) as server:
        server.start()
        yield server


@pytest.fixture
def valkey(shared_valkey: ValkeyServer) -> ValkeyServer:
    """An empty server. It is shared by all tests of this process: do not kill or freeze it."""
    shared_valkey.flush()
    return shared_valkey


ValkeyServers = Callable[..., ValkeyServer]
"""Starts one more server, with these extra flags."""


@pytest.fixture
def valkey_servers() -> Iterator[ValkeyServers]:
    """A factory of servers that this test alone uses, to kill and freeze as it likes."""
    with ExitStack() as servers:

        def start(*flags: str) -> ValkeyServer:
            server = servers.enter_context(closing(ValkeyServer(*flags)))
            server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def shared_sentinel_valkey() -> Iterator[SentinelValkey]:
    """Flush it before use. It is shared by all tests of this process: do not kill or freeze any of it."""
    with closing(SentinelValkey(noticed_after_ms=NEVER_MS)) as servers:
        servers.start()
        yield servers


@pytest.fixture(scope="session")
def shared_cluster_valkey() -> Iterator[ClusterValkey]:
    """Flush it before use. It is shared by all tests of this process: do not kill or freeze any of it."""
    with closing(ClusterValkey(noticed_after_ms=NEVER_MS)) as servers:
        servers.start()
        yield servers


@pytest.fixture
def sentinel_valkey() -> Iterator[SentinelValkey]:
    """A primary, a standby and Sentinels that this test alone uses, to kill and freeze as it likes."""
    with closing(SentinelValkey()) as servers:
        servers.start()
        yield servers


@pytest.fixture
def cluster_valkey() -> Iterator[ClusterValkey]:
    """A Cluster that this test alone uses, to kill and freeze as it likes."""
    with closing(ClusterValkey()) as servers:
        servers.start()
        yield servers


@pytest.fixture(scope="session")
def shared_cassandra() -> Iterator[CassandraNode]:
    """Ask it for a ``fresh_url``. It is shared by all tests of this process: do not kill it; who freezes it thaws it.

    Mark its tests ``xdist_group("cassandra")``, so that there is one of it.
    """
    with closing(CassandraNode()) as node:
        node.start()
        yield node


@pytest.fixture(scope="session")
def shared_cassandra_url(shared_cassandra: CassandraNode) -> str:
    url = shared_cassandra.fresh_url()
    migrate(url, SETTINGS)
    return url


@pytest.fixture
def cassandra_url(shared_cassandra: CassandraNode, shared_cassandra_url: str) -> str:
    """An empty history in a node that is shared by all tests of this process."""
    shared_cassandra.query(f"TRUNCATE {shared_cassandra_url.rpartition('/')[2]}.history")
    return shared_cassandra_url


@pytest.fixture(scope="session")
def shared_postgresql() -> Iterator[PostgresServer]:
    """Make a database of your own in it. It is shared by all tests of this process: do not kill or freeze it."""
    with closing(PostgresServer()) as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def shared_zookeeper() -> Iterator[ZooKeeperServer]:
    """Ask it for a ``fresh_url``. It is shared by all tests of this process: do not kill or freeze it."""
    with closing(ZooKeeperServer()) as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def shared_zookeeper_ensemble() -> Iterator[ZooKeeperEnsemble]:
    """Ask it for a ``fresh_url``. It is shared by all tests of this process: do not kill or freeze it."""
    with closing(ZooKeeperEnsemble()) as ensemble:
        ensemble.start()
        yield ensemble


@pytest.fixture
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    """A server that this test alone uses, to kill and freeze as it likes."""
    with closing(ZooKeeperServer()) as server:
        server.start()
        yield server


@pytest.fixture
def zookeeper_ensemble() -> Iterator[ZooKeeperEnsemble]:
    """An ensemble of three that this test alone uses, to kill and freeze as it likes."""
    with closing(ZooKeeperEnsemble()) as ensemble:
        ensemble.start()
        yield ensemble
