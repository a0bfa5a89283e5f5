"""Many users at once, put into the database of a stack directly: signing up hashes a password for 20 ms each."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path

from nearby.model import UserId
from nearby.settings import parse_keys

TOKEN_LIFETIME_S = 3_600


def seed(data_dir: Path, count: int, degree: int, *, two_sides: bool = False) -> dict[UserId, str]:
    """Create ``count`` users, each with ``degree`` friends (even), and return an access token for each.

    User ``i`` is a friend of the ``degree / 2`` users on each side in a ring, so the graph is regular. ``two_sides``
    takes every other of them, so that no two even users are friends, nor two odd ones; ``count`` is even then.
    """
    users = [UserId(str(uuid.uuid4())) for _ in range(count)]
    now_ms = time.time_ns() // 1_000_000
    steps = range(1, degree, 2) if two_sides else range(1, degree // 2 + 1)
    pairs = [(users[i], users[(i + step) % count]) for i in range(count) for step in steps]
    with closing(sqlite3.connect(data_dir / "users.sqlite", timeout=30)) as database, database:
        database.executemany(
            "INSERT INTO users (id, handle, display_name, password_hash, sharing_paused, switch_sequence,"
            " tokens_valid_from_ms, created_ms) VALUES (?, ?, 'seeded', '-', 0, 0, 0, ?)",
            [(user, f"s_{user.replace('-', '')[:26]}", now_ms) for user in users],
        )
        database.executemany(
            "INSERT INTO friendships (user_id, friend_id, since_ms, sharing) VALUES (?, ?, ?, 'exact')",
            [(a, b, now_ms) for pair in pairs for a, b in (pair, pair[::-1])],
        )
    keys = parse_keys(json.loads((data_dir / "secrets.json").read_text())["NEARBY_TOKEN_KEYS"])
    return {user: keys.issue(user, now_ms, TOKEN_LIFETIME_S) for user in users}
