"""The primary that Sentinels name, found again whenever it may have changed.

The driver asks one Sentinel after the other, so a frozen one, or one that went away with the primary's machine, would
hold up each new connection for as long as a caller is ready to wait. Here all are asked at once. A primary that froze
and woke up again still takes writes for some ten seconds, until the Sentinels make it a standby; so the address is
looked up again every :data:`LOOK_AGAIN_S`, whether or not something failed, and idle connections to another are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.exceptions import RedisError

from nearby.redis_address import RedisAddress
from redis_topology.options import SOCKET_TIMEOUT_S, connection_options, pool_options

ASK_TIMEOUT_S = 0.25
"""How long Sentinels may take to answer. Well below what a gateway gives a call, or a frozen one ends them all."""
STRAGGLER_S = 0.02
"""How much longer the rest may take once most have answered."""
LOOK_AGAIN_S = 2.0

State = Mapping[str, Any]
"""What a Sentinel says of a primary, as the driver decodes it."""


class Sentinels(Sentinel):
    """The Sentinels of one address; ``tls`` and credentials are those of the address."""

    def __init__(self, address: RedisAddress) -> None:
        options = connection_options(address, address.sentinel_credentials, ASK_TIMEOUT_S)
        options["ssl"] = address.tls is not None
        super().__init__(address.nodes, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._known: tuple[str, int] | None = None

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary, by the Sentinel that knows of the latest failover.

        If no Sentinel answers, the one known last: they are not needed while nothing changes.

        Raises:
            MasterNotFoundError: those that answer say that it is down, or that there is no such service.
        """
        answers = await self._ask(service_name)
        good = [state for state in answers if state and self.check_master_state(dict(state), service_name)]
        if good:
            newest = max(good, key=lambda state: int(state["config-epoch"]))
            self._known = newest["ip"], int(newest["port"])
        elif answers or self._known is None:
            raise MasterNotFoundError(f"{len(answers)} of {len(self.sentinels)} Sentinels answer; none names a primary")
        return self._known

    async def _ask(self, service_name: str) -> list[State | None]:
        """Return what each Sentinel that answers in time says; ``None`` from one that knows no such service."""
        answers: list[State | None] = []
        silent = len(self.sentinels)
        enough = asyncio.Event()

        async def ask(sentinel: Redis) -> None:
            nonlocal silent
            try:
                services = cast(dict[str, State], await sentinel.sentinel_masters())
                answers.append(services.get(service_name))
            except (RedisError, OSError):
                silent -= 1
            if 2 * len(answers) > len(self.sentinels) or len(answers) >= silent:
                enough.set()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(sentinel)) for sentinel in self.sentinels]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    await enough.wait()
            await asyncio.wait(tasks, timeout=STRAGGLER_S)
            for task in tasks:
                task.cancel()
        return answers


class PrimaryPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary; a caller waits for one if all are in use."""

    def __init__(self, address: RedisAddress, max_connections: int) -> None:
        options = connection_options(address, address.credentials, SOCKET_TIMEOUT_S)
        super().__init__(  # type: ignore[no-untyped-call]
            address.service,
            Sentinels(address),
            ssl=address.tls is not None,
            db=address.database,
            **pool_options(max_connections),
            **options,
        )
        self._look_again_at_s = 0.0

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        """Return a connection to the primary of now, as far as the Sentinels know."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._look_again_at_s:
            self._look_again_at_s = now_s + LOOK_AGAIN_S
            with contextlib.suppress(MasterNotFoundError):
                await self.get_master_address()  # type: ignore[no-untyped-call]
        connection: AbstractConnection = await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        return connection

    async def aclose(self) -> None:
        """Close the connections to the primary and to the Sentinels."""
        await super().aclose()
        await self.sentinel_manager.aclose()
