"""The tools of a request in Anthropic's Messages format, as functions.

* A tool of the caller's own is a function.
* A tool that Anthropic only named, and the caller runs (`bash_...`, `text_editor_...`, `memory_...`, `computer_...`),
  is a function with the fields that Anthropic's documentation says its calls have. Every vendor's model can call it,
  and its calls look the same to the caller.
* A tool of Anthropic's server (`web_search_...` and others) is left out by name: what it may cost has no bound here.
* A tool that is deferred is a function once the conversation refers to it, and until then isn't shown to the model.

Source: Anthropic's documentation, "Tool use", "Tool search tool".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from fusewire.ai.schema import CacheControl, FunctionDefinition, Items, JsonObject, Tool
from fusewire.http.formats import refused
from fusewire.http.messages.content import (
    OpenModel,
    SystemTurn,
    ToolChangeBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    Turn,
)
from fusewire.http.schema import RequestModel

_NAME: Final = Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$")
_KNOWN: Final = "known are type custom, and Anthropic's own tools"


class CustomTool(RequestModel):
    type: Literal["custom"] | None = None
    name: Annotated[str, _NAME]
    description: str | None = None
    input_schema: JsonObject
    cache_control: CacheControl | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: Items[str] | None = None
    input_examples: Items[JsonObject] | None = None


class ClientTool(OpenModel):
    """One of Anthropic's that the caller runs."""

    type: str
    name: Annotated[str, _NAME]
    cache_control: CacheControl | None = None
    defer_loading: bool | None = None
    display_width_px: int | None = None
    display_height_px: int | None = None


class ServerTool(OpenModel):
    """One that Anthropic's server runs, or a set of which only Anthropic knows what is in it."""

    type: str
    name: str | None = None


class UnknownTool(OpenModel):
    type: Annotated[str, refused(_KNOWN)]


_CLIENTS: Final = re.compile(r"(bash|text_editor|memory|computer)_(\d{8})")
_SERVERS: Final = re.compile(
    r"(web_search|web_fetch|code_execution|advisor|tool_search_tool_\w+?|mcp_toolset|\w+_toolset)(_\d{8})?"
)


def _kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if kind in (None, "custom"):
        return "custom"
    if isinstance(kind, str):
        for tag, pattern in (("client", _CLIENTS), ("server", _SERVERS)):
            if pattern.fullmatch(kind):
                return tag
    return "unknown"


AnyTool = Annotated[
    Annotated[CustomTool, Tag("custom")]
    | Annotated[ClientTool, Tag("client")]
    | Annotated[ServerTool, Tag("server")]
    | Annotated[UnknownTool, Tag("unknown")],
    Discriminator(_kind),
]


class Tools:
    """The tools of one request."""

    def __init__(self, tools: Sequence[AnyTool], turns: Iterable[Turn]) -> None:
        loaded, removed = _changes(turns)
        searches = any(isinstance(tool, ServerTool) and tool.type.startswith("tool_search") for tool in tools)
        self.functions: list[Tool] = []
        """Those that the model is shown."""
        self.dropped: list[str] = []
        """What is left out, by name."""
        self.left_out: list[str] = []
        """The names of the server's tools, which the model can't have."""
        for tool in tools:
            if isinstance(tool, ServerTool):
                self.left_out.append(tool.name or tool.type)
                self.dropped.append(f"tools.{tool.name or tool.type}")
            elif isinstance(tool, CustomTool | ClientTool):
                # Where Anthropic's server would search, nobody does: then all are shown.
                is_waiting = tool.defer_loading and not searches and tool.name not in loaded
                if not is_waiting and tool.name not in removed:
                    self.functions.append(_custom(tool) if isinstance(tool, CustomTool) else _client(tool))
                self.dropped += _dropped(tool)

    @property
    def note(self) -> str | None:
        """What the model has to know where it was to use nothing but what it can't have, lest it makes a result up."""
        if not self.left_out or self.functions:
            return None
        names = ", ".join(self.left_out)
        return f"Not available here: {names}. Say that it isn't, and don't answer as if you had used it."


