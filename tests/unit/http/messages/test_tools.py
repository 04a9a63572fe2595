"""The tools of Anthropic's format: which the model is shown, as what, and which are left out by name."""

from typing import Any

import pytest

from tests.unit.http.messages.test_translate import CALL, CUSTOM, USER, asked

DEFERRED = CUSTOM | {"name": "later", "defer_loading": True}
FOUND = {"type": "tool_reference", "tool_name": "later"}


def shown(*tools: dict[str, Any], **fields: object) -> tuple[list[str], tuple[str, ...]]:
    result, dropped = asked(tools=list(tools), **fields)
    return [tool["function"]["name"] for tool in result.get("tools", ())], dropped


def after(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A conversation whose last result has these blocks."""
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(blocks)}
    return {"messages": [USER, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [result]}]}


def changing(*changes: str) -> dict[str, Any]:
    blocks = [{"type": kind, "tool": {"type": "tool_reference", "name": "later"}} for kind in changes]
    return {"messages": [USER, {"role": "system", "content": blocks}]}


@pytest.mark.parametrize(
    ("tools", "fields", "names"),
    [
        ([CUSTOM, DEFERRED], {}, ["weather"]),
        ([CUSTOM, DEFERRED], after(FOUND), ["weather", "later"]),
        ([CUSTOM, DEFERRED], changing("tool_addition"), ["weather", "later"]),
        ([CUSTOM, DEFERRED], changing("tool_addition", "tool_removal"), ["weather"]),
        ([CUSTOM, DEFERRED], changing("tool_removal", "tool_addition"), ["weather", "later"]),
        ([DEFERRED | {"defer_loading": False}], changing("tool_removal"), []),
        ([{"type": "bash_20250124", "name": "later", "defer_loading": True}], after(FOUND), ["later"]),
    ],
)
def test_a_deferred_tool_is_shown_once_it_was_found(
    tools: list[dict[str, Any]], fields: dict[str, Any], names: list[str]
) -> None:
    assert shown(*tools, **fields) == (names, ())


def test_where_anthropics_server_would_search_all_are_shown() -> None:
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    assert shown(search, CUSTOM, DEFERRED) == (["weather", "later"], ("tools.tool_search_tool_bm25",))


SERVERS = ["web_search_20260318", "web_fetch_20250910", "code_execution_20260521", "advisor_20260301", "mcp_toolset",
           "browser_toolset_20260801", "computer_toolset_20260801"]  # fmt: skip


@pytest.mark.parametrize("kind", SERVERS)
def test_a_servers_tool_is_left_out_by_name(kind: str) -> None:
    tool = {"type": kind, "name": "x", "max_uses": 5, "allowed_domains": ["example.com"]}
    result, dropped = asked(tools=[tool, CUSTOM], tool_choice={"type": "any"})
    assert [each["function"]["name"] for each in result["tools"]] == ["weather"]
    assert (result["tool_choice"], result["messages"], dropped) == ("required", [USER], ("tools.x",))
    alone, dropped = asked(tools=[tool], tool_choice={"type": "any"})
    assert not {"tools", "tool_choice"} & alone.keys()
    assert alone["messages"][0]["content"].startswith("Not available here: x.")
    assert dropped == ("tools.x", "tool_choice")


FAMILIES = ["bash_20241022", "bash_20250124", "text_editor_20241022", "text_editor_20250728", "memory_20250818",
            "computer_20251124"]  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_clients_tool_is_a_function(kind: str) -> None:
    mark = {"type": "ephemeral"}
    result, dropped = asked(tools=[{"type": kind, "name": "own_name", "cache_control": mark, "max_characters": 9}])
    [tool] = result["tools"]
    assert (tool["function"]["name"], tool["cache_control"], dropped) == ("own_name", mark, ())
    parameters = tool["function"]["parameters"]
    assert set(parameters["required"]) <= parameters["properties"].keys()
    assert tool["function"]["description"]


def test_a_screen_has_its_size() -> None:
    screen = {"type": "computer_20251124", "name": "computer", "display_width_px": 800, "display_height_px": 600}
    assert "800 pixels wide" in asked(tools=[screen])[0]["tools"][0]["function"]["description"]


def test_what_only_anthropic_knows_of_a_tool_is_named() -> None:
    tool = CUSTOM | {"input_examples": [{}], "allowed_callers": ["direct", "code_execution_20250825"]}
    assert shown(tool) == (["weather"], ("tools.input_examples", "tools.allowed_callers"))
