"""A session with Cassandra on the event loop. This is the one file that speaks to the driver.

The driver has a thread of its own, in which it reads answers. What has ended there since the loop last looked is handed
over in one call, however many statements that is: a wake-up costs more than a statement.

What is run must be idempotent: a statement may be tried on a second node while the first is silent, and one that timed
out may still be carried out later.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from cassandra import ConsistencyLevel, DriverException
from cassandra.auth import AuthProvider, PlainTextAuthenticator
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.policies import (
    ConstantReconnectionPolicy,
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage
from cassandra.query import BoundStatement, PreparedStatement, tuple_factory

from nearby.errors import SettingsError, StoreUnavailable
from nearby.settings import CassandraSettings, optional_credentials

DEFAULT_PORT = 9042
PROTOCOL_VERSION = 5
"""Of Cassandra 4.0 and newer. Left to itself the driver begins with what only DataStax speaks, and is refused twice."""
WINDOW = 256
"""Statements under way at most. More wait here, where they cost less than in a node's queue."""
CONNECT_TIMEOUT_S = 3.0
RECONNECT_S = 0.5
"""How often a dead node is tried. The driver's own back-off grows to minutes."""
HEARTBEAT_S = 2.0
"""A node that is frozen is noticed after about twice this."""
DETAIL_CHARS = 500
"""Of what the driver says of an error; of many nodes it is a long story."""
READ, WRITE, SCHEMA = "read", "write", "schema"
_REQUEST_TIMEOUT_S = {READ: 3.0, WRITE: 5.0, SCHEMA: 30.0}
_SPECULATE_AFTER_S = {READ: 0.1, WRITE: 0.5, SCHEMA: 60.0}
"""A second node is asked when the first is silent for this long."""

_ERRORS = (DriverException, ErrorMessage, NoHostAvailable, ConnectionException, ConnectionBusy, OSError)

Row = tuple[Any, ...]
Prepared: TypeAlias = PreparedStatement
Bound: TypeAlias = BoundStatement


def bound(prepared: Prepared, values: list[bytes]) -> Bound:
    """Return ``prepared`` with its ``values``, which are in the format of the native protocol already."""
    statement = BoundStatement(prepared)
    statement.values = values
    return statement


@dataclass(frozen=True, slots=True)
class CassandraAddress:
    """The nodes to begin with, host and port, and the keyspace."""

    nodes: tuple[tuple[str, int], ...]
    keyspace: str


def parse_url(url: str) -> CassandraAddress:
    """Read ``cassandra://HOST[:PORT][,HOST[:PORT]…]/KEYSPACE``.

    Raises:
        SettingsError: it is something else.
    """
    hosts, _, keyspace = url.removeprefix("cassandra://").partition("/")
    try:
        nodes = tuple(_node(text) for text in hosts.split(","))
        # It goes into statements as it is.
        if not (
            keyspace.isascii() and keyspace.isidentifier() and keyspace == keyspace.lower() and len(keyspace) <= 48
        ):
            raise ValueError(keyspace)
    except ValueError as error:
        allowed = "cassandra://HOST[:PORT][,HOST[:PORT]…]/KEYSPACE, the keyspace of a-z, 0-9 and _"
        raise SettingsError("NEARBY_HISTORY_URL", url, allowed) from error
    return CassandraAddress(nodes, keyspace)


def _node(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    if not host:
        raise ValueError(text)
    return host, int(port) if port else DEFAULT_PORT


@asynccontextmanager
async def open_session(address: CassandraAddress, settings: CassandraSettings) -> AsyncIterator[CqlSession]:
    """Yield a session with the cluster at ``address``, of which no keyspace is in use yet.

    Raises:
        SettingsError: a file for TLS cannot be used.
        StoreUnavailable: no node answers, or lets us in.
    """
    cluster = _cluster(address, settings)
    try:
        with _told():
            session = await asyncio.to_thread(cluster.connect)
        yield CqlSession(session, asyncio.get_running_loop())
    finally:
        await asyncio.shield(asyncio.to_thread(cluster.shutdown))


class CqlSession:
    """Statements on their way, :data:`WINDOW` at a time. For use on one event loop."""

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop
        self._free_count = WINDOW
        self._waiting: deque[_Run] = deque()
        # Filled in the driver's thread; appending to a deque is atomic.
        self._ended: deque[tuple[_Run, list[Row] | None, Exception | None]] = deque()
        self._is_woken = False

    async def use(self, keyspace: str) -> None:
        """Have what is run from now on mean tables of ``keyspace``.

        Raises:
            StoreUnavailable: there is none of that name, or nobody answers.
        """
        with _told():
            await asyncio.to_thread(self._session.set_keyspace, keyspace)

    async def execute(self, statement: str, *parameters: object) -> list[Row]:
        """Run ``statement`` with ``parameters`` in place of each ``%s``, and return its rows.

        Raises:
            StoreUnavailable: it failed or was not answered, and may have been carried out.
        """

        def execute() -> list[Row]:
            return list(self._session.execute(statement, parameters or None, execution_profile=SCHEMA))

        with _told():
            return await asyncio.to_thread(execute)

    async def prepare(self, statement: str) -> Prepared:
        """Have the nodes prepare ``statement``, which is idempotent.

        Raises:
            StoreUnavailable: it was refused or not answered.
        """
        with _told():
            prepared = await asyncio.to_thread(self._session.prepare, statement)
        prepared.is_idempotent = True
        return prepared

    async def run(self, statement: Bound, profile: str) -> list[Row]:
        """Run ``statement`` and return its rows.

        Raises:
            StoreUnavailable: it failed or was not answered, and may have been carried out.
        """
        return await self._run(deque((statement,)), profile)

    async def run_all(self, statements: Iterable[Bound], profile: str) -> None:
        """Run ``statements`` in no particular order.

        Raises:
            StoreUnavailable: some, all or none have been carried out. None is under way any more, except at nodes that
                did not answer.
        """
        await self._run(deque(statements), profile)

    async def _run(self, statements: deque[Bound], profile: str) -> list[Row]:
        run = _Run(statements, profile, self._loop.create_future())
        self._waiting.append(run)
        self._fill_window()
        try:
            with _told():
                return await run.result
        finally:
            # Of a cancelled one no more is begun.
            run.statements.clear()

    def _fill_window(self) -> None:
        while self._free_count and self._waiting:
            run = self._waiting[0]
            if not run.statements:
                self._waiting.popleft()
                run.settle()
                continue
            statement = run.statements.popleft()
            run.under_way_count += 1
            self._free_count -= 1
            future = self._session.execute_async(statement, execution_profile=run.profile)
            future.add_callbacks(self._succeeded, self._failed, callback_args=(run,), errback_args=(run,))

    def _succeeded(self, rows: list[Row] | None, run: _Run) -> None:
        self._ended.append((run, rows, None))
        self._wake()

    def _failed(self, error: Exception, run: _Run) -> None:
        self._ended.append((run, None, error))
        self._wake()

    def _wake(self) -> None:
        # Seen unset by two threads at once it wakes the loop twice, which does no harm.
        if not self._is_woken:
            self._is_woken = True
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_ended)

    def _take_ended(self) -> None:
        # Before the first look, so that what ends during the last one wakes us again.
        self._is_woken = False
        while self._ended:
            run, rows, error = self._ended.popleft()
            self._free_count += 1
            run.ended(rows, error)
        self._fill_window()


