"""Looking into a database of either kind, past our own code."""

from __future__ import annotations

from sqlalchemy import inspect, text

from nearby.model import UserId
from social_graph.database import Database, open_database


async def execute(url: str, *statements: str) -> None:
    """Execute ``statements`` in one transaction."""
    async with open_database(url) as database, database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def scalar(url: str, query: str) -> object:
    """Return the first value of the first row."""
    async with open_database(url) as database:
        return await database.scalar(text(query))


async def mentions(url: str, word: str) -> set[tuple[str, str]]:
    """Return table and column of every value that contains ``word``."""
    found: set[tuple[str, str]] = set()
    async with open_database(url) as database, database.read() as connection:
        for table in await connection.run_sync(lambda plain: inspect(plain).get_table_names()):
            for row in (await connection.execute(text(f'SELECT * FROM "{table}"'))).mappings():
                found |= {(table, column) for column, value in row.items() if word in str(value)}
    return found


async def dump(url: str) -> str:
    """Return every value of every row of every table, as text."""
    async with open_database(url) as database:
        return await _dump(database)


async def _dump(database: Database) -> str:
    lines: list[str] = []
    async with database.read() as connection:
        tables = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
        for table in tables:
            lines += [f"{table}: {tuple(row)}" for row in await connection.execute(text(f'SELECT * FROM "{table}"'))]
    return "\n".join(lines)


def user_id(number: str) -> UserId:
    """Return an id for somebody who need not exist."""
    return UserId(f"00000000-0000-4000-8000-{number:0>12}")
