"""Many users at once, put into the database of a stack directly: signing up hashes a password for 20 ms each."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from nearby.model import UserId
from nearby.settings import parse_keys
from nearby.tokens import TokenKeys

TOKEN_LIFETIME_S = 3_600


_USERS = (
    "INSERT INTO users (id, handle, display_name, password_hash, sharing_paused, switch_sequence,"
    " tokens_valid_from_ms, created_ms) VALUES ({}, {}, 'seeded', '-', {no}, 0, 0, {})"
)
_FRIENDSHIPS = "INSERT INTO friendships (user_id, friend_id, since_ms, sharing) VALUES ({}, {}, {}, 'exact')"


@dataclass(frozen=True)
class _Crowd:
    """Users in a ring, each a friend of the ``degree / 2`` on each side, so that the graph is regular.

    ``two_sides`` takes every other of them, so that no two even users are friends, nor two odd ones; they are of an
    even number then.
    """

    users: list[UserId]
    degree: int
    two_sides: bool
    now_ms: int

    @property
    def user_rows(self) -> list[tuple[str, str, int]]:
        return [(user, f"s_{user.replace('-', '')[:26]}", self.now_ms) for user in self.users]

    @property
    def friendship_rows(self) -> list[tuple[str, str, int]]:
        count = len(self.users)
        steps = range(1, self.degree, 2) if self.two_sides else range(1, self.degree // 2 + 1)
        pairs = [(self.users[i], self.users[(i + step) % count]) for i in range(count) for step in steps]
        return [(a, b, self.now_ms) for pair in pairs for a, b in (pair, pair[::-1])]

    def tokens(self, keys: TokenKeys) -> dict[UserId, str]:
        return {user: keys.issue(user, self.now_ms, TOKEN_LIFETIME_S) for user in self.users}


def _crowd(count: int, degree: int, *, two_sides: bool = False) -> _Crowd:
    users = [UserId(str(uuid.uuid4())) for _ in range(count)]
    return _Crowd(users, degree, two_sides, time.time_ns() // 1_000_000)


def seed(data_dir: Path, count: int, degree: int, *, two_sides: bool = False) -> dict[UserId, str]:
    """Create ``count`` users of the stack in ``data_dir``, each with ``degree`` friends (even); return their tokens.

    See :class:`_Crowd` for who they are.
    """
    crowd = _crowd(count, degree, two_sides=two_sides)
    with closing(sqlite3.connect(data_dir / "users.sqlite", timeout=30)) as database, database:
        database.executemany(_USERS.format("?", "?", "?", no="0"), crowd.user_rows)
        database.executemany(_FRIENDSHIPS.format("?", "?", "?"), crowd.friendship_rows)
    return crowd.tokens(parse_keys(json.loads((data_dir / "secrets.json").read_text())["NEARBY_TOKEN_KEYS"]))


async def seed_postgresql(url: str, keys: TokenKeys, count: int, degree: int) -> dict[UserId, str]:
    """Do as :func:`seed` in the database at ``url``, with tokens signed by ``keys``."""
    crowd = _crowd(count, degree)
    connection = await asyncpg.connect(url)
    try:
        await connection.executemany(_USERS.format("$1", "$2", "$3", no="false"), crowd.user_rows)
        await connection.executemany(_FRIENDSHIPS.format("$1", "$2", "$3"), crowd.friendship_rows)
    finally:
        await connection.close()
    return crowd.tokens(keys)
