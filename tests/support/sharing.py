"""Sharing rules set over REST, as an app would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.people import Person


class Rules:
    """The sharing endpoints of one API."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(self, person: Person, method: str, path: str, body: Any = None) -> Any:
        """Return what the API answers; anything but success fails the test."""
        headers = {"Authorization": f"Bearer {person.account.access_token}"}
        answer = await self._http.request(method, path, headers=headers, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def towards(self, owner: Person, viewer: Person, precision: str, **more: Any) -> Any:
        """Set the owner's rule towards the viewer."""
        path = f"/v1/friends/{viewer.user_id}/sharing"
        return await self.call(owner, "PUT", path, {"precision": precision, **more})

    async def towards_all(self, owner: Person, **body: Any) -> Any:
        """Set what the owner says to everyone."""
        return await self.call(owner, "PUT", "/v1/me/sharing", {"state": "on", **body})


@asynccontextmanager
async def rules_at(api_url: str) -> AsyncIterator[Rules]:
    """Yield the rules of the API at ``api_url``."""
    async with httpx.AsyncClient(base_url=api_url, trust_env=False, timeout=10) as http:
        yield Rules(http)
