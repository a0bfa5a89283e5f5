"""TLS and passwords on each topology.

The Valkey of the wheel knows no TLS, so one server is reached through a relay that does; Sentinels and a Cluster, which
tell addresses of their own, need a ``redis-server`` built with TLS, as Debian's is.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from location_cache.redis import RedisLocationCache, open_cache
from nearby.errors import StoreUnavailable
from nearby.model import UserId
from nearby.record import LocationRecord
from tests.support.loopback import own_host
from tests.support.valkey import ValkeyServer
from tests.support.valkey_topologies import NEVER_MS, ClusterValkey, SentinelValkey

USERS = [UserId(f"user-{number}") for number in range(50)]
REDIS_SERVER = shutil.which("redis-server")
"""Installed by ``make test``."""
OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl to make certificates with")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that vouches for itself, and for our loopback address."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return made_certificate(tmp_path_factory.mktemp("tls"))


def made_certificate(directory: Path) -> Certificate:
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    assert OPENSSL is not None
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=nearby", "-addext", f"subjectAltName=IP:{own_host()}"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return made


@asynccontextmanager
async def relay(server: ValkeyServer, certificate: Certificate) -> AsyncIterator[str]:
    """Speak TLS in front of ``server``; yield ``HOST:PORT``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, inner_writer))
            tasks.create_task(pump(inner_reader, writer))

    listener = await asyncio.start_server(accept, own_host(), 0, ssl=context)
    async with listener:
        yield f"{own_host()}:{listener.sockets[0].getsockname()[1]}"


async def check(url: str) -> None:
    async with open_cache(url, 600) as cache:
        results = await cache.write_many([(user, LocationRecord(0, 1, 1.0, 2.0)) for user in USERS])
        assert all(result.accepted for result in results)
        assert None not in await cache.read_many(USERS)


async def refused(cache: RedisLocationCache) -> str:
    with pytest.raises(StoreUnavailable) as error:
        await cache.read_many(USERS)
    return str(error.value)


async def test_a_server_is_reached_by_tls(valkey: ValkeyServer, certificate: Certificate) -> None:
    async with relay(valkey, certificate) as address:
        await check(f"rediss://{address}?ssl_ca_certs={certificate.certificate}")


async def test_a_server_with_a_certificate_that_nobody_vouches_for_is_an_unavailable_cache(
    valkey: ValkeyServer, certificate: Certificate, tmp_path: Path
) -> None:
    other = made_certificate(tmp_path)
    async with relay(valkey, certificate) as address:
        for options in ("", f"?ssl_ca_certs={other.certificate}"):
            async with open_cache(f"rediss://{address}{options}", 600) as cache:
                assert "certificate" in (await refused(cache)).lower()


@pytest.mark.parametrize("topology", [SentinelValkey, ClusterValkey])
async def test_every_server_of_a_topology_is_reached_by_tls(
    topology: type[SentinelValkey | ClusterValkey], certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REDIS_SERVER is not None, "redis-server is missing; install it: apt-get install redis-server"
    monkeypatch.setenv("NEARBY_TEST_SERVER", str(REDIS_SERVER))
    files = {
        "tls-cert-file": certificate.certificate,
        "tls-key-file": certificate.key,
        "tls-ca-cert-file": certificate.certificate,
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }
    with closing(_with_tls(topology, {name: str(value) for name, value in files.items()})) as servers:
        servers.start()
        separator = "&" if "?" in servers.url else "?"
        url = servers.url.replace("redis+", "rediss+") + f"{separator}ssl_ca_certs={certificate.certificate}"
        await check(url)
        async with open_cache(servers.url.replace("redis+", "rediss+"), 600) as cache:
            assert "StoreUnavailable" not in await refused(cache)


def _with_tls(
    topology: type[SentinelValkey | ClusterValkey], options: dict[str, str]
) -> SentinelValkey | ClusterValkey:
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    if topology is ClusterValkey:
        return ClusterValkey(*flags, "--tls-cluster", "yes", noticed_after_ms=NEVER_MS, tls=True)
    lines = [f"{name} {value}" for name, value in options.items()]
    return SentinelValkey(*flags, sentinel_lines=lines, noticed_after_ms=NEVER_MS, tls=True)
