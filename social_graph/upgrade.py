"""Bring a database up to the newest version of the schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from social_graph.database import write_blocking

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(url: str) -> None:
    """Upgrade the database at ``url`` to head, creating it if need be; at head already, change nothing.

    All in one write transaction, so that several processes may do it at once. Blocks, so an event loop runs it in
    a thread.

    Raises:
        StoreUnavailable: the database failed.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with write_blocking(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
