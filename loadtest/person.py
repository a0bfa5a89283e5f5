"""Somebody with an account, and the file of people that ``loadtest.seed`` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cli.simulate.walk import Walker

INVITE_USES = 100
"""The most that an invite may have."""


@dataclass(slots=True, eq=False)
class Person:
    """One account. ``password`` is empty for seeded people, whose token cannot be renewed."""

    user_id: str
    token: str
    handle: str = ""
    password: str = ""
    friend_count: int = 0
    invite: str = ""
    invite_uses_left: int = 0
    walker: Walker | None = None
    """Kept while the phone is off, so that nobody jumps when it is on again."""


def read_people(file: Path, part: int, parts: int) -> list[Person]:
    """Return part ``part`` of ``parts`` of a file of seeded people, who are friends of their neighbours in it."""
    lines = file.read_text().splitlines()
    rows = [json.loads(line) for line in lines[share_of(len(lines), part, parts)]]
    return [Person(row["user_id"], row["token"]) for row in rows]


def share_of(count: int, part: int, parts: int) -> slice:
    """Return which of ``count`` things belong to part ``part`` of ``parts``; shares differ by one at most."""
    return slice(count * part // parts, count * (part + 1) // parts)
