"""Responses' tools as functions, which every vendor has, and a model's calls as the caller knows the tools.

A namespace's tools get its name before their own. A custom tool, which is called with free text, becomes a function
with one string. A search for tools that the caller runs is a function too. OpenAI's own tools are left out.
Source: OpenAI's API reference, "Create a model response" (`tools`), "Function calling" (custom tools).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fusewire.ai.schema import FunctionDefinition, JsonObject, NamedFunction, NamedToolChoice, Tool
from fusewire.errors import UnsupportedParameterError
from fusewire.http.responses.declared_tools import (
    AnyTool,
    CustomTool,
    FunctionTool,
    Grammar,
    NamespaceTool,
    ToolSearch,
)
from fusewire.http.responses.input_items import AdditionalTools, ToolSearchOutput
from fusewire.http.responses.request import AllowedTools, NamedTool, ResponsesRequest

Kind = Literal["function", "custom", "tool_search"]
_TOP_LEVEL: Final = "functions"
"""The namespace that OpenAI's models know a function without one by."""
_SEARCH: Final = "tool_search"
_MAX_NAME: Final = 64
_INPUT: Final = "input"


@dataclass(frozen=True, slots=True)
class CallersTool:
    """A tool as the caller knows it."""

    kind: Kind
    name: str
    namespace: str | None = None


class FunctionTable:
    """The functions of one request, and whose calls they stand for."""

    def __init__(self, body: ResponsesRequest) -> None:
        self._names: dict[CallersTool, str] = {}
        self._callers: dict[str, CallersTool] = {}
        self._functions: dict[str, FunctionDefinition] = {}
        items = body.input if isinstance(body.input, list) else []
        self._add(body.tools or ())
        for item in items:
            # A tool that is declared again keeps its place and its name, so that a vendor's cache of the prompt holds.
            if isinstance(item, AdditionalTools | ToolSearchOutput):
                self._add(item.tools)
        self._allowed = self._allow(body)
        self._choice = body.tool_choice

    @property
    def tools(self) -> list[Tool]:
        """What a vendor is sent, in the order of the conversation."""
        return [Tool(type="function", function=each) for name, each in self._functions.items() if self._may_call(name)]

    @property
    def choice(self) -> Literal["none", "auto", "required"] | NamedToolChoice | None:
        """
        :raises UnsupportedParameterError: where a tool has to be called and none is left
        """
        choice = self._choice
        if isinstance(choice, NamedTool):
            tool = CallersTool(choice.type, choice.name, choice.namespace)
            return NamedToolChoice(type="function", function=NamedFunction(name=self.name_of(tool)))
        mode = choice.mode if isinstance(choice, AllowedTools) else choice
        if self.tools:
            return mode
        if mode == "required":
            raise UnsupportedParameterError(
                "tool_choice: a tool has to be called, and none is left that the caller runs (function, custom).",
                param="tool_choice",
            )
        return None

    def name_of(self, tool: CallersTool) -> str:
        """The function that stands for a tool, declared or not."""
        return self._names.get(tool) or next(_candidates(tool))

    def tool_of(self, function: str) -> CallersTool:
        """The tool that a function stands for; a model may make up a name."""
        return self._callers.get(function) or CallersTool("function", function)

    def names_in(self, tools: Sequence[AnyTool]) -> Iterator[str]:
        """The functions that stand for these tools."""
        for tool in tools:
            if isinstance(tool, NamespaceTool):
                yield from (self.name_of(CallersTool(each.type, each.name, tool.name)) for each in tool.tools)
            elif isinstance(tool, FunctionTool | CustomTool):
                yield self.name_of(CallersTool(tool.type, tool.name))

    def _may_call(self, function: str) -> bool:
        return self._allowed is None or function in self._allowed

    def _allow(self, body: ResponsesRequest) -> set[str] | None:
        """The functions of `allowed_tools`; None where all are allowed."""
        if not isinstance(body.tool_choice, AllowedTools):
            return None
        allowed = {(each.get("type"), each.get("namespace"), each.get("name")) for each in body.tool_choice.tools}
        whole = {name for kind, _, name in allowed if kind == "namespace"}
        return {
            function
            for function, tool in self._callers.items()
            if (tool.kind, tool.namespace, tool.name) in allowed
            or (tool.kind == "tool_search" and (tool.kind, None, None) in allowed)
            or tool.namespace in whole
        }

    def _add(self, tools: Sequence[AnyTool]) -> None:
        for tool in tools:
            if isinstance(tool, NamespaceTool):
                about = tool.description
                for each in tool.tools:
                    about = None if self._put(each, tool.name, about) else about
            elif isinstance(tool, FunctionTool | CustomTool):
                self._put(tool)
            elif isinstance(tool, ToolSearch) and tool.execution == "client":
                self._define(CallersTool("tool_search", _SEARCH), tool.description, tool.parameters)

    def _put(self, tool: FunctionTool | CustomTool, namespace: str | None = None, about: str | None = None) -> bool:
        """
        :param about: what the namespace is for, which its first tool says
        :return: whether the caller may be asked to run it
        """
        if tool.allowed_callers and "direct" not in tool.allowed_callers:
            return False
        said = tool.description
        if about:
            said = f"({namespace}: {about})\n{said or ''}".rstrip()
        key = CallersTool(tool.type, tool.name, namespace)
        if isinstance(tool, CustomTool):
            self._define(key, _with_grammar(said, tool), _parameters(tool))
        else:
            self._define(key, said, tool.parameters, strict=tool.strict)
        return True

    def _define(
        self, tool: CallersTool, description: str | None, parameters: JsonObject | None, *, strict: bool | None = None
    ) -> None:
        name = self._names.get(tool)
        if name is None:
            name = next(each for each in _candidates(tool) if each not in self._callers)
            self._names[tool], self._callers[name] = name, tool
        self._functions[name] = FunctionDefinition(
            name=name, description=description, parameters=parameters, strict=strict
        )


