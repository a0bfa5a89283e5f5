"""Scripts, run where their keys live."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError

from redis_topology.servers import Command, Servers


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name under which servers remember it."""

    source: str
    sha: str

    @classmethod
    def of(cls, source: str) -> Script:
        """Return the script ``source``."""
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Chunk:
    """The keys, at least one, and the arguments of one run; in a Cluster the keys share a hash tag."""

    keys: Sequence[bytes]
    arguments: Sequence[bytes | int] = ()


async def run(servers: Servers, script: Script, chunks: Sequence[Chunk]) -> list[Any]:
    """Run ``script`` on each chunk; return the answers in order.

    A server that does not know the script, as after a restart or a promotion, is sent the whole of it.

    Raises:
        RedisError, OSError: some, all or none were run.
    """
    if not chunks:
        return []
    answers = await servers.execute([_command(b"EVALSHA", script.sha, chunk) for chunk in chunks])
    unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        again = await servers.execute([_command(b"EVAL", script.source, chunks[index]) for index in unknown])
        for index, answer in zip(unknown, again, strict=True):
            answers[index] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _command(name: bytes, script: str, chunk: Chunk) -> Command:
    return Command(chunk.keys[0], (name, script, len(chunk.keys), *chunk.keys, *chunk.arguments))
