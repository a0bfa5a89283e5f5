"""The OpenAPI document as such; :mod:`tests.api.test_schemathesis` holds it against the running API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from api.metrics import RequestMetrics
from api.openapi import BODY_EXAMPLES, EXAMPLES, LINKS, operations
from api.public import create_app
from tests.api.stack import Stack

PUBLIC = {"root", "sign_up", "log_in", "refresh", "exchange"}


@pytest.fixture
async def document(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await stack.public.get("/openapi.json")).json()
    return found


def test_every_operation_has_an_id_of_its_own() -> None:
    app = create_app(None, RequestMetrics(CollectorRegistry()))  # type: ignore[arg-type]
    ids = [operation["operationId"] for _, _, operation in operations(app.openapi())]
    assert len(ids) == len(set(ids))


async def test_every_operation_tells_its_errors_and_headers(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        responses = operation["responses"]
        assert {"429", "500"} <= set(responses), (method, path)
        if operation["operationId"] not in PUBLIC:
            assert {"401", "503"} <= set(responses), (method, path)
            assert operation["security"], (method, path)
        if "requestBody" in operation:
            assert {"413", "422"} <= set(responses), (method, path)
        for status, response in responses.items():
            assert "RateLimit" in response["headers"], (method, path, status)
            if status in {"429", "503"}:
                assert "Retry-After" in response["headers"], (method, path, status)
        writes = method != "get" and operation["operationId"] not in PUBLIC
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in names) == writes, (method, path)
        assert operation["description"], (method, path)


async def test_every_list_is_paged(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if answer.get("$ref", "").endswith("PageBody"):
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert {"limit", "cursor"} <= names, (method, path)


def _fields_without_example(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for schema_name, schema in document["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            of_objects = "$ref" in str(field)
            if not of_objects and "examples" not in field and "example" not in field:
                yield schema_name, name


async def test_every_field_has_an_example(document: dict[str, Any]) -> None:
    assert list(_fields_without_example(document)) == [], "name them in api/openapi.py, EXAMPLES"


async def test_no_example_is_of_a_name_that_is_gone(document: dict[str, Any]) -> None:
    used = {name for schema in document["components"]["schemas"].values() for name in schema.get("properties", {})}
    used |= {p["name"] for _, _, operation in operations(document) for p in operation.get("parameters", [])}
    assert set(EXAMPLES) <= used
    assert set(BODY_EXAMPLES) <= set(document["components"]["schemas"])


async def test_every_link_leads_from_and_to_an_operation(document: dict[str, Any]) -> None:
    by_id = {operation["operationId"]: operation for _, _, operation in operations(document)}
    for (source, status), links in LINKS.items():
        assert status in by_id[source]["responses"], source
        for target, link in links.items():
            parameters = {parameter["name"] for parameter in by_id[target].get("parameters", [])}
            assert set(link.get("parameters", {})) <= parameters, (source, target)
            assert ("requestBody" in link) <= ("requestBody" in by_id[target]), (source, target)
