"""The OpenAPI document: well formed, and about exactly the routes that are declared."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from fusewire.ai.schema import ChatRequest, EmbeddingRequest
from fusewire.http import headers
from fusewire.http.openapi.document import document
from fusewire.http.routes import ROUTES

DOCUMENT = document()
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def parts(node: object, place: str = "#") -> Iterator[tuple[str, Any]]:
    yield place, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from parts(value, f"{place}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from parts(value, f"{place}/{number}")


def test_it_lists_exactly_the_declared_routes() -> None:
    assert {(method.upper(), path) for path, method, _ in OPERATIONS} == {
        (r.method, r.path.replace("+}", "}")) for r in ROUTES
    }


def test_it_is_json_and_says_what_it_is() -> None:
    assert json.loads(json.dumps(DOCUMENT, allow_nan=False)) == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"]


def test_every_reference_leads_somewhere() -> None:
    references = [(place, node["$ref"]) for place, node in parts(DOCUMENT) if isinstance(node, dict) and "$ref" in node]
    assert references
    for place, reference in references:
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in found, f"{place}: {reference}"
            found = found[step]


def test_every_schema_that_is_defined_is_used() -> None:
    used = {node["$ref"] for _, node in parts(DOCUMENT) if isinstance(node, dict) and "$ref" in node}
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert schemas == {each for each in used if each.startswith("#/components/schemas/")}


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[f"{m} {p}" for p, m, _ in OPERATIONS])
def test_an_operation_is_well_formed(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert re.fullmatch(r"[a-zA-Z]\w*", operation["operationId"])
    assert {"200", "201"} & set(operation["responses"])
    for status, response in operation["responses"].items():
        assert re.fullmatch(r"[1-5]\d\d", status)
        assert response["description"]
        assert all("schema" in content for content in response["content"].values())
    for parameter in operation.get("parameters", ()):
        assert parameter["in"] in {"query", "header", "path"}
        assert parameter["name"]
        assert parameter["schema"]
    declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
    assert declared == set(re.findall(r"{(\w+)}", path))
    assert ("requestBody" in operation) == (method in {"post", "patch", "put"})
    if "requestBody" in operation:
        assert operation["requestBody"]["content"]["application/json"]["schema"]


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("model", [ChatRequest, EmbeddingRequest])
def test_requests_are_described_by_the_models_that_check_them(
    model: type[ChatRequest] | type[EmbeddingRequest],
) -> None:
    schema = DOCUMENT["components"]["schemas"][model.__name__]
    assert set(schema["properties"]) == set(model.model_fields)
    assert schema["additionalProperties"] is False


def test_keywords_are_those_of_json_schema_2020_12() -> None:
    for place, node in parts(DOCUMENT):
        if isinstance(node, dict) and "/schema" in place and not place.endswith("/properties"):
            assert "nullable" not in node, place
            assert not isinstance(node.get("exclusiveMinimum"), bool), place
            assert not isinstance(node.get("items"), list), place


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[f"{m} {p}" for p, m, _ in OPERATIONS])
def test_a_route_says_which_keys_it_takes(path: str, method: str, operation: dict[str, Any]) -> None:
    statuses = set(operation["responses"])
    if path in {route.path for route in ROUTES if route.access == "everybody"}:
        assert operation["security"] == []
        assert not {"401", "403"} & statuses
    else:
        assert "security" not in operation, "the document's own holds"
        assert "401" in statuses
        assert "403" in statuses
    assert {name for each in DOCUMENT["security"] for name in each} == set(DOCUMENT["components"]["securitySchemes"])


def test_every_header_is_described_once_and_named_where_it_may_be() -> None:
    described = DOCUMENT["components"]["headers"]
    assert set(described) == {header.name for header in headers.ALL} == set(headers.EXPOSED)
    named: dict[str, set[str]] = {}
    for path, _, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            assert headers.REQUEST_ID.name in response["headers"], (path, status)
            for name in response["headers"]:
                named.setdefault(name, set()).add(path if status < "300" else status)
    calls = {route.path for route in ROUTES if route.makes_calls}
    assert all(named[header.name] == calls for header in headers.CALL)
    assert all(named[header.name] == calls | {"429"} for header in headers.RATE_LIMIT)
    assert set(described) == set(named)
