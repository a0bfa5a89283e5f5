"""The history in a real Cassandra that lets in only who shows a password, over TLS."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from location_history.cassandra_schema import migrate
from location_history.cql import CqlSession, open_session, parse_url
from location_history.stores import open_store
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from nearby.settings import CassandraSettings, load
from tests.support.cassandra import QUICK_TO_START, CassandraNode
from tests.support.jvm.java import java17

pytestmark = pytest.mark.xdist_group("cassandra")

ALICE = UserId("00000000-0000-4000-8000-00000000000a")
NOW_MS = time.time_ns() // 1_000_000
LOGIN = "cassandra:cassandra"
"""What a new node knows."""
STORE_PASSWORD = "of the key store"
START_TIMEOUT_S = 120.0
BACK_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def certificate(directory: Path) -> Path:
    """That of the node, which anybody may know; its key is in ``node.p12`` beside it."""
    return _certificate(directory, "node")


@pytest.fixture(scope="module")
def guarded(directory: Path, certificate: Path) -> Iterator[CassandraNode]:
    """A node that speaks TLS alone and asks for a password."""
    encryption = (
        f"{{enabled: true, optional: false, keystore: {directory}/node.p12, "
        f'keystore_password: "{STORE_PASSWORD}", store_type: PKCS12}}'
    )
    settings = {"client_encryption_options": encryption, "authenticator": "PasswordAuthenticator"}
    # By default a new node waits for ten seconds before it makes its first account.
    jvm = (*QUICK_TO_START, "-Dcassandra.superuser_setup_delay_ms=0")
    with closing(CassandraNode(jvm=jvm, yaml=settings)) as node:
        node.start(wait=False)
        asyncio.run(_until_let_in(node, certificate))
        yield node


Access = Callable[..., CassandraSettings]


@pytest.fixture
def access(certificate: Path) -> Access:
    """Settings that are let in, but for what a test says."""

    def settings(**changed: str) -> CassandraSettings:
        return _settings({"CA_FILE": str(certificate), "AUTH": LOGIN} | changed)

    return settings


def _settings(values: dict[str, str]) -> CassandraSettings:
    return load(CassandraSettings, {f"NEARBY_CASSANDRA_{name}": value for name, value in values.items()})


def _certificate(directory: Path, name: str) -> Path:
    """Make a key and a certificate for 127.0.0.1 that vouches for itself; return the file of the latter."""
    keytool = java17().with_name("keytool")
    store = ("-alias", name, "-keystore", str(directory / f"{name}.p12"), "-storepass", STORE_PASSWORD)
    make = ("-genkeypair", "-keyalg", "EC", "-dname", f"CN={name}", "-storetype", "PKCS12")
    extensions = ("ip:127.0.0.1", "ca:true", "keyCertSign,digitalSignature")
    named = zip(("san", "bc:critical", "ku:critical"), extensions, strict=True)
    subprocess.run(
        [keytool, *make, *(word for kind, value in named for word in ("-ext", f"{kind}={value}")), *store],
        check=True,
        capture_output=True,
    )
    path = directory / f"{name}.pem"
    subprocess.run([keytool, "-exportcert", "-rfc", "-file", path, *store], check=True, capture_output=True)
    return path


async def _until_let_in(node: CassandraNode, certificate: Path) -> None:
    settings = _settings({"CA_FILE": str(certificate), "AUTH": LOGIN})
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            assert node.running()
            try:
                async with open_session(parse_url(node.fresh_url()), settings):
                    return
            except StoreUnavailable:
                await asyncio.sleep(0.2)


@asynccontextmanager
async def let_in(node: CassandraNode, settings: CassandraSettings) -> AsyncIterator[CqlSession]:
    async with open_session(parse_url(node.fresh_url()), settings) as session:
        yield session


async def is_refused(node: CassandraNode, settings: CassandraSettings, why: str) -> None:
    with pytest.raises(StoreUnavailable, match=why):
        async with let_in(node, settings):
            pass


async def test_the_history_is_kept_over_tls_by_who_knows_the_password(guarded: CassandraNode, access: Access) -> None:
    url = guarded.fresh_url()
    async with let_in(guarded, access()) as session:
        await migrate(session, parse_url(url).keyspace, {"datacenter1": 1}, 90)
    async with open_store(url, 90, cassandra=access()) as store:
        await store.write_many([HistoryPoint(ALICE, Location(1.0, 2.0, NOW_MS), accepted_at_ms=NOW_MS)])
        page = await store.read(ALICE, 0, 2**53, 10)
    assert [point.location.recorded_at_ms for point in page.points] == [NOW_MS]


async def test_a_wrong_password_is_told(guarded: CassandraNode, access: Access) -> None:
    await is_refused(guarded, access(AUTH="cassandra:wrong"), "AuthenticationFailed.*incorrect")


async def test_a_missing_password_is_told(guarded: CassandraNode, access: Access) -> None:
    await is_refused(guarded, access(AUTH=""), "AuthenticationFailed.*requires authentication")


async def test_a_certificate_of_somebody_else_is_told(guarded: CassandraNode, access: Access, directory: Path) -> None:
    stranger = _certificate(directory, "stranger")
    await is_refused(guarded, access(CA_FILE=str(stranger)), "certificate verify failed: self")


async def test_a_node_may_be_given_by_name_and_its_certificate_names_its_address(
    guarded: CassandraNode, access: Access
) -> None:
    url = guarded.fresh_url().replace("127.0.0.1", "localhost")
    async with open_session(parse_url(url), access()):
        pass


async def test_a_client_without_tls_is_refused(guarded: CassandraNode, access: Access) -> None:
    await is_refused(guarded, access(CA_FILE=""), "history is unavailable")


async def test_a_password_in_a_file_may_be_corrected_while_a_store_tries(
    guarded: CassandraNode, access: Access, tmp_path: Path
) -> None:
    url = guarded.fresh_url()
    async with let_in(guarded, access()) as session:
        await migrate(session, parse_url(url).keyspace, {"datacenter1": 1}, 90)
    secret = tmp_path / "login"
    async with open_store(url, 90, cassandra=access(AUTH="", AUTH_FILE=str(secret))) as store:
        with pytest.raises(StoreUnavailable, match="login"):
            await store.read(ALICE, 0, 2**53, 10)
        secret.write_text("cassandra:wrong\n")

        async def told(why: str) -> None:
            async with asyncio.timeout(BACK_WITHIN_S):
                while True:
                    with pytest.raises(StoreUnavailable) as refused:
                        await store.read(ALICE, 0, 2**53, 10)
                    if why in str(refused.value):
                        return
                    await asyncio.sleep(0.1)

        await told("AuthenticationFailed")
        secret.write_text("cassandra\n")
        await told("USER:PASSWORD")
        secret.write_text(f"{LOGIN}\n")
        async with asyncio.timeout(BACK_WITHIN_S):
            while True:
                try:
                    assert (await store.read(ALICE, 0, 2**53, 10)).points == ()
                    return
                except StoreUnavailable:
                    await asyncio.sleep(0.1)