def _changes(turns: Iterable[Turn]) -> tuple[set[str], set[str]]:
    """The names of the tools that the conversation has loaded, and of those that it has taken away."""
    loaded: set[str] = set()
    removed: set[str] = set()
    for turn in turns:
        for block in turn.content or ():
            if isinstance(block, ToolResultBlock) and isinstance(block.content, list):
                loaded.update(each.tool_name for each in block.content if isinstance(each, ToolReferenceBlock))
            elif isinstance(turn, SystemTurn) and isinstance(block, ToolChangeBlock):
                name = block.tool.name
                (loaded if block.type == "tool_addition" else removed).add(name)
                (removed if block.type == "tool_addition" else loaded).discard(name)
    return loaded, removed


def _dropped(tool: CustomTool | ClientTool) -> Iterator[str]:
    if isinstance(tool, CustomTool):
        if tool.eager_input_streaming is not None:
            yield "tools.eager_input_streaming"
        if tool.input_examples:
            yield "tools.input_examples"
        if tool.allowed_callers and set(tool.allowed_callers) != {"direct"}:
            yield "tools.allowed_callers"


def _custom(tool: CustomTool) -> Tool:
    function = FunctionDefinition(
        name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
    )
    return Tool(type="function", function=function, cache_control=tool.cache_control)


def _client(tool: ClientTool) -> Tool:
    family = tool.type[: -len("_20250124")]
    described, parameters = _FUNCTIONS[family]
    if family == "computer" and tool.display_width_px and tool.display_height_px:
        described += f" The screen is {tool.display_width_px} pixels wide and {tool.display_height_px} high."
    function = FunctionDefinition(name=tool.name, description=described, parameters=parameters)
    return Tool(type="function", function=function, cache_control=tool.cache_control)


def _text(description: str, *values: str) -> dict[str, Any]:
    return {"type": "string", "description": description} | ({"enum": list(values)} if values else {})


def _numbers(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer"}, "description": description}


def _object(required: Sequence[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_LINES: Final = _numbers("For view: the first line and the last one, from 1; -1 is the end.")
_FILE_FIELDS: Final = {
    "path": _text("The file or folder, absolute."),
    "file_text": _text("For create: all that the file is to hold."),
    "old_str": _text("For str_replace: what to replace. It must be there once."),
    "new_str": _text("For str_replace: what replaces it. For insert in older versions: what to insert."),
    "insert_line": {"type": "integer", "description": "For insert: the line after which to insert, 0 for the top."},
    "insert_text": _text("For insert: what to insert."),
    "view_range": _LINES,
}
_FUNCTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "bash": (
        "Run a command in a bash session that lasts.",
        _object((), command=_text("The command."), restart={"type": "boolean", "description": "Start a new session."}),
    ),
    "text_editor": (
        "View, create and edit text files.",
        _object(
            ("command", "path"),
            command=_text("What to do.", "view", "create", "str_replace", "insert", "undo_edit"),
            **_FILE_FIELDS,
        ),
    ),
    "memory": (
        "Keep notes in files under /memories, which last from one conversation to the next. View /memories first.",
        _object(
            ("command",),
            command=_text("What to do.", "view", "create", "str_replace", "insert", "delete", "rename"),
            **_FILE_FIELDS,
            old_path=_text("For rename: the file's path."),
            new_path=_text("For rename: its new path."),
        ),
    ),
    "computer": (
        "Use the mouse and the keyboard of a computer, and look at its screen.",
        _object(
            ("action",),
            action=_text(
                "What to do.",
                *("screenshot", "zoom", "cursor_position", "mouse_move", "left_click", "right_click", "middle_click"),
                *("double_click", "triple_click", "left_click_drag", "left_mouse_down", "left_mouse_up", "scroll"),
                *("type", "key", "hold_key", "wait"),
            ),
            coordinate=_numbers("x and y of the point, in pixels from the upper left."),
            start_coordinate=_numbers("x and y where a drag begins."),
            region=_numbers("For zoom: x and y of the upper left and of the lower right."),
            text=_text("What to type, or which keys to press, such as ctrl+s."),
            scroll_direction=_text("Where to scroll.", "up", "down", "left", "right"),
            scroll_amount={"type": "integer", "description": "How far to scroll, in clicks of the wheel."},
            duration={"type": "number", "description": "Seconds to hold a key or to wait."},
        ),
    ),
}
"""What each family is for, and the fields of its calls, over all versions."""
