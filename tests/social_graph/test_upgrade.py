from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from nearby.errors import StoreUnavailable
from social_graph.__main__ import main
from social_graph.rights_schema import metadata
from social_graph.upgrade import upgrade


def test_the_migrations_make_exactly_the_declared_schema(empty_database: Path) -> None:
    engine = create_engine(f"sqlite:///{empty_database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


async def test_several_processes_may_upgrade_one_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'users.db'}"
    await asyncio.gather(*(asyncio.to_thread(upgrade, url) for _ in range(4)))
    with closing(sqlite3.connect(tmp_path / "users.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0003",)]


def test_upgrading_again_keeps_the_data(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO changes (payload, created_ms) VALUES ('{}', 1)")
        connection.commit()
    upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM changes").fetchone() == (1,)


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        upgrade(f"sqlite:///{tmp_path / 'missing' / 'users.db'}")


def test_the_command_upgrades_the_database_of_the_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"NEARBY_DATABASE_URL": f"sqlite:///{tmp_path / 'users.db'}"}) == 0
    assert (tmp_path / "users.db").exists()
    assert main({}) == 2
    assert "NEARBY_DATABASE_URL" in capsys.readouterr().err
    assert main({"NEARBY_DATABASE_URL": f"sqlite:///{tmp_path / 'missing' / 'users.db'}"}) == 1
