"""The logs of a whole stack that says all it can be made to say: JSON, and nothing private in any (S11)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx

from http_port.logs import UserHash
from nearby.settings import Secret
from nearby_client import NearbyApi
from tests.support.eventually import eventually
from tests.support.people import PASSWORD, befriend, sign_up
from tests.support.stack import ANY_PORTS, Stack, running_stack

LAT, LON = 41.8812345, -87.6254321
KEY = "the key of users in logs"
SETTINGS = {"NEARBY_LOG_FORMAT": "json", "NEARBY_LOG_LEVEL": "debug", "NEARBY_LOG_USER_KEY": KEY}
OURS = ("gw-1", "gw-2", "api", "writer-1", "keeper-1")


async def test_S11_lines_are_json_about_connections_and_name_no_token_place_or_user(tmp_path: Path) -> None:
    async with running_stack(tmp_path, SETTINGS, ANY_PORTS) as stack, NearbyApi(stack.api_url) as api:
        anna, ben = await sign_up(api), await sign_up(api)
        await befriend(anna, ben)
        here, there = stack.gateways
        async with anna.online(here.ws_url), ben.online(there.ws_url):
            anna.client.report(LAT, LON)
            ben.client.report(LAT, LON)
            await eventually(lambda: anna.user_id in ben.map and ben.user_id in anna.map, within_s=10)
        tokens = [await person.account.token() for person in (anna, ben)]
        await _over_rest(stack, tokens[0])
        await eventually(lambda: "closed with" in stack.log("gw-1") and "closed with" in stack.log("gw-2"))
    logs = {name: stack.log(name) for name in OURS}
    private = ["41.8812", "87.6254", PASSWORD, stack_key(tokens[0]), stack_key(tokens[1])]
    for name, text in logs.items():
        entries = [json.loads(line) for line in text.splitlines()]
        assert all({"time", "level", "logger", "message"} <= entry.keys() for entry in entries), name
        assert [secret for secret in private if secret in text] == [], name
    user_hash = UserHash(Secret(KEY))
    for name, person in (("gw-1", anna), ("gw-2", ben)):
        about = [entry for entry in map(json.loads, logs[name].splitlines()) if "connection_id" in entry]
        assert [entry["message"].split()[0] for entry in about] == ["arrives", "closed"]
        assert {entry["user"] for entry in about} == {user_hash(person.user_id)}
        assert len({entry["connection_id"] for entry in about}) == 1
        assert person.user_id not in logs[name]


def stack_key(token: str) -> str:
    """Return the part of a token that nobody else's has."""
    return token.rsplit(".", 1)[1]


async def _over_rest(stack: Stack, token: str) -> None:
    """Report, look around and read one's past, as an app without a socket does."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, trust_env=False) as http:
        now_ms = time.time_ns() // 1_000_000
        location = {"lat": LAT, "lon": LON, "recorded_at_ms": now_ms}
        assert (await http.post("/v1/locations", json={"location": location})).status_code == 200
        assert (await http.get("/v1/nearby")).status_code == 200
        span = {"from_ms": now_ms - 60_000, "to_ms": now_ms + 60_000}
        assert (await http.get("/v1/me/history", params=span)).status_code == 200