class _Run:
    """Statements of one caller."""

    def __init__(self, statements: deque[Bound], profile: str, result: asyncio.Future[list[Row]]) -> None:
        self.statements = statements
        self.profile = profile
        self.result = result
        self.under_way_count = 0
        self._rows: list[Row] = []
        self._error: Exception | None = None

    def ended(self, rows: list[Row] | None, error: Exception | None) -> None:
        """Take notice that one statement has ended; after the first error no more are begun."""
        self.under_way_count -= 1
        if rows:
            self._rows += rows
        if error is not None and self._error is None:
            self._error = error
            self.statements.clear()
        self.settle()

    def settle(self) -> None:
        """Tell the caller, if everything has ended."""
        if self.statements or self.under_way_count or self.result.done():
            return
        if self._error is not None:
            self.result.set_exception(self._error)
        else:
            self.result.set_result(self._rows)


class _FileAuth(AuthProvider):  # type: ignore[misc]  # the driver has no types
    """Credentials from a file, read anew for each connection, so that they can be changed."""

    def __init__(self, settings: CassandraSettings) -> None:
        self._settings = settings

    def new_authenticator(self, _: str) -> PlainTextAuthenticator:
        secret = self._settings.auth
        if self._settings.auth_file is not None:
            secret = optional_credentials(self._settings.auth_file.read_text(encoding="utf-8").strip())
        user, _, password = (secret.value if secret is not None else ":").partition(":")
        return PlainTextAuthenticator(user, password)


def _cluster(address: CassandraAddress, settings: CassandraSettings) -> Cluster:
    has_auth = settings.auth is not None or settings.auth_file is not None
    return Cluster(
        list(address.nodes),
        protocol_version=PROTOCOL_VERSION,
        compression=False,
        auth_provider=_FileAuth(settings) if has_auth else None,
        ssl_context=_tls(settings),
        execution_profiles={
            EXEC_PROFILE_DEFAULT: _profile(settings, SCHEMA),
            **{name: _profile(settings, name) for name in (READ, WRITE, SCHEMA)},
        },
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, None),
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HEARTBEAT_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        control_connection_timeout=CONNECT_TIMEOUT_S,
        monitor_reporting_enabled=False,
        application_name="nearby",
    )


def _profile(settings: CassandraSettings, name: str) -> ExecutionProfile:
    return ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.datacenter)),
        consistency_level=ConsistencyLevel.name_to_value[settings.consistency],
        request_timeout=_REQUEST_TIMEOUT_S[name],
        row_factory=tuple_factory,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(_SPECULATE_AFTER_S[name], 2),
    )


def _tls(settings: CassandraSettings) -> ssl.SSLContext | None:
    if settings.ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        raise SettingsError(
            "NEARBY_CASSANDRA_CA_FILE", str(settings.ca_file), "a file of certificates (PEM)"
        ) from error
    if settings.client_file is not None:
        try:
            context.load_cert_chain(settings.client_file)
        except (OSError, ValueError) as error:
            allowed = "a file with a certificate and its key (PEM)"
            raise SettingsError("NEARBY_CASSANDRA_CLIENT_FILE", str(settings.client_file), allowed) from error
    return context


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the driver raises into ``StoreUnavailable``."""
    try:
        yield
    except _ERRORS as error:
        raise StoreUnavailable("history", f"{type(error).__name__}: {_short(error)}") from error


def _short(error: Exception) -> str:
    if isinstance(error, NoHostAvailable):
        causes: Sequence[Exception] = list(error.errors.values()) if isinstance(error.errors, dict) else []
        reasons = sorted({f"{type(cause).__name__}: {cause}" for cause in causes})
        return f"{len(causes)} nodes, {'; '.join(reasons)}"[:DETAIL_CHARS]
    return str(error)[:DETAIL_CHARS]
