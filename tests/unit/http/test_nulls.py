"""SDKs send null for what nobody set: in every format it asks for nothing, whatever the field."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from fusewire.ai.schema import ChatRequest, EmbeddingRequest
from fusewire.http.messages.request import MessagesRequest
from fusewire.http.messages.tools import CustomTool
from fusewire.http.responses.declared_tools import FunctionTool
from fusewire.http.responses.request import ResponsesRequest

MESSAGES = {"messages": [{"role": "user", "content": "hi"}]}
MINIMAL: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (ChatRequest, {"model": "m", **MESSAGES}),
    (EmbeddingRequest, {"model": "m", "input": "hi"}),
    (MessagesRequest, {"model": "m", "max_tokens": 5, **MESSAGES}),
    (CustomTool, {"name": "f", "input_schema": {"type": "object"}}),
    (ResponsesRequest, {"model": "m", "input": "hi"}),
    (FunctionTool, {"type": "function", "name": "f"}),
]
FIELDS = [
    (model, least, result.alias or name)
    for model, least in MINIMAL
    for name, result in model.model_fields.items()
    if result.default is None
]


@pytest.mark.parametrize(("model", "least", "field"), FIELDS, ids=[f"{m.__name__}.{f}" for m, _, f in FIELDS])
def test_null_asks_for_nothing(model: type[BaseModel], least: dict[str, Any], field: str) -> None:
    read = model.model_validate_json(json.dumps(least | {field: None}))
    assert read == model.model_validate_json(json.dumps(least))
