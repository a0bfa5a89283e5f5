"""The whole stack on PostgreSQL in place of SQLite, while it lives and while it does not (fault F16)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import websockets
from websockets.typing import Subprotocol

from nearby.close_codes import CloseCode
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.gauges import metrics
from tests.support.people import befriend, sign_up
from tests.support.postgresql import PostgresServer
from tests.support.stack import ANY_PORTS, Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = (41.8800, -87.6300)
NORTH_190_M = (41.88171, -87.6300)
NORTH_200_M = (41.8818, -87.6300)
PASSWORD_OF_DATABASE = "hunter2-of-the-database"
HEALED_WITHIN_S = 60
PROTOCOLS = [Subprotocol("nearby.v1.json")]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with closing(PostgresServer()) as started:
        started.start()
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    # The server trusts whoever comes; the password is there to be looked for afterwards.
    url = server.url(server.create_database()).replace("postgres@", f"postgres:{PASSWORD_OF_DATABASE}@")
    environ = {"NEARBY_DATABASE_URL": url, "NEARBY_DATABASE_TIMEOUT_S": "1"}
    async with running_stack(tmp_path_factory.mktemp("stack"), environ, ANY_PORTS) as running:
        yield running


async def test_friends_meet_and_part(stack: Stack, api: NearbyApi) -> None:
    assert not (stack.data_dir / "users.sqlite").exists()
    anna, ben = await sign_up(api), await sign_up(api)
    await befriend(anna, ben)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 200} and ben.map == {anna.user_id: 200}, within_s=30)
        await anna.account.remove_friend(ben.user_id)
        await eventually(lambda: anna.map == ben.map == {}, within_s=30)


async def test_F16_without_its_database_the_stack_goes_on_for_who_is_connected_and_says_503_and_1013(
    stack: Stack, server: PostgresServer, api: NearbyApi
) -> None:
    anna, ben, cleo = [await sign_up(api) for _ in range(3)]
    await befriend(anna, ben)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    async with anna.online(one), ben.online(other):
        anna.client.report(*HERE)
        ben.client.report(*NORTH_190_M)
        # Whoever has not got this far needs the database.
        await eventually(lambda: anna.map == {ben.user_id: 190} and ben.map == {anna.user_id: 190}, within_s=30)
        server.kill()
        headers = {"Authorization": f"Bearer {await cleo.account.token()}"}
        async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, trust_env=False) as http:
            answer = await http.get("/v1/friends", timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        async with websockets.connect(one, additional_headers=headers, subprotocols=PROTOCOLS) as newcomer:
            async with asyncio.timeout(30):
                await newcomer.wait_closed()
            assert newcomer.close_code == CloseCode.TRY_AGAIN_LATER
        assert (await metrics(stack.gateways[0]))['arrivals_total{end="unavailable"}'] == 1
        ben.client.report(*NORTH_200_M)
        await eventually(lambda: anna.map == {ben.user_id: 200}, within_s=30)
        server.start()

        async def healed() -> bool:
            async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, trust_env=False) as http:
                return (await http.get("/v1/friends", timeout=30)).status_code == 200

        await eventually(healed, within_s=HEALED_WITHIN_S)
        await befriend(cleo, anna)
        async with cleo.online(other):
            cleo.client.report(*HERE)
            await eventually(lambda: anna.user_id in cleo.map, within_s=30)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_the_password_of_the_database_is_in_no_log_and_reaches_the_api_alone(stack: Stack) -> None:
    written = [path.read_text() for path in ((stack.data_dir / "logs").iterdir())]
    written += [stack.output, (stack.data_dir / "stack.json").read_text()]
    assert not [text for text in written if PASSWORD_OF_DATABASE in text]
    informed = [name for name, pid in stack.pids.items() if PASSWORD_OF_DATABASE.encode() in _environment_of(pid)]
    assert informed == ["api"]


def _environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()
