"""Responses' tools as functions and back, and what a model makes of a custom tool's arguments."""

import json
from typing import Any

import pytest

from fusewire.errors import UnsupportedParameterError
from fusewire.http.responses.request import ResponsesRequest
from fusewire.http.responses.tools import CallersTool, CustomInputReader, FunctionTable, custom_arguments, custom_input
from fusewire.http.responses.translate import chat_request, dropped_fields

USER = {"role": "user", "content": "hi"}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edit files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Find tools.", "parameters": {"type": "object"}}


def read(*items: dict[str, Any], **fields: object) -> ResponsesRequest:
    return ResponsesRequest.model_validate_json(json.dumps({"model": "sota", "input": [USER, *items], **fields}))


def namespace(name: str, *tools: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": description, "tools": list(tools)}


def names(body: ResponsesRequest) -> list[str]:
    return [tool.function.name for tool in FunctionTable(body).tools]


# What public reports of gateways before Codex tell of, and what has to come out.
REPORTS: list[tuple[str, dict[str, Any], list[str], tuple[str, ...]]] = [
    ("command-code#885", {"tools": [WEATHER, PATCH, {"type": "web_search"}]}, ["weather", "apply_patch"],
     ("tools.web_search",)),
    ("cursor-api-proxy#46", {"tools": [namespace("mcp__docs", WEATHER | {"name": "search"}),
                                       namespace("mcp__mail", WEATHER | {"name": "search"})]},
     ["mcp__docs__search", "mcp__mail__search"], ()),
    ("llama.cpp#20156", {"tools": [{"type": "web_search", "external_web_access": True}, {"type": "image_generation"},
                                   namespace("mcp__x", WEATHER)]},
     ["mcp__x__weather"], ("tools.web_search", "tools.image_generation")),
    ("llama.cpp#23465", {"tools": [{"type": "local_shell"}, WEATHER]}, ["weather"], ("tools.local_shell",)),
    ("litellm#14011", {"tools": [{"type": "web_search_preview"}, {"type": "mcp", "server_label": "x"}, WEATHER]},
     ["weather"], ("tools.web_search_preview", "tools.mcp")),
    ("litellm#31571", {"tools": [PATCH | {"allowed_callers": ["programmatic"]}, WEATHER]}, ["weather"],
     ("tools.allowed_callers",)),
    ("codex#24536", {"tools": [WEATHER | {"defer_loading": True}, {"type": "tool_search"}]}, ["weather"],
     ("tools.defer_loading", "tools.tool_search")),
    ("codex#32318", {"tools": [SEARCH, WEATHER]}, ["tool_search", "weather"], ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected", "dropped"), [row[1:] for row in REPORTS], ids=[row[0] for row in REPORTS]
)
def test_tools_of_reports(fields: dict[str, Any], expected: list[str], dropped: tuple[str, ...]) -> None:
    body = read(**fields)
    assert names(body) == expected
    assert dropped_fields(body) == dropped


def test_additional_tools_are_tools() -> None:
    # cc-switch-cli#466, token_proxy#307: newer Codex sends its tools among the input; CLIProxyAPI#4850: the namespace
    # has to come back.
    more = {
        "type": "additional_tools",
        "role": "developer",
        "id": "at_1",
        "tools": [
            namespace("functions", PATCH | {"name": "exec"}, WEATHER | {"name": "wait"}),
            namespace("collaboration", WEATHER | {"name": "wait"}, description="Other agents."),
            {"type": "web_search"},
        ],
    }
    table = FunctionTable(body := read(more, more))  # token_proxy#308: told again on each turn
    assert names(body) == ["exec", "wait", "collaboration__wait"]
    assert dropped_fields(body) == ("tools.web_search",)
    assert table.tool_of("exec") == CallersTool("custom", "exec", "functions")
    assert table.tool_of("collaboration__wait") == CallersTool("function", "wait", "collaboration")
    assert table.tools[2].function.description == "(collaboration: Other agents.)"
    assert [message.role for message in chat_request(body, table).messages] == ["user"]


def test_names_that_meet() -> None:
    tools = [WEATHER, namespace("functions", WEATHER), namespace("a", WEATHER | {"name": "b.c"})]
    body = read(tools=[*tools, WEATHER | {"name": "a__b_c"}])
    table = FunctionTable(body)
    assert names(body) == ["weather", "functions__weather", "a__b_c", "function__a__b_c"]
    assert table.tool_of("a__b_c") == CallersTool("function", "b.c", "a")
    assert table.tool_of("function__a__b_c") == CallersTool("function", "a__b_c")
    assert table.tool_of("made_up") == CallersTool("function", "made_up")


def test_long_names_are_cut_and_mapped_back() -> None:
    long = [WEATHER | {"name": f"{'x' * 70}{number}"} for number in range(2)]
    body = read(tools=[namespace("mcp__server", *long)])
    found = names(body)
    assert len(set(found)) == 2
    assert max(map(len, found)) == 64
    assert [FunctionTable(body).tool_of(name).name for name in found] == [tool["name"] for tool in long]


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    function = FunctionTable(read(tools=[PATCH])).tools[0].function
    assert function.parameters is not None
    assert (list(function.parameters["properties"]), function.parameters["required"]) == (["input"], ["input"])
    assert function.description is not None
    assert function.description.startswith("Edit files.")
    assert 'lark grammar:\nstart: "x"' in function.description


def test_calls_of_the_past_have_the_names_of_their_functions() -> None:
    found = {"type": "tool_search_output", "call_id": "c4", "execution": "client", "status": "completed",
             "tools": [namespace("mcp__docs", WEATHER | {"name": "search", "defer_loading": True})]}  # fmt: skip
    items: list[dict[str, Any]] = [
        {"type": "function_call", "call_id": "c1", "name": "spawn", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": 'a "b"\n', "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
        {"type": "custom_tool_call", "call_id": "c3", "name": "gone", "namespace": "functions", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": [{"type": "input_text", "text": "y"}]},
        {"type": "tool_search_call", "call_id": "c4", "execution": "client", "arguments": {"query": "docs"}},
        found,
        {"type": "function_call", "call_id": "c5", "name": "search", "namespace": "mcp__docs", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c5", "output": "z"},
    ]
    body = read(*items, tools=[namespace("agents", WEATHER | {"name": "spawn"}), PATCH, SEARCH])
    table = FunctionTable(body)
    messages = chat_request(body, table).model_dump(mode="json", exclude_none=True)["messages"]
    called = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    assert called == [
        {"name": "agents__spawn", "arguments": "{}"},
        {"name": "apply_patch", "arguments": '{"input": "a \\"b\\"\\n"}'},
        {"name": "gone", "arguments": '{"input": "x"}'},
        {"name": "tool_search", "arguments": '{"query":"docs"}'},
        {"name": "mcp__docs__search", "arguments": "{}"},
    ]
    assert [message["content"] for message in messages if message["role"] == "tool"] == [
        "ok", "done", "y", "Found, and callable from now on: mcp__docs__search", "z",
    ]  # fmt: skip
    assert names(body) == ["agents__spawn", "apply_patch", "tool_search", "mcp__docs__search"]
    assert dropped_fields(body) == ("tools.defer_loading",)


# --- which tool has to be called ---

TOOLS = [WEATHER, PATCH, namespace("n", WEATHER), SEARCH]


@pytest.mark.parametrize(
    ("choice", "sent", "expected"),
    [
        ({"type": "custom", "name": "apply_patch"}, 4, "apply_patch"),
        ({"type": "function", "name": "weather", "namespace": "n"}, 4, "n__weather"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}, 1, "auto"),
        # aisix#1185: a subset that is lost lets the model call what it mustn't.
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "apply_patch"}]}, 1,
         "required"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "n"}]}, 1, "auto"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "tool_search"}]}, 1, "auto"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, 0, None),
    ],
)  # fmt: skip
def test_tool_choice(choice: dict[str, Any], sent: int, expected: str | None) -> None:
    body = read(tools=TOOLS, tool_choice=choice)
    chat = chat_request(body, FunctionTable(body))
    assert len(chat.tools or ()) == sent
    made = chat.tool_choice
    assert (made.function.name if made is not None and not isinstance(made, str) else made) == expected


