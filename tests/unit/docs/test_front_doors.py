"""The other front doors' tables in docs/providers.md against the code: what becomes of each field of a request."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pydantic import ValidationError

from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import ChatRequest
from fusewire.config import load_settings
from fusewire.errors import FusewireError, UnsupportedParameterError
from fusewire.http import messages, responses
from fusewire.http.errors import from_validation
from fusewire.http.messages_request import MessagesRequest
from fusewire.http.responses_answers import ResponseShape
from fusewire.http.responses_request import ResponsesRequest
from tests.support.documents import code, table
from tests.unit.docs.test_providers import PROVIDERS

Mapped = tuple[ChatRequest, tuple[str, ...], dict[str, Any]]
_REGISTRY: Final = Registry(load_settings({}))


def by_messages(body: str) -> Mapped:
    return (*messages.chat_request(MessagesRequest.model_validate_json(body), _REGISTRY), {})


def by_responses(body: str) -> Mapped:
    asked = ResponsesRequest.model_validate_json(body)
    return (*responses.chat_request(asked), ResponseShape(asked, "1").unfinished("m", 1, "in_progress"))


@dataclass(frozen=True)
class DoorOfADocument:
    under: str
    asked: type[MessagesRequest | ResponsesRequest]
    mapped: Callable[[str], Mapped]
    base: Mapping[str, Any]
    given: Mapping[str, object]
    """A value of each field that asks for something."""
    beside: Mapping[str, Mapping[str, object]]
    """What a field can't be set without."""
    harmless: Mapping[str, object]
    """Of refused fields, the values that ask for nothing more than there is."""


_SAID: Final = [{"role": "user", "content": "Hello"}]
_MESSAGES: Final = DoorOfADocument(
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
        "service_tier": "standard_only",
        "speed": "fast",
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "container": "container_1",
        "mcp_servers": [{"type": "url", "name": "x", "url": "https://example.com"}],
        "inference_geo": "us",
        "diagnostics": {"previous_message_id": "msg_1"},
    },
    {"tool_choice": {"tools": [{"name": "clock", "input_schema": {"type": "object"}}]}},
    {"service_tier": "auto", "speed": "standard"},
)
_RESPONSES: Final = DoorOfADocument(
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
    {"store": False, "truncation": "disabled", "service_tier": "auto"},
)
DOORS: Final = (_MESSAGES, _RESPONSES)


def rows() -> Iterator[tuple[DoorOfADocument, str, str, str]]:
    """(door, field, verdict, what else the cell says)"""
    for door in DOORS:
        for fields, cell in table(PROVIDERS, 2, under=door.under):
            said = re.match(r"`(\w+)`", cell)
            assert said, cell
            for field in code(fields):
                yield door, field, said[1], cell[said.end() :]


def told(door: DoorOfADocument, **fields: object) -> Mapped | FusewireError:
    try:
        return door.mapped(json.dumps({**door.base, **fields}))
    except ValidationError as error:
        return from_validation(error)
    except FusewireError as error:
        return error


@pytest.mark.parametrize(("door", "field", "said", "how"), list(rows()), ids=lambda value: str(value)[:30])
def test_what_becomes_of_a_field(door: DoorOfADocument, field: str, said: str, how: str) -> None:
    without = told(door, **door.beside.get(field, {}))
    given = told(door, **door.beside.get(field, {}), **{field: door.given[field]})
    assert not isinstance(without, FusewireError), without
    if said == "refused":
        assert isinstance(given, FusewireError), given
        assert (given.param or "").partition(".")[0].partition("[")[0] == field
        assert isinstance(given, UnsupportedParameterError) or field in door.harmless
        if field in door.harmless:
            assert told(door, **{field: door.harmless[field]}) == without
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
        assert said == "dropped" or (said == "kept" and echoed[field] == door.given[field])


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.under)
def test_every_field_of_the_format_has_its_row(door: DoorOfADocument) -> None:
    said = [field for each, field, _, _ in rows() if each is door]
    assert sorted(said) == sorted(door.asked.model_fields)


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (4095, "low"), (4096, "medium"), (16384, "high")])
def test_a_budget_of_thinking_becomes_an_effort(budget: int, effort: str) -> None:
    given = told(_MESSAGES, max_tokens=20000, thinking={"type": "enabled", "budget_tokens": budget})
    assert not isinstance(given, FusewireError)
    assert (given[0].reasoning_effort, given[1]) == (effort, ("thinking.budget_tokens",))
