"""Schemas as Claude and Bedrock take them: completed, put together, closed; and never larger than their bound."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.counting import TOKENS_FOR_TOOLS
from fusewire.ai.providers.json_schemas import SchemaError, closed, tool_schema
from fusewire.ai.schema import ChatRequest
from fusewire.json import dumps

OBJECT: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
OTHER: dict[str, Any] = {
    "type": "object",
    "properties": {"b": {"type": "string"}, "a": {"type": "null"}},
    "required": ["a", "b"],
}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object"}),
        ({"type": ["object", "null"]}, {"type": "object"}),
        ({"properties": {}}, {"type": "object", "properties": {}}),
        (OBJECT, OBJECT),
        (
            {"anyOf": [OBJECT, OTHER]},
            {"properties": OBJECT["properties"] | {"b": {"type": "string"}}, "required": ["a"], "type": "object"},
        ),
        (
            {"allOf": [OBJECT, OTHER]},
            {"properties": OBJECT["properties"] | {"b": {"type": "string"}}, "required": ["a", "b"], "type": "object"},
        ),
        ({"oneOf": [{"anyOf": [OBJECT]}]}, OBJECT),
        ({"anyOf": []}, {"type": "object", "properties": {}}),
    ],
)
def test_a_tools_parameters(given: dict[str, Any] | None, made: dict[str, Any]) -> None:
    before = json.dumps(given)
    assert tool_schema(given, strict=False) == made
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    "given",
    [
        {"type": "array"},
        {"type": ["string", "object"]},
        {"anyOf": [{"type": "string"}]},
        {"anyOf": [OBJECT, True]},
        {"anyOf": OBJECT},
        {"anyOf": [{"$ref": "#/$defs/nowhere"}]},
    ],
)
def test_parameters_that_are_no_object(given: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        tool_schema(given, strict=False)


def test_a_strict_union_is_refused_and_endless_nesting_too() -> None:
    with pytest.raises(SchemaError):
        tool_schema({"anyOf": [OBJECT]}, strict=True)
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(SchemaError):
        closed(deep)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"type": "integer", "minimum": 1}, {"type": "integer", "description": "{minimum: 1}"}),
        (
            {"type": "string", "pattern": "^a$", "description": "A."},
            {"type": "string", "description": "A.\n\n{pattern: ^a$}"},
        ),
        ({"type": "string", "format": "email"}, {"type": "string", "format": "email"}),
        ({"type": "string", "format": "color"}, {"type": "string", "description": "{format: color}"}),
        (
            {"type": "array", "items": OBJECT, "minItems": 1},
            {"type": "array", "items": OBJECT | {"additionalProperties": False}, "minItems": 1},
        ),
        ({"oneOf": [{"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
        ({"enum": ["a", 1], "title": "T"}, {"enum": ["a", 1], "title": "T"}),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}},
            {"$defs": {"A": {"type": "object", "properties": {}, "additionalProperties": False}}, "$ref": "#/$defs/A"},
        ),
        (
            {"type": ["object", "null"], "additionalProperties": {}},
            {"type": ["object", "null"], "properties": {}, "additionalProperties": False},
        ),
    ],
)
def test_an_answers_form(given: dict[str, Any], made: dict[str, Any]) -> None:
    assert closed(given) == made


_leaves = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "object", "array", "integer"]),
        "minimum": st.integers(),
        "pattern": st.text(max_size=9),
        "not": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
        "description": st.text(max_size=9),
        "enum": st.lists(st.text(max_size=4), max_size=3),
    },
)
_schemas = st.recursive(
    _leaves,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("object"),
            "properties": st.dictionaries(st.text(max_size=5), inner, max_size=3),
            "anyOf": st.lists(inner, max_size=3),
            "$defs": st.dictionaries(st.text(max_size=5), inner, max_size=2),
            "items": inner,
            "additionalProperties": st.booleans(),
        },
    ),
    max_leaves=12,
)


@given(schema=_schemas, strict=st.booleans())
def test_what_is_made_of_a_schema_is_within_the_bound_of_its_request(schema: dict[str, Any], strict: bool) -> None:
    function = {"name": "f", "parameters": schema, "strict": strict}
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}, closed(schema)),
    ]
    try:
        asked.append(({"tools": [{"type": "function", "function": function}]}, tool_schema(schema, strict=strict)))
    except SchemaError:
        pass
    without = bound({}) + TOKENS_FOR_TOOLS
    for fields, made in asked:
        assert len(dumps(made).encode()) <= bound(fields) - without


def bound(fields: dict[str, Any]) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return chat_input_bound(ChatRequest.model_validate_json(json.dumps(body)))


def test_a_form_of_many_objects_is_within_its_bound() -> None:
    schema = {"type": "object", "properties": {str(n): {"type": "object", "maxProperties": n} for n in range(100)}}
    fields = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}
    assert len(dumps(closed(schema)).encode()) <= bound(fields) - bound({}) - TOKENS_FOR_TOOLS
