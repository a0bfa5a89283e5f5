"""From signing up to the first friend on the map, as a newcomer would who has nothing but the OpenAPI document.

Paths, methods, bodies, headers and what to do with an answer are all taken from ``/openapi.json``; only the ids of the
operations, which its description names in order, are known beforehand.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
import websockets
from websockets.typing import Subprotocol

from tests.support.eventually import eventually
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]


class Newcomer:
    """Somebody who reads the document, and calls what it describes."""

    def __init__(self, http: httpx.AsyncClient, document: Json) -> None:
        self._http = http
        self._document = document
        self._operations = {
            operation["operationId"]: (method, path, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
        }
        self.token = ""

    def example_body(self, operation_id: str) -> Json:
        """The body that the document's examples make, required fields only."""
        _, _, operation = self._operations[operation_id]
        schema = self._schema(operation["requestBody"]["content"]["application/json"]["schema"])
        if "examples" in schema:
            return dict(schema["examples"][0])
        return {name: schema["properties"][name]["examples"][0] for name in schema.get("required", [])}

    def follow(self, operation_id: str, target: str, sent: Json, answer: Json) -> Json:
        """The body for ``target`` that the link to it, at the success of ``operation_id``, says to take."""
        _, _, operation = self._operations[operation_id]
        (links,) = (response["links"] for response in operation["responses"].values() if "links" in response)
        found = {"$request.body#": sent, "$response.body#": answer}
        body = {}
        for name, expression in links[target]["requestBody"].items():
            source, _, field = expression.rpartition("/")
            body[name] = found[source][field]
        return body

    async def call(self, operation_id: str, body: Json | None = None) -> Json:
        """Call an operation, with the token where the document asks for one; the answer must be one it promises."""
        method, path, operation = self._operations[operation_id]
        headers = {"Authorization": f"Bearer {self.token}"} if "security" in operation else {}
        answer = await self._http.request(method.upper(), path, json=body, headers=headers)
        assert str(answer.status_code) in operation["responses"], answer.text
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found

    def socket(self) -> Json:
        """What the document says about the socket."""
        found: Json = self._operations["gateway"][2]["x-websocket"]
        return found

    def _schema(self, reference: Json) -> Json:
        schema: Json = self._document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
        return schema

    async def arrive(self) -> Json:
        """Sign up under a handle of one's own, and log in by the link that follows."""
        body = self.example_body("sign_up") | {"handle": f"n_{uuid.uuid4().hex[:20]}"}
        person = await self.call("sign_up", body)
        tokens = await self.call("log_in", self.follow("sign_up", "log_in", body, person))
        self.token = tokens["access_token"]
        return person


async def test_from_signing_up_to_the_first_friend_on_the_map(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False, timeout=30) as http:
        links = (await http.get("/")).json()["links"]
        document = (await http.get(links["openapi"])).json()
        for step in ("sign_up", "log_in", "create_invite", "accept_invite", "gateway", "nearby"):
            assert f"`{step}`" in document["info"]["description"]
        ann, ben = Newcomer(http, document), Newcomer(http, document)
        ann_is, ben_is = await ann.arrive(), await ben.arrive()

        wish = ann.example_body("create_invite")
        invite = await ann.call("create_invite", wish)
        accepted = await ben.call("accept_invite", ann.follow("create_invite", "accept_invite", wish, invite))
        assert accepted["user_id"] == ann_is["user_id"]

        socket = ann.socket()
        name, _, value = socket["authorization"].partition(": ")
        protocol = [Subprotocol(socket["subprotocol"])]
        urls = [(await newcomer.call("gateway"))["url"] for newcomer in (ann, ben)]
        sockets = [
            websockets.connect(
                url,
                additional_headers={name: value.replace("ACCESS_TOKEN", newcomer.token)},
                subprotocols=protocol,
                proxy=None,
            )
            for url, newcomer in zip(urls, (ann, ben), strict=True)
        ]
        async with sockets[0] as of_ann, sockets[1] as of_ben:
            for each in (of_ann, of_ben):
                await each.send(json.dumps(socket["first_message"]))

            async def shown() -> bool:
                message = json.loads(await of_ann.recv())
                assert message["type"] in socket["answers"], message
                return ben_is["user_id"] in {friend["user_id"] for friend in message.get("friends", [])}

            await eventually(shown, within_s=60)
            nearby = await ben.call("nearby")
            assert [friend["user_id"] for friend in nearby["friends"]] == [ann_is["user_id"]]
