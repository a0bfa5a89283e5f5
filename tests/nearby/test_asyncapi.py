"""The AsyncAPI document follows from the message types."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from nearby.asyncapi import asyncapi_document

DOCUMENT = asyncapi_document("1.2.3")


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [each for child in value.values() for each in references(child)]
    return [each for child in value for each in references(child)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    assert all(resolve(reference) for reference in references(DOCUMENT))
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_messages_of_clients_are_closed_and_those_of_the_server_open() -> None:
    for operation, closed in (("receive", True), ("send", False)):
        for message in DOCUMENT["operations"][operation]["messages"]:
            schema = resolve(resolve(resolve(message["$ref"])["$ref"])["payload"]["$ref"])
            assert (schema.get("additionalProperties") is False) is closed
            assert schema["description"]


@pytest.mark.parametrize(
    ("message", "good"),
    [
        ({"type": "location", "lat": 41.88, "lon": -87.63, "seq": 1}, True),
        ({"type": "location", "lat": 91, "lon": 0}, False),
        ({"type": "location", "lat": 1, "lon": 2, "mood": "fine"}, False),
        ({"type": "batch", "points": [{"lat": 1, "lon": 2}]}, True),
        ({"type": "batch", "points": []}, False),
        ({"type": "batch", "points": [{"lat": 1}]}, False),
        ({"type": "settings", "radius_m": 10}, False),
        ({"type": "resync"}, True),
    ],
    ids=str,
)
def test_it_tells_good_messages_of_clients_from_bad_ones(message: dict[str, Any], good: bool) -> None:
    (payload,) = [
        each["payload"] for each in DOCUMENT["components"]["messages"].values() if each["name"] == message["type"]
    ]
    validator = jsonschema.Draft202012Validator({**payload, "components": DOCUMENT["components"]})
    assert validator.is_valid(message) is good


def test_it_names_both_ways_to_write_the_messages() -> None:
    channel = DOCUMENT["channels"]["socket"]
    header = channel["bindings"]["ws"]["headers"]["properties"]["Sec-WebSocket-Protocol"]
    assert set(header["enum"]) == {"nearby.v1.json", "nearby.v1.msgpack"}
    assert channel["x-content-types"] == {
        "nearby.v1.json": "application/json",
        "nearby.v1.msgpack": "application/vnd.msgpack",
    }
    assert all(content_type in channel["description"] for content_type in channel["x-content-types"].values())
