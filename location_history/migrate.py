"""``python -m location_history migrate``: bring the schema of the history store up to date."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from location_history.cassandra_schema import VERSION, migrate
from location_history.cql import open_session, parse_url
from nearby.errors import StoreUnavailable
from nearby.settings import HistoryMigrationSettings, load

ATTEMPT_S = 300.0


async def main(environ: Mapping[str, str]) -> None:
    """Migrate the store that ``environ`` describes, and say what was done. SQLite upgrades itself when it is opened.

    Raises:
        SettingsError: a variable is missing or wrong.
        StoreUnavailable: some of it may have been done. Doing it again is safe.
    """
    settings = load(HistoryMigrationSettings, environ)
    history = settings.history
    if not history.url.startswith("cassandra://"):
        _say("nothing to do: SQLite is upgraded when it is opened")
        return
    address = parse_url(history.url)
    try:
        async with asyncio.timeout(ATTEMPT_S), open_session(address, history.cassandra) as session:
            done = await migrate(session, address.keyspace, settings.replication, history.retention_days)
    except TimeoutError as error:
        raise StoreUnavailable("history", f"not migrated within {ATTEMPT_S:g} s") from error
    for line in done or [f"nothing to do: version {VERSION}"]:
        _say(f"{address.keyspace}: {line}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