def test_a_call_that_nobody_can_make_is_refused() -> None:
    # aisix#1185: a forced choice whose tools are all gone isn't an answer in prose.
    body = read(tools=[{"type": "web_search"}], tool_choice="required")
    with pytest.raises(UnsupportedParameterError) as raised:
        chat_request(body, FunctionTable(body))
    assert raised.value.param == "tool_choice"


# --- a custom tool's text ---

TEXT = 'a\n"b" \\ \u00e9 \U0001f600 \x07 \u2028 {"input": "c"}'
GIVEN: list[tuple[str, str]] = [
    (custom_arguments(TEXT), TEXT),
    (json.dumps({"input": TEXT}), TEXT),
    ('  { "input" :"x"}\n', "x"),
    ('{"input": ""}', ""),
    ('{"patch": "x"}', "x"),  # fabro#435
    ('"x"', "x"),
    ("*** Begin Patch", "*** Begin Patch"),
    ('{"input": "a\nb"}', "a\nb"),  # a line's end that isn't escaped
    ('{"input": "cut of', "cut of"),
    ('{"input": "cut \\', "cut "),
    ('{"input": 1}', '{"input": 1}'),
    ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
    ("", ""),
]


@pytest.mark.parametrize(("arguments", "text"), GIVEN)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_custom_tools_text(arguments: str, text: str, size: int) -> None:
    assert custom_input(arguments) == text
    reader = CustomInputReader()
    pieces = [reader.read(arguments[at : at + size]) for at in range(0, len(arguments), size)]
    assert "".join([*pieces, reader.end(arguments)]) == text
