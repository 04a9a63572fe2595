"""The other API formats' tables in docs/providers.md against the code: what becomes of each field of a request."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pydantic import ValidationError

from fusewire.ai.registry import Registry
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings
from fusewire.errors import FusewireError, UnsupportedParameterError
from fusewire.http.errors import from_validation
from fusewire.http.messages import translate as messages
from fusewire.http.messages.request import MessagesRequest
from fusewire.http.responses import translate as responses
from fusewire.http.responses.render import ResponseShape
from fusewire.http.responses.request import ResponsesRequest
from fusewire.http.responses.tools import FunctionTable
from tests.support.documents import code, table
from tests.unit.docs.test_providers import PROVIDERS

Mapped = tuple[ChatRequest, tuple[str, ...], dict[str, Any]]
_REGISTRY: Final = Registry(load_settings({}))


def by_messages(body: str) -> Mapped:
    return (*messages.chat_request(MessagesRequest.model_validate_json(body), _REGISTRY), {})


def by_responses(body: str) -> Mapped:
    request = ResponsesRequest.model_validate_json(body)
    functions = FunctionTable(request)
    echoed = ResponseShape(request, functions, "1").unfinished("m", 1, "in_progress")
    return responses.chat_request(request, functions), responses.dropped_fields(request), {**echoed}


@dataclass(frozen=True)
class DocumentedFormat:
    under: str
    request: type[MessagesRequest | ResponsesRequest]
    mapped: Callable[[str], Mapped]
    base: Mapping[str, Any]
    given: Mapping[str, object]
    """A value of each field that asks for something."""
    beside: Mapping[str, Mapping[str, object]]
    """What a field can't be set without."""
    harmless: Mapping[str, object]
    """Of refused fields, the values that ask for nothing more than there is."""


_SAID: Final = [{"role": "user", "content": "Hello"}]
_MESSAGES: Final = DocumentedFormat(
    "anthropic-messages",
    MessagesRequest,
    by_messages,
    {"model": "sota", "max_tokens": 2000, "messages": _SAID},
    {
        "model": "cost_effective",
        "max_tokens": 1999,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "stream": True,
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "tools": [{"name": "clock", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "ann"},
        "cache_control": {"type": "ephemeral"},
        "service_tier": "priority",
        "speed": "fast",
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "output_format": {"type": "json_schema", "schema": {"type": "object"}},
        "betas": ["a"],
        "anthropic_beta": ["a"],
        "anthropic_version": "bedrock-2023-05-31",
        "safeguards": [{"type": "dangerous_tool_use"}],
        "fallbacks": "auto",
        "fallback_credit_token": "x",
        "billing_policy": {"bill_to": "x"},
        "user_profile_id": "x",
        "workspace_id": "x",
        "compaction": {"type": "summarize"},
        "thread": {"type": "create"},
        "container": "container_1",
        "mcp_servers": [{"type": "url", "name": "x", "url": "https://example.com"}],
        "inference_geo": "us",
        "diagnostics": {"previous_message_id": "msg_1"},
    },
    {"tool_choice": {"tools": [{"name": "clock", "input_schema": {"type": "object"}}]}},
    {"service_tier": "auto", "inference_geo": "global"},
)
_RESPONSES: Final = DocumentedFormat(
    "openai-responses",
    ResponsesRequest,
    by_responses,
    {"model": "sota", "input": "Hello"},
    {
        "model": "cost_effective",
        "input": "Hi",
        "instructions": "Be brief.",
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.5,
        "tools": [{"type": "function", "name": "clock"}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "text": {"verbosity": "low", "format": {"type": "json_object"}},
        "reasoning": {"effort": "low"},
        "metadata": {"team": "sky"},
        "user": "ann",
        "safety_identifier": "ann",
        "prompt_cache_key": "key",
        "service_tier": "flex",
        "truncation": "auto",
        "include": ["reasoning.encrypted_content"],
        "store": True,
        "client_metadata": {"x-codex-window-id": "1"},
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"ttl": "30m"},
        "moderation": {"model": "m"},
        "previous_response_id": "resp_1",
        "conversation": "conv_1",
        "prompt": {"id": "pmpt_1"},
        "background": True,
        "background_options": {"x": 1},
        "context_management": [{"type": "compaction"}],
        "max_tool_calls": 1,
        "top_logprobs": 2,
        "access_programs": ["x"],
        "image": {"x": 1},
    },
    {
        "stream_options": {"stream": True},
        "tool_choice": {"tools": [{"type": "function", "name": "clock"}]},
        "parallel_tool_calls": {"tools": [{"type": "function", "name": "clock"}]},
    },
    {},
)
FORMATS: Final = (_MESSAGES, _RESPONSES)


def rows() -> Iterator[tuple[DocumentedFormat, str, str, str]]:
    """(format, field, verdict, what else the cell says)"""
    for format in FORMATS:
        for fields, cell in table(PROVIDERS, 2, under=format.under):
            said = re.match(r"`(\w+)`", cell)
            assert said, cell
            for field in code(fields):
                yield format, field, said[1], cell[said.end() :]


def translated(format: DocumentedFormat, **fields: object) -> Mapped | FusewireError:
    try:
        return format.mapped(json.dumps({**format.base, **fields}))
    except ValidationError as error:
        return from_validation(error)
    except FusewireError as error:
        return error


@pytest.mark.parametrize(("format", "field", "said", "how"), list(rows()), ids=lambda value: str(value)[:30])
def test_what_becomes_of_a_field(format: DocumentedFormat, field: str, said: str, how: str) -> None:
    without = translated(format, **format.beside.get(field, {}))
    given = translated(format, **format.beside.get(field, {}), **{field: format.given[field]})
    assert not isinstance(without, FusewireError), without
    if said == "refused":
        assert isinstance(given, FusewireError), given
        assert (given.param or "").partition(".")[0].partition("[")[0] == field
        assert isinstance(given, UnsupportedParameterError) or field in format.harmless
        if field in format.harmless:
            assert translated(format, **{field: format.harmless[field]}) == without
        return
    assert not isinstance(given, FusewireError), given
    (before, _, _), (request, dropped, echoed) = without, given
    if said == "mapped":
        targets = [field] if how.startswith(": the same") else code(how.partition(";")[0])
        changed = {name for name in ChatRequest.model_fields if getattr(before, name) != getattr(request, name)}
        assert changed == set(targets)
        assert dropped == ()
    else:
        assert request == before
        assert (dropped == (field,)) == (said == "dropped")
        assert said == "dropped" or (said == "kept" and echoed[field] == format.given[field])


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.under)
def test_every_field_of_the_format_has_its_row(format: DocumentedFormat) -> None:
    said = [field for each, field, _, _ in rows() if each is format]
    assert sorted(said) == sorted(format.request.model_fields)


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (4095, "low"), (4096, "medium"), (16384, "high")])
def test_a_budget_of_thinking_becomes_an_effort(budget: int, effort: str) -> None:
    given = translated(_MESSAGES, max_tokens=20000, thinking={"type": "enabled", "budget_tokens": budget})
    assert not isinstance(given, FusewireError)
    assert (given[0].reasoning_effort, given[1]) == (effort, ())
    assert given[0].thinking is not None
    assert given[0].thinking.budget_tokens == budget, "Claude gets the number itself"
