"""`functions` and `function_call`, the form that tools had until November 2023: read as tools, and answered in kind.

Source: OpenAI's API reference, "Create chat completion", where they are deprecated. In that form a message holds one
call at most, and a call has no id: a result belongs to the last call before it that has its name.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    FunctionMessage,
    Message,
    NamedFunction,
    NamedToolChoice,
    StreamChunk,
    Tool,
    ToolCall,
    ToolMessage,
)


def with_tools(request: ChatRequest) -> ChatRequest:
    """The same request in the new form."""
    changes: dict[str, Any] = {
        "messages": list(_messages(request.messages)),
        "functions": None,
        "function_call": None,
    }
    if request.functions:
        changes["tools"] = [Tool(type="function", function=function) for function in request.functions]
        changes["parallel_tool_calls"] = False
        choice = request.function_call
        changes["tool_choice"] = (
            NamedToolChoice(type="function", function=choice) if isinstance(choice, NamedFunction) else choice
        )
    return request.model_copy(update=changes)


def _messages(messages: Iterable[Message]) -> Iterator[Message]:
    ids: dict[str, str] = {}
    for place, message in enumerate(messages):
        if isinstance(message, FunctionMessage):
            call_id = ids.get(message.name, f"call_{place}")
            yield ToolMessage(role="tool", content=message.content or "", tool_call_id=call_id)
        elif isinstance(message, AssistantMessage) and message.function_call is not None:
            ids[message.function_call.name] = call_id = f"call_{place}"
            call = ToolCall(id=call_id, type="function", function=message.function_call)
            yield message.model_copy(update={"tool_calls": [call], "function_call": None})
        else:
            yield message


def legacy_body(response: ChatResponse) -> dict[str, Any]:
    """The answer with its call as `message.function_call`."""
    body = response.model_dump(exclude_unset=True)
    for choice in body["choices"]:
        _rewrite(choice, choice["message"])
    return body


def legacy_chunks(chunks: Iterable[StreamChunk]) -> Iterator[dict[str, Any]]:
    """The same of a stream."""
    for chunk in chunks:
        body = chunk.model_dump(exclude_unset=True)
        for choice in body["choices"]:
            _rewrite(choice, choice["delta"])
        yield body


def _rewrite(choice: dict[str, Any], said: dict[str, Any]) -> None:
    for call in said.pop("tool_calls", None) or ():
        # Of more than one the caller can read only the first; `parallel_tool_calls` has asked for no more.
        if "function" in call and "function_call" not in said and call.get("index", 0) == 0:
            said["function_call"] = call["function"]
    if choice.get("finish_reason") == "tool_calls":
        choice["finish_reason"] = "function_call"
