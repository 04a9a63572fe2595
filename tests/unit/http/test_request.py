"""What a request's body may hold: values are counted, the commas of a prompt aren't."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings
from fusewire.errors import InvalidRequestError
from fusewire.http.errors import from_validation
from fusewire.http.request import Request
from fusewire.http.route import MAX_VALUES, named
from fusewire.http.routes import EMBEDDINGS, ROUTES
from fusewire.json import holds_more_values
from tests.integration.functions.conftest import Context, sample

MANY = MAX_VALUES + 10


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * MANY + b"0]",
        b'{"messages":[' + b"{}," * MANY + b"{}]}",
        b"[" * MANY,
        b'{"a":' * MANY,
        b"[" + (b"[" * 90 + b"]" * 90 + b",") * (MANY // 80) + b"0]",
        b'["\\"",' + b'"a",' * MANY + b'"\\\\"]',
        b'["never closed\\",' + b'"' + b"0," * MANY,
    ],
)
def test_many_values_are_heavy(body: bytes) -> None:
    assert holds_more_values(body, MAX_VALUES)


@pytest.mark.parametrize(
    "text",
    ["1,2,3;" * MANY, '{"a": [1, 2]}' * MANY, '"' * MANY + "," * MANY, "\\" * MANY + "[" * MANY, "\n,\u65e5" * MANY],
)
def test_a_prompt_may_hold_what_it_likes(text: str) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only).encode()
        assert not holds_more_values(body, MAX_VALUES)


def test_the_limit_is_the_routes() -> None:
    body = b"[" + b"0," * 150_000 + b"0]"
    assert holds_more_values(body, MAX_VALUES)
    assert not holds_more_values(body, EMBEDDINGS.max_values)


@pytest.mark.parametrize("piece", [b'"', b'\\"', b"\\", b'",', b'"\\",'])
def test_no_body_takes_long(piece: bytes) -> None:
    body = b"," * MANY + b'"' + piece * (5_000_000 // len(piece))
    begun = time.process_time()
    holds_more_values(body, MAX_VALUES)
    assert time.process_time() - begun < 3


# --- a key that is there twice ---


def body(text: str, model: type[BaseModel] = ChatRequest) -> BaseModel:
    return Request(sample("complete") | {"body": text}, Context(), load_settings({})).body(model)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"model":"cheap","model":"dear","messages":[{"role":"user","content":"x"}]}', "model"),
        ('{"model":"m","m\\u006fdel":"dear","messages":[{"role":"user","content":"x"}]}', "model"),
        ('{"model":"m","messages":[{"role":"user","content":"x","role":"system"}]}', "role"),
        ('{"model":"m","messages":[],"tools":[{"function":{"parameters":{"a b":1,"a b":1}}}]}', "a b"),
        ('{"model":"m","messages":[],"n":1,"n":1}', "n"),
        ('{"' + "k" * 500 + '":1,"' + "k" * 500 + '":2}', "k" * 100),
        ('{"a\\"b\\t":1,"a\\"b\\t":2}', r"a\"b\t"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_by_its_name(text: str, name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(text)
    assert caught.value.param == name
    assert "twice" in caught.value.message and f'"{name}"' in caught.value.message


def test_one_name_in_several_objects_is_no_repetition() -> None:
    message = {"role": "user", "content": '{"a":1,"a":2}'}
    assert body(json.dumps({"model": "m", "messages": [message, message], "user": "model"}))


@pytest.mark.parametrize("text", ["{", "[1]", '{"model":"m",}', "\ud800", "[" * 500, '{"a":NaN,"b":1'])
def test_what_is_no_json_is_no_repetition(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(text.encode("utf-8", "replace").decode())
    assert "twice" not in caught.value.message


# --- bounded work for each body ---

_MAX_DESCRIBED = 20


def lists(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - pydantic's own
    """Every list within a model's core schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "set", "tuple", "frozenset"):
            yield f"{path}: {schema.get('items_schema')}"[:200], schema
        for name, inner in schema.items():
            if name not in ("metadata", "serialization"):
                yield from lists(inner, f"{path}.{name}"[-80:])
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from lists(inner, path)


BODIES = sorted({route.body for route in ROUTES if route.body})


@pytest.mark.parametrize("name", BODIES)
def test_no_list_of_a_body_is_checked_on_once_it_is_wrong(name: str) -> None:
    model = named(name)
    model.model_rebuild(force=True)  # some are built when they are first used
    found = list(lists(model.__pydantic_core_schema__))
    for where, schema in found:
        items = schema.get("items_schema") or {"type": "any"}
        inner = items[0] if isinstance(items, list) else items  # a tuple's
        few = schema.get("max_length", MAX_VALUES) <= 2048
        assert schema.get("fail_fast") or few or inner["type"] == "any", where
    assert found or any(word in name for word in ("Apply", "Reset", "Rotate", "budget"))


def described(monkeypatch: pytest.MonkeyPatch, model: type[BaseModel], wrong: object) -> int:
    """How many faults of a body are described, to tell one of them."""
    found: list[int] = []

    def counting(error: ValidationError) -> InvalidRequestError:
        found.append(error.error_count())
        return from_validation(error)

    monkeypatch.setattr("fusewire.http.request.from_validation", counting)
    with pytest.raises(InvalidRequestError) as caught:
        body(json.dumps(wrong), model)
    assert found or "49,000 places" in caught.value.message
    return sum(found)


TURN = {"role": "user", "content": "x"}
WRONG: dict[str, dict[str, Any]] = {
    "tool calls": {"messages": [{"role": "assistant", "tool_calls": [{}] * 49_000}]},
    "messages": {"messages": [{}] * 49_000},
    "messages of a kind": {"messages": [{"role": "user"}] * 49_000},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text"}] * 49_000}]},
    "numbers for parts": {"messages": [{"role": "user", "content": [0] * 49_000}]},
    "tools": {"messages": [TURN], "tools": [{}] * 49_000},
    "stop": {"messages": [TURN], "stop": [0] * 49_000},
    "unknown fields": {"messages": [TURN], **{f"k{n}": 0 for n in range(49_000)}},
    "metadata": {"messages": [TURN], "metadata": {f"k{n}": 0 for n in range(49_000)}},
    "logit_bias": {"messages": [TURN], "logit_bias": {f"k{n}": "x" for n in range(49_000)}},
}


@pytest.mark.parametrize(
    ("format", "what"),
    [("ai.schema:ChatRequest", what) for what in WRONG]
    # What else stands in its metadata is left out.
    + [("http.messages.request:MessagesRequest", what) for what in WRONG if what != "metadata"],
)
def test_of_fifty_thousand_faults_a_few_are_described(monkeypatch: pytest.MonkeyPatch, what: str, format: str) -> None:
    most = 300 if what == "tools" else _MAX_DESCRIBED
    assert described(monkeypatch, named(format), {"model": "m", "max_tokens": 9, **WRONG[what]}) <= most


@pytest.mark.parametrize("items", [[{}] * 49_000, [{"type": "message", "role": "user"}] * 30_000, [0] * 49_000])
def test_of_fifty_thousand_faults_in_the_responses_format_too(
    monkeypatch: pytest.MonkeyPatch, items: list[object]
) -> None:
    model = named("http.responses.request:ResponsesRequest")
    assert described(monkeypatch, model, {"model": "m", "input": items}) <= _MAX_DESCRIBED
