from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from social_graph import passwords
from social_graph.graph import SocialGraph, open_social_graph
from social_graph.upgrade import upgrade
from tests.social_graph.clock import HeldClock
from tests.support.postgresql import PostgresServer

REFRESH_LIFETIME_S = 3_600


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "users.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def empty_postgresql_database(shared_postgresql: PostgresServer) -> str:
    """The name of a database at head, to be used as a template."""
    name = shared_postgresql.create_database()
    upgrade(shared_postgresql.url(name))
    return name


@pytest.fixture
def sqlite_url(empty_database: Path, tmp_path: Path) -> str:
    path = tmp_path / "users.db"
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(shared_postgresql: PostgresServer, empty_postgresql_database: str) -> Iterator[str]:
    name = shared_postgresql.create_database(empty_postgresql_database)
    yield shared_postgresql.url(name)
    shared_postgresql.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database at head, once on each of the two servers."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real hashes, but not as dear as they should be: nearly every test signs people up."""
    monkeypatch.setattr(passwords, "MEMORY_KIB", 64)
    monkeypatch.setattr(passwords, "ITERATIONS", 1)


@pytest.fixture
async def graph(database_url: str, clock: HeldClock, cheap_passwords: None) -> AsyncIterator[SocialGraph]:
    async with open_social_graph(database_url, clock, REFRESH_LIFETIME_S) as opened:
        yield opened
