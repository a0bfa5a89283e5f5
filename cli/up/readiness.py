"""Wait until the processes of a stack can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from cli.up.valkey import ping
from nearby.ports import Discovery, Member, MemberState, Role

_POLL_S = 0.05
_ANSWER_TIMEOUT_S = 2.0

Lacks = Callable[[str], None]
"""Takes what a process still lacks, for the case that it never comes."""


async def until_valkey_answers(path: Path, lacks: Lacks) -> None:
    """Return once the Valkey server at ``path`` answers PING; while it loads its data it does not."""

    async def lacking() -> str:
        answer = await ping(path)
        return "" if answer == "+PONG" else f"answers PING by {answer!r}"

    await _until(lacking, lacks)


async def until_ready(admin_url: str, lacks: Lacks) -> None:
    """Return once ``/readyz`` of the process answers 200."""
    # Proxies of the environment are for other hosts than this one.
    async with httpx.AsyncClient(base_url=admin_url, trust_env=False, timeout=_ANSWER_TIMEOUT_S) as http:

        async def lacking() -> str:
            answer = await http.get("/readyz")
            return "" if answer.is_success else f"/readyz answers {answer.status_code}: {answer.text.strip()}"

        await _until(lacking, lacks)


async def until_serving(discovery: Discovery, role: Role, pid: int, lacks: Lacks) -> Member:
    """Return the entry of process ``pid`` once it is announced as serving."""
    lacks("is not announced in discovery")
    async for members in discovery.watch_members(role):
        for member in members.values():
            if member.pid == pid:
                if member.state is MemberState.SERVING:
                    return member
                lacks(f"is announced as {member.state.value}")
    raise AssertionError("a watch does not end")


async def _until(lacking: Callable[[], Awaitable[str]], lacks: Lacks) -> None:
    while True:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                lack = await lacking()
        except (OSError, httpx.HTTPError) as error:  # TimeoutError is an OSError
            lack = f"does not answer ({type(error).__name__})"
        if not lack:
            return
        lacks(lack)
        await asyncio.sleep(_POLL_S)
