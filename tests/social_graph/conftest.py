from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from social_graph.graph import SocialGraph, open_social_graph
from social_graph.upgrade import upgrade
from tests.social_graph.clock import HeldClock

REFRESH_LIFETIME_S = 3_600


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "users.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def database_url(empty_database: Path, tmp_path: Path) -> str:
    path = tmp_path / "users.db"
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
async def graph(database_url: str, clock: HeldClock) -> AsyncIterator[SocialGraph]:
    async with open_social_graph(database_url, clock, REFRESH_LIFETIME_S) as opened:
        yield opened
