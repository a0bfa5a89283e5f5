"""What a database is really asked, whichever way a statement takes to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event

from social_graph.database import Database

Asked = list[tuple[str, Any]]


@asynccontextmanager
async def recorded(database: Database) -> AsyncIterator[Asked]:
    """Yield a list to which each SELECT and its arguments are added; ``database`` has one connection."""
    asked: Asked = []

    def add(statement: str, arguments: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, arguments))

    async with database.read() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        engine = connection.sync_connection and connection.sync_connection.engine
    if hasattr(driver, "query_logger"):
        with driver.query_logger(lambda query: add(query.query, query.args)):
            yield asked
            await asyncio.sleep(0)  # the logger is called in the next turn of the loop
        return

    def before(_: object, __: object, statement: str, arguments: Any, *___: object) -> None:
        add(statement, arguments)

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", before)