def _candidates(tool: CallersTool) -> Iterator[str]:
    """Names for a tool's function, the best first."""
    if tool.namespace is None or tool.namespace == _TOP_LEVEL:
        yield _short(tool.name)
    full = f"{tool.namespace or tool.kind}__{tool.name}"
    yield _short(full)
    number = 2
    while True:
        yield _short(f"{full}_{number}")
        number += 1


def _short(name: str) -> str:
    """A name as every vendor takes it: of 64 letters, digits, `_` and `-`. Of a longer one the end is a hash."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - 9]}_{digest}"


def _with_grammar(description: str | None, tool: CustomTool) -> str:
    said = [description] if description else []
    said.append(f"Give the tool's text, as it is, as the string `{_INPUT}`.")
    if isinstance(tool.format, Grammar):
        said.append(f"The text has to follow this {tool.format.syntax} grammar:\n{tool.format.definition}")
    return "\n\n".join(said)


def _parameters(tool: CustomTool) -> JsonObject:
    about = f"The text that {tool.name} gets."
    return {
        "type": "object",
        "properties": {_INPUT: {"type": "string", "description": about}},
        "required": [_INPUT],
        "additionalProperties": False,
    }


def custom_arguments(text: str) -> str:
    """A custom tool's text as the arguments of its function."""
    return json.dumps({_INPUT: text}, ensure_ascii=False)


def custom_input(arguments: str) -> str:
    """The text that a model calls a custom tool with.

    Some models give the text itself, or call the string by another name.
    """
    begun = _INPUT_BEGINS.match(arguments)
    try:
        value = json.loads(arguments)
    except ValueError:
        return _decoded(arguments[begun.end() :])[0] if begun else arguments
    if isinstance(value, dict):
        texts = [each for each in value.values() if isinstance(each, str)]
        text = value.get(_INPUT)
        if isinstance(text, str):
            return text
        return texts[0] if len(texts) == len(value) == 1 else arguments
    return value if isinstance(value, str) else arguments


class CustomInputReader:
    """Reads a custom tool's text out of its function's arguments, as they come."""

    def __init__(self) -> None:
        self.text = ""
        self._waiting = ""
        self._begun = False

    def read(self, piece: str) -> str:
        """The text that this piece of the arguments adds."""
        self._waiting += piece
        if not self._begun:
            begun = _INPUT_BEGINS.match(self._waiting)
            if begun is None:
                return ""
            self._begun = True
            self._waiting = self._waiting[begun.end() :]
        more, used = _decoded(self._waiting)
        self._waiting = self._waiting[used:]
        self.text += more
        return more

    def end(self, arguments: str) -> str:
        """What is missing of the text, once the arguments are whole."""
        whole = custom_input(arguments)
        rest = whole[len(self.text) :] if whole.startswith(self.text) else ""
        self.text += rest
        return rest


_INPUT_BEGINS: Final = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# What a JSON string holds up to its quote. An escape that isn't whole yet, or half of a pair, waits.
_PLAIN: Final = re.compile(
    r'(?:[^"\\]|\\["\\/bfnrt]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4})*"
)


def _decoded(text: str) -> tuple[str, int]:
    """The beginning of a JSON string, as far as it can be decoded, and how much of `text` that is."""
    found = _PLAIN.match(text)
    raw = found.group() if found else ""
    return json.loads(f'"{raw}"', strict=False), len(raw)
