"""JSON schemas as Claude and Bedrock take them. They refuse what OpenAI takes, so it is completed and cleaned here.

* Of a tool, the root must be an object, and may not be a union: its members' properties are put together.
* Of a strict tool and of a form for the answer, every object must be closed, and no value may be limited: limits go
  into the description, where the model reads them.

Source: Anthropic's "Structured outputs" and what its SDK's `transform_schema` does; Bedrock's "Tool use" and its
ValidationException "inputSchema.json.type must be one of the following: object".
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fusewire.json import dumps

_Schema = dict[str, Any]

_UNIONS: Final = ("anyOf", "oneOf", "allOf")
_FORMATS: Final = frozenset({
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
})  # fmt: skip
_KEPT: Final = ("type", "enum", "const", "title", "default")
_LEFT_OUT: Final = frozenset({"$schema", "$id", "examples", "nullable", "propertyOrdering"})
_MAX_DEPTH: Final = 100


class SchemaError(ValueError):
    """A schema that can't be said in the vendor's part of the language; the text says what it does."""


def tool_schema(parameters: Mapping[str, Any] | None, *, strict: bool) -> _Schema:
    """A tool's parameters.

    :raises SchemaError: for a root that is no object, and for a union of more than objects
    """
    if not parameters:
        return {"type": "object", "properties": {}}
    schema = dict(parameters)
    kind = schema.get("type")
    if kind is None or kind == ["object"] or (isinstance(kind, list) and "object" in kind and "null" in kind):
        schema["type"] = "object"
    elif kind != "object":
        raise SchemaError(f"are of the type {str(kind)[:40]!r}, and no object")
    if any(union in schema for union in _UNIONS):
        if strict:
            raise SchemaError("are a union (anyOf, oneOf or allOf) and strict")
        schema = _folded(schema)
    return closed(schema) if strict else schema


def _folded(schema: _Schema) -> _Schema:
    """The root's unions as one object that takes whatever one of their members takes."""
    unions = {name: schema.pop(name) for name in _UNIONS if name in schema}
    properties: _Schema = dict(schema.get("properties") or {})
    required: list[str] = list(schema.get("required") or [])
    for name, members in unions.items():
        if not isinstance(members, list):
            raise SchemaError(f"have something else than a list as their {name}")
        objects = [_object(member, schema) for member in members]
        for each in objects:
            for key, value in (each.get("properties") or {}).items():
                properties.setdefault(key, value)
        wanted: list[set[str]] = [set(each.get("required") or ()) for each in objects]
        common = set.union(*wanted) if name == "allOf" and wanted else set.intersection(*wanted) if wanted else set()
        required += [key for key in properties if key in common and key not in required]
    return schema | {"properties": properties} | ({"required": required} if required else {})


def _object(member: object, root: _Schema) -> _Schema:
    """A member of a union; one that refers to a definition of the root is that definition."""
    if isinstance(member, dict) and isinstance(reference := member.get("$ref"), str):
        _, _, name = reference.rpartition("/")
        member = (root.get("$defs") or root.get("definitions") or {}).get(name)
    if not isinstance(member, dict) or member.get("type", "object") != "object":
        raise SchemaError("are a union of more than objects")
    return member if not any(union in member for union in _UNIONS) else _folded(dict(member))


def closed(schema: Mapping[str, Any], depth: int = 0) -> _Schema:
    """The schema with every object closed, and with what limits a value in its description.

    :raises SchemaError: for one that is nested too deeply
    """
    if depth > _MAX_DEPTH:
        raise SchemaError(f"is nested more than {_MAX_DEPTH} times")
    given = {name: value for name, value in schema.items() if name not in _LEFT_OUT}
    found: _Schema = {}
    for name in ("$defs", "definitions"):
        if isinstance(definitions := given.pop(name, None), dict):
            found[name] = {key: _inner(value, depth) for key, value in definitions.items()}
    if "$ref" in given:
        return found | {"$ref": given["$ref"]}
    found |= {name: given.pop(name) for name in _KEPT if name in given}
    for name, theirs in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if isinstance(members := given.pop(name, None), list):
            found[theirs] = [*found.get(theirs, ()), *(_inner(member, depth) for member in members)]
    if "object" in _listed(found.get("type")) or isinstance(given.get("properties"), dict):
        found |= _closed_object(given, depth)
    return found | _closed_list(given, depth) | _description(given)


def _closed_object(given: _Schema, depth: int) -> _Schema:
    """What closes an object; it is taken out of what is given."""
    properties = given.pop("properties", None)
    found: _Schema = {"properties": {key: _inner(value, depth) for key, value in (properties or {}).items()}}
    if isinstance(required := given.pop("required", None), list):
        found["required"] = required
    given.pop("additionalProperties", None)
    return found | {"additionalProperties": False}


def _closed_list(given: _Schema, depth: int) -> _Schema:
    """What is left of the limits of a list, a string's format among them; it is taken out of what is given."""
    found: _Schema = {}
    if isinstance(given.get("items"), dict):
        found["items"] = _inner(given.pop("items"), depth)
    if given.get("minItems") in (0, 1):
        found["minItems"] = given.pop("minItems")
    if given.get("format") in _FORMATS:
        found["format"] = given.pop("format")
    return found


def _description(given: _Schema) -> _Schema:
    """The description, with whatever is left of the schema in it."""
    description = given.pop("description", None)
    limits = ", ".join(f"{name}: {value if isinstance(value, str) else dumps(value)}" for name, value in given.items())
    texts = [str(text) for text in (description, f"{{{limits}}}" if limits else None) if text]
    return {"description": "\n\n".join(texts)} if texts else {}


def _inner(schema: object, depth: int) -> object:
    return closed(schema, depth + 1) if isinstance(schema, dict) else schema


def _listed(kinds: object) -> Iterable[object]:
    return kinds if isinstance(kinds, list) else (kinds,)
