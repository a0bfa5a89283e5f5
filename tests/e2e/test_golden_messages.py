"""S8: every message the server can send, captured from the running system: its exact shape, and that it is documented.

What varies from run to run stands as its kind. A field that appears or goes changes ``golden_messages.json``, by hand.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
import pytest_asyncio
import websockets

from nearby.codecs import CODECS, JSON, Codec
from nearby.model import UserId
from nearby.settings import parse_keys
from nearby_client import NearbyApi
from tests.e2e.test_friends_on_the_map import two_friends
from tests.support.eventually import eventually
from tests.support.people import Person
from tests.support.sharing import rules_at
from tests.support.stack import Stack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("golden")]

GOLDEN = Path(__file__).parent / "golden_messages.json"
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
HERE = {"lat": 41.88, "lon": -87.63}


class Phone:
    """A client on a bare socket, which keeps every message by its type, the last of each form."""

    def __init__(self, socket: websockets.ClientConnection, codec: Codec) -> None:
        self._codec = codec
        self.messages: list[dict[str, Any]] = []
        self._socket = socket

    async def listen(self) -> None:
        async for frame in self._socket:
            assert isinstance(frame, bytes) is self._codec.binary
            self.messages.append(json.loads(frame) if self._codec is JSON else msgspec.msgpack.decode(frame))  # type: ignore[arg-type]

    async def say(self, **message: Any) -> None:
        await self._socket.send(self._codec.encode(message), text=not self._codec.binary)

    def found(self, **fields: Any) -> dict[str, Any] | None:
        """The last message with these fields, each of which may be a predicate."""
        for message in self.messages[::-1]:
            if all(
                want(message.get(name)) if callable(want) else message.get(name) == want
                for name, want in fields.items()
            ):
                found: dict[str, Any] = message
                return found
        return None

    async def gets(self, **fields: Any) -> dict[str, Any]:
        await eventually(lambda: self.found(**fields), within_s=20)
        found = self.found(**fields)
        assert found is not None
        return found


@asynccontextmanager
async def phone(url: str, token: str, codec: Codec) -> AsyncIterator[Phone]:
    headers = {"Authorization": f"Bearer {token}"}
    subprotocols = [websockets.Subprotocol(codec.name)]
    async with websockets.connect(url, additional_headers=headers, subprotocols=subprotocols, proxy=None) as socket:
        client = Phone(socket, codec)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(client.listen())
            try:
                yield client
            finally:
                listening.cancel()


def kind(name: str, value: Any) -> Any:
    """Return ``value`` with what varies replaced by its kind."""
    if isinstance(value, dict):
        return {key: kind(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [kind(name, each) for each in value]
    if name.endswith("_ms") and isinstance(value, int):
        return "<ms>"
    if isinstance(value, str) and UUID.fullmatch(value):
        return "<uuid>"
    return "<id>" if name == "connection_id" else value


def token_ending_in(stack: Stack, person: Person, seconds: int) -> str:
    secrets = json.loads((stack.data_dir / "secrets.json").read_text())
    keys = parse_keys(secrets["NEARBY_TOKEN_KEYS"])
    return keys.issue(UserId(person.user_id), time.time_ns() // 1_000_000, seconds)


async def capture(stack: Stack, api: NearbyApi, codec: Codec, others: asyncio.Barrier) -> dict[str, dict[str, Any]]:
    """Have the server send one message of each form; return them by name. It drains when the ``others`` are as far."""
    anna, ben = await two_friends(api)
    one, other = (gateway.ws_url for gateway in stack.gateways)
    got: dict[str, dict[str, Any]] = {}
    async with (
        rules_at(stack.api_url) as rules,
        phone(one, token_ending_in(stack, anna, 62), codec) as annas,
        phone(other, token_ending_in(stack, ben, 600), codec) as bens,
    ):
        got["welcome"] = await annas.gets(type="welcome")
        await annas.say(type="location", seq=1, **HERE)
        got["ack of a location"] = await annas.gets(type="ack", seq=1)
        got["snapshot, empty"] = await annas.gets(type="snapshot", friends=[])
        await bens.say(type="location", accuracy_m=8, speed_mps=1.5, heading_deg=90, **HERE)
        got["update, an exact friend"] = await annas.gets(type="update", friends=bool)
        await annas.say(type="resync")
        got["snapshot, an exact friend"] = await annas.gets(type="snapshot", friends=bool)
        await rules.towards(ben, anna, "approximate")
        got["update, an approximate friend"] = await annas.gets(
            type="update", friends=lambda friends: friends and friends[0]["precision"] == "approximate"
        )
        await rules.towards(ben, anna, "off", openly=True)
        got["update, gone"] = await annas.gets(type="update", gone=bool)
        await annas.say(type="batch", seq=2, points=[HERE, {"lat": 91, "lon": 0}])
        got["ack of a batch"] = await annas.gets(type="ack", seq=2)
        await annas.say(type="ping", id="p")
        got["pong"] = await annas.gets(type="pong")
        await annas.say(type="location", lat=1, seq=3)
        got["error"] = await annas.gets(type="error", seq=3)
        await anna.account.remove_friend(ben.user_id)
        got["friends_changed"] = await annas.gets(type="friends_changed")
        got["token_expiring"] = await annas.gets(type="token_expiring")
        await annas.say(type="auth", token=token_ending_in(stack, anna, 600))
        got["auth_ok"] = await annas.gets(type="auth_ok")
        if await others.wait() == 0:
            await drain(stack)
        got["reconnect"] = await annas.gets(type="reconnect")
    return got


async def drain(stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"Authorization": f"Bearer {stack.admin_token}"}
        answer = await http.post(f"{stack.gateways[0].admin_url}/admin/v1/drain", headers=headers, json={})
        assert answer.status_code == 202, answer.text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(stack: Stack) -> dict[str, dict[str, dict[str, Any]]]:
    """What was captured in each codec, by its name."""
    barrier = asyncio.Barrier(len(CODECS))
    async with NearbyApi(stack.api_url) as api, asyncio.TaskGroup() as tasks:
        captures = {name: tasks.create_task(capture(stack, api, codec, barrier)) for name, codec in CODECS.items()}
    return {name: captured.result() for name, captured in captures.items()}


@pytest.fixture(params=CODECS)
def captured(both: dict[str, dict[str, dict[str, Any]]], request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return both[request.param]


@pytest_asyncio.fixture(loop_scope="module")
async def document(stack: Stack) -> Any:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http:
        return (await http.get("/asyncapi.json")).json()


async def test_S8_every_message_is_as_it_always_was_and_holds_nothing_else(captured: dict[str, dict[str, Any]]) -> None:
    found = {name: kind("", message) for name, message in captured.items()}
    assert found == json.loads(GOLDEN.read_text()), json.dumps(found, indent=2)


async def test_S8_every_message_conforms_to_the_asyncapi_document_with_all_its_schemas_closed(
    captured: dict[str, dict[str, Any]], document: Any
) -> None:
    schemas = copy.deepcopy(document["components"]["schemas"])
    for schema in schemas.values():
        schema["additionalProperties"] = False
    by_type = {message["name"]: message["payload"] for message in document["components"]["messages"].values()}
    for name, message in captured.items():
        schema = {**by_type[message["type"]], "components": {"schemas": schemas}}
        jsonschema.Draft202012Validator(schema).validate(message)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate({**message, "e_mail": "anna@example.com"})
        assert name.split(",")[0].split(" ")[0] == message["type"]


async def test_S8_every_message_that_the_server_may_send_was_captured(
    captured: dict[str, dict[str, Any]], document: Any
) -> None:
    names = [reference["$ref"].rsplit("/", 1)[1] for reference in document["operations"]["send"]["messages"]]
    documented = {document["components"]["messages"][name]["name"] for name in names}
    assert documented == {message["type"] for message in captured.values()}
