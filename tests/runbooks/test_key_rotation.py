"""docs/runbooks/key-rotation.md, followed with a restart after each step; nobody logs in again."""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import picows

from tests.support.light_clients import LightClient
from tests.support.people import PASSWORD
from tests.support.runbook import following
from tests.support.stack import Stack, running_stack

KEPT = ("--api-port", "0", "--gateway-ports", "0", "--shards", "1", "--spares", "0")


async def test_new_keys_come_and_old_ones_go_without_anybody_logging_in_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as exits:

        async def started() -> Stack:
            return await exits.enter_async_context(running_stack(tmp_path, arguments=KEPT))

        stack = await started()
        reader = await exits.enter_async_context(following("key-rotation.md", stack))
        tokens = await signed_up(stack)
        old_token = tokens["access_token"]
        assert kid_of(old_token) == "k1"
        await reader.follow("")
        await reader.follow("Check")

        await reader.follow("Act: add")
        await stack.stop()
        stack = await started()
        assert await is_good(stack, old_token)
        tokens = await refreshed(stack, tokens)
        assert kid_of(tokens["access_token"]) == "k1"

        await reader.follow("Act: sign")
        await stack.stop()
        stack = await started()
        assert await is_good(stack, old_token)
        tokens = await refreshed(stack, tokens)
        assert kid_of(tokens["access_token"]) == "k2"

        await reader.follow("Act: remove")
        await stack.stop()
        stack = await started()
        assert not await is_good(stack, old_token)
        assert await is_good(stack, tokens["access_token"])
        await reader.follow("Verify")


def kid_of(token: str) -> str:
    header = token.split(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


async def post(stack: Stack, path: str, **body: str) -> dict[str, str]:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
        answer = await http.post(path, json=body)
    assert answer.is_success, answer.text
    found: dict[str, str] = answer.json()
    return found


async def signed_up(stack: Stack) -> dict[str, str]:
    await post(stack, "/v1/users", handle="ann", password=PASSWORD, display_name="Ann")
    return await post(stack, "/v1/tokens", handle="ann", password=PASSWORD)


async def refreshed(stack: Stack, tokens: dict[str, str]) -> dict[str, str]:
    return await post(stack, "/v1/tokens/refresh", refresh_token=tokens["refresh_token"])


async def is_good(stack: Stack, token: str) -> bool:
    """Whether the API and a gateway take an access token; they agree."""
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
        answer = await http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    client = LightClient(token)
    try:
        await client.try_to_connect(stack.gateways[0].ws_url)
    except picows.WSInvalidStatusError:
        assert answer.status_code == 401
        return False
    client.close()
    await client.left.wait()
    assert answer.status_code == 200, answer.text
    return True
