"""The OpenAPI 3.1 document: the routes, headers and models that serve the requests, described."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from fusewire import VERSION
from fusewire.ai.permissions import CLASSIFICATIONS
from fusewire.http import headers
from fusewire.http.call_limits import MAX_COST_PATTERN
from fusewire.http.openapi.errors import errors_of
from fusewire.http.route import Route, named
from fusewire.http.routes import COUNT_TOKENS, RESPONSES, ROUTES

_REF: Final = "#/components/schemas/{model}"
_ERRORS: Final = {"openai": "http.errors:Error", "anthropic": "http.messages.errors:AnthropicError"}
_SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's SDKs send it."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's SDKs send it."},
}
_CLASSIFICATION: Final = {
    "name": headers.CLASSIFICATION,
    "in": "header",
    "schema": {"enum": list(CLASSIFICATIONS), "default": "internal"},
}
_OWN_LIMITS: Final = (
    {
        "name": headers.OUTPUT_CAP,
        "in": "header",
        "description": "strict: no smaller output cap is sent than the one that was asked for.",
        "schema": {"enum": ["fit", "strict"], "default": "fit"},
    },
    {
        "name": headers.MAX_COST,
        "in": "header",
        "description": "USD that the call may cost at most, over all its attempts.",
        "schema": {"type": "string", "pattern": MAX_COST_PATTERN},
    },
)
_TEXTS: Final = {
    "text/event-stream": {"description": "Server-sent events, as the format's own API reference has them."},
    "text/csv": {"type": "string"},
}


def document() -> dict[str, Any]:
    """The whole document, ready for JSON."""
    schemas, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path.replace("+}", "}"), {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fusewire",
            "version": VERSION,
            "description": (
                "An AI gateway whose budget cannot be overrun. The routes of vendors' APIs are at /v1/... too."
            ),
        },
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _SECURITY_SCHEMES],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "headers": {
                header.name: {"description": header.description, "schema": {"type": "string"}} for header in headers.ALL
            },
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _schemas() -> tuple[Mapping[str, Any], dict[str, Any]]:
    """By each model's reference its schema, and the definitions that these refer to."""
    bodies = {route.body for route in ROUTES if route.body}
    answers = {each for route in ROUTES for each in (route.response, route.unavailable) if each} | {*_ERRORS.values()}
    inputs = [(reference, "validation", TypeAdapter(named(reference))) for reference in sorted(bodies)]
    outputs = [(reference, "serialization", TypeAdapter(named(reference))) for reference in sorted(answers)]
    schemas, definitions = TypeAdapter.json_schemas([*inputs, *outputs], ref_template=_REF)  # type: ignore[list-item]
    return {reference: schema for (reference, _), schema in schemas.items()}, definitions.get("$defs", {})


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.operation_id, "summary": route.summary}
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": schemas[route.body]}}
        operation["requestBody"] = {"required": not route.empty_body, "content": content}
    content = {"application/json": {"schema": schemas[route.response]}}
    if route.also:
        content[route.also] = {"schema": _TEXTS[route.also]}
    operation["responses"] = {
        str(route.status): {"description": "As asked.", "headers": _headers(route), "content": content}
    }
    for status, error in errors_of(route).items():
        kinds = [schemas[_ERRORS[kind]] for kind in error.formats]
        if status == 503 and route.unavailable:
            kinds.insert(0, schemas[route.unavailable])
        operation["responses"][str(status)] = {
            "description": error.description,
            "headers": _headers(route, status),
            "content": {"application/json": {"schema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}},
        }
    if route.access == "everybody":
        operation["security"] = []
    return operation


def _headers(route: Route, error: int | None = None) -> dict[str, Any]:
    """:param error: the status of an error; None for an answer"""
    found: list[headers.ResponseHeader[Any]] = [headers.REQUEST_ID]
    if route.error_format == "anthropic":
        found.append(headers.ANTHROPIC_REQUEST_ID)
    if error is not None:
        found += headers.ERROR
    elif route.makes_calls:
        found += headers.CALL
    elif route is COUNT_TOKENS:
        found.append(headers.TOKEN_COUNT)
    if error == 429 or (error is None and route.makes_calls):
        found += headers.RATE_LIMIT
    if error == 429 and route is RESPONSES:
        found.append(headers.CODEX_MESSAGE)
    return {header.name: {"$ref": f"#/components/headers/{header.name}"} for header in found}


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)\+?}", route.path)
    ]
    if route.query is not None:
        model: type[BaseModel] = named(route.query)
        properties = model.model_json_schema()["properties"]
        parameters += [_in_query(name, schema) for name, schema in properties.items()]
    if route.makes_calls:
        return [*parameters, _CLASSIFICATION, *_OWN_LIMITS]
    return [*parameters, _CLASSIFICATION] if route is COUNT_TOKENS else parameters


def _in_query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    # What is null in the model is left out of a query string.
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    kind = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    shown = {key: value for key, value in kind.items() if key != "title" and value != []}
    style = {"style": "form", "explode": False} if shown.get("type") == "array" else {}
    return {"name": name, "in": "query", "schema": shown} | style
