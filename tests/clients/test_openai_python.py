"""OpenAI's SDK in Python over both of its APIs, in the tests' own process: this part needs nothing installed."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.clients import ANSWER, DEAR, RIGHT, TASK, refused, script_the_fix
from tests.support.formats import Setting

_PROPERTIES: dict[str, dict[str, Any]] = {
    "read_file": {"path": {"type": "string"}},
    "write_file": {"path": {"type": "string"}, "text": {"type": "string"}},
}
FUNCTIONS: list[Any] = [
    {"name": name, "parameters": {"type": "object", "properties": properties, "required": list(properties)}}
    for name, properties in _PROPERTIES.items()
]
MAX_TURNS = 5


def call_tool(folder: Path, name: str, arguments: str) -> str:
    given: dict[str, str] = json.loads(arguments)
    path = folder / given["path"]
    if name == "read_file":
        return path.read_text()
    path.write_text(given["text"])
    return "written"


def by_responses(client: openai.OpenAI, model: str, folder: Path) -> tuple[str, Decimal]:
    """What it says at the end, and what it told of the cost."""
    tools: list[Any] = [{"type": "function", "strict": None, **each} for each in FUNCTIONS]
    items: list[Any] = [{"role": "user", "content": TASK}]
    cost = Decimal(0)
    for _ in range(MAX_TURNS):
        with client.responses.stream(model=model, input=items, tools=tools, store=False) as stream:
            response = stream.until_done().get_final_response()
        assert response.usage is not None
        cost += Decimal(str((response.usage.model_extra or {})["cost"]))
        called = [item for item in response.output if item.type == "function_call"]
        if not called:
            return response.output_text, cost
        items += response.output
        for item in called:
            output = call_tool(folder, item.name, item.arguments)
            items.append({"type": "function_call_output", "call_id": item.call_id, "output": output})
    raise AssertionError("it doesn't come to an end")


def by_chat(client: openai.OpenAI, model: str, folder: Path) -> tuple[str, Decimal]:
    """The same over chat completions."""
    tools: list[Any] = [{"type": "function", "function": each} for each in FUNCTIONS]
    messages: list[Any] = [{"role": "user", "content": TASK}]
    cost = Decimal(0)
    for _ in range(MAX_TURNS):
        usage: Any = {"include_usage": True}
        with client.chat.completions.stream(
            model=model, messages=messages, tools=tools, stream_options=usage
        ) as stream:
            completion = stream.until_done().get_final_completion()
        assert completion.usage is not None
        cost += Decimal(str((completion.usage.model_extra or {})["cost"]))
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content or "", cost
        messages.append(message)
        for call in message.tool_calls:
            assert call.type == "function"
            content = call_tool(folder, call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    raise AssertionError("it doesn't come to an end")


Client = Callable[[openai.OpenAI, str, Path], tuple[str, Decimal]]


@pytest.mark.parametrize("client", [by_responses, by_chat])
def test_it_edits_a_file_over_several_turns(setting: Setting, folder: Path, client: Client) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    said, cost = client(setting.gateway.openai(max_retries=2), "openai/m", folder)
    assert said == ANSWER
    assert (folder / "calc.py").read_text() == RIGHT
    assert [request["stream"] for request in setting.upstream.requests] == [True] * 3
    assert cost == setting.cost_of(first, first + 1, first + 2)


@pytest.mark.parametrize("client", [by_responses, by_chat])
def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path, client: Client) -> None:
    before = refused(setting)
    with pytest.raises(openai.APIStatusError) as raised:
        client(setting.gateway.openai(max_retries=2), DEAR, folder)
    assert (raised.value.status_code, raised.value.code) == (402, "budget_exceeded")
    assert "The month's budget can't take this call" in raised.value.message
    assert refused(setting) == before + 1
    assert not setting.upstream.requests
