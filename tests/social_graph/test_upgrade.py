from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from nearby.errors import StoreUnavailable
from social_graph.__main__ import main
from social_graph.database import open_database
from social_graph.rights_schema import metadata
from social_graph.upgrade import _MIGRATIONS, upgrade
from tests.social_graph import raw
from tests.support.postgresql import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in which nothing is yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bare.db'}"
    server: PostgresServer = request.getfixturevalue("shared_postgresql")
    return server.url(server.create_database())


async def test_the_migrations_make_exactly_the_declared_schema(database_url: str) -> None:
    async with open_database(database_url) as database, database.read() as connection:
        found = await connection.run_sync(lambda plain: compare_metadata(MigrationContext.configure(plain), metadata))
    assert found == []


async def test_several_processes_may_upgrade_one_database_at_once(bare_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(upgrade, bare_url) for _ in range(4)))
    head = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    assert await raw.dump(bare_url) == f"alembic_version: ('{head}',)\nfeed_head: (1, 0, 0)"


async def test_upgrading_again_keeps_the_data(bare_url: str) -> None:
    await asyncio.to_thread(upgrade, bare_url)
    await raw.execute(bare_url, "INSERT INTO changes (sequence, payload, created_ms) VALUES (1, '{}', 1)")
    await asyncio.to_thread(upgrade, bare_url)
    assert await raw.scalar(bare_url, "SELECT count(*) FROM changes") == 1


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        upgrade(f"sqlite:///{tmp_path / 'missing' / 'users.db'}")


def test_the_command_upgrades_the_database_of_the_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"NEARBY_DATABASE_URL": f"sqlite:///{tmp_path / 'users.db'}"}) == 0
    assert (tmp_path / "users.db").exists()
    assert main({}) == 2
    assert "NEARBY_DATABASE_URL" in capsys.readouterr().err
    assert main({"NEARBY_DATABASE_URL": f"sqlite:///{tmp_path / 'missing' / 'users.db'}"}) == 1
