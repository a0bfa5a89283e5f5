"""The queries that gateways wait for go by primary key, and their number does not grow with what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from nearby.model import UserId
from social_graph.database import open_database
from social_graph.friend_lists import FriendLists
from tests.social_graph import raw
from tests.social_graph.clock import HeldClock
from tests.social_graph.statements import recorded

USERS = 6_000
FRIENDS = 5_000
POPULAR = raw.user_id("1")

_ID = "'00000000-0000-4000-8000-' || lpad(number::text, 12, '0')"
_FILL = (
    "INSERT INTO users (id, handle, display_name, password_hash, sharing_paused, switch_sequence,"
    f" tokens_valid_from_ms, created_ms) SELECT {_ID}, 'h_' || number, 'x', '-', false, 0, 0, 0"
    f" FROM generate_series(1, {USERS}) AS number",
    f"INSERT INTO friendships SELECT '{POPULAR}', {_ID}, 0, 'exact' FROM generate_series(2, {FRIENDS + 1}) AS number",
    f"INSERT INTO friendships SELECT {_ID}, '{POPULAR}', 0, 'exact' FROM generate_series(2, {FRIENDS + 1}) AS number",
    f"INSERT INTO history_settings SELECT {_ID}, 0 FROM generate_series(1, {USERS}) AS number",
    "ANALYZE history_settings",
    "ANALYZE users",
    "ANALYZE friendships",
)


@pytest.fixture
async def filled_url(postgresql_url: str) -> str:
    await raw.execute(postgresql_url, *_FILL)
    return postgresql_url


def _scans(plan: dict[str, Any]) -> list[str]:
    own = [f"{plan['Node Type']} on {plan['Relation Name']}"] if "Relation Name" in plan else []
    own += [f"by {plan['Index Name']}"] if "Index Name" in plan else []
    return own + [scan for part in plan.get("Plans", []) for scan in _scans(part)]


async def test_friend_lists_are_read_by_primary_key(filled_url: str, clock: HeldClock) -> None:
    async with open_database(filled_url, pool_size=1, timeout_s=60) as database:
        async with recorded(database) as asked:
            await FriendLists(database, clock).read([raw.user_id(str(number)) for number in range(2, 22)])
        assert len(asked) == 3
        async with database.read() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            plans = []
            for statement, arguments in asked:
                found = await driver.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
                plans.append(found[0]["Plan"])
    head, owners, edges = (_scans(plan) for plan in plans)
    assert head == ["Seq Scan on feed_head"], "one row"
    assert "by pk_users" in owners
    assert "by pk_friendships" in edges
    assert "by pk_users" in edges
    assert not [scan for scan in owners + edges if scan.startswith("Seq Scan")]


async def test_five_thousand_friends_are_read_in_one_query(filled_url: str, clock: HeldClock) -> None:
    async with open_database(filled_url, pool_size=1, timeout_s=60) as database, recorded(database) as asked:
        (popular,) = await FriendLists(database, clock).read([POPULAR])
    assert popular is not None
    assert {edge.user_id for edge in popular.friends} == {
        UserId(raw.user_id(str(number))) for number in range(2, FRIENDS + 2)
    }
    assert len([statement for statement, _ in asked if "friendships" in statement]) == 1


async def test_the_table_is_large_enough_for_a_scan_to_be_the_dearer_plan(filled_url: str) -> None:
    async with open_database(filled_url) as database:
        assert await database.scalar(text("SELECT count(*) FROM friendships")) == 2 * FRIENDS
