"""docs/runbooks/mass-revocation.md, followed on people with live sockets on two gateways."""

from __future__ import annotations

from pathlib import Path

from nearby.close_codes import CloseCode
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.light_clients import LightClient
from tests.support.people import Person, sign_up
from tests.support.runbook import following
from tests.support.stack import Stack, running_stack

ENDED_WITHIN_S = 5


async def test_those_named_and_then_everybody_lose_their_sockets_and_tokens_within_five_seconds(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path) as stack,
        NearbyApi(stack.api_url) as api,
        following("mass-revocation.md", stack) as reader,
    ):
        people = [await sign_up(api) for _ in range(6)]
        clients = [await connected(stack, number, person) for number, person in enumerate(people)]
        handles = [(await person.account.me()).handle for person in people[:2]]
        (stack.data_dir.parent / "users.txt").write_text(f"{handles[0]}\n{people[1].user_id}\n")
        await reader.follow("")
        assert (await reader.follow("Check")).startswith("2\n")

        await reader.follow("Act: these people")
        await eventually(lambda: all(client.closes for client in clients[:2]), ENDED_WITHIN_S)
        assert [client.is_open for client in clients] == [False, False, True, True, True, True]

        said = await reader.follow("Act: everybody")
        assert "6 users" in said
        await eventually(lambda: all(client.closes for client in clients), ENDED_WITHIN_S)
        assert {code for client in clients for code in client.closes} == {CloseCode.NOT_ALLOWED}
        await reader.follow("Verify")


async def connected(stack: Stack, number: int, person: Person) -> LightClient:
    token = person.account.access_token
    assert token is not None
    client = LightClient(token)
    await client.connect(stack.gateways[number % 2].ws_url)
    return client
