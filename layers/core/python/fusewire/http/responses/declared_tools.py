"""The tools that a Responses request declares, checked. `tools.py` makes functions of them.

Source: OpenAI's API reference, "Create a model response".
"""

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from fusewire.ai.schema import Items, JsonObject
from fusewire.ai.schema.base import RequestModel
from fusewire.ai.schema.capabilities import SENT, Hint

ToolName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.-]+$")]
Callers = Annotated[
    Items[Literal["direct", "programmatic"]] | None,
    Hint("tools.allowed_callers", when=lambda callers: "direct" not in callers),
]
"""A tool that only OpenAI's programs may call is left out."""
Deferred = Annotated[bool | None, Hint("tools.defer_loading", neutral=(False,))]
"""A tool that OpenAI would load when a search finds it is sent at once."""
AsyncTool = Annotated[bool | None, Field(alias="async"), Hint("tools.async", neutral=(False,))]


class FunctionTool(RequestModel):
    type: Literal["function"]
    name: ToolName
    description: Annotated[str | None, SENT] = None
    parameters: Annotated[JsonObject | None, SENT] = None
    strict: Annotated[bool | None, SENT] = None
    defer_loading: Deferred = None
    allowed_callers: Callers = None
    output_schema: Annotated[JsonObject | None, Hint("tools.output_schema")] = None
    async_: AsyncTool = None


class Grammar(RequestModel):
    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: str


class FreeText(RequestModel):
    type: Literal["text"]


class CustomTool(RequestModel):
    """A tool that is called with free text, which may have to follow a grammar."""

    type: Literal["custom"]
    name: ToolName
    description: Annotated[str | None, SENT] = None
    format: Annotated[Annotated[Grammar | FreeText, Field(discriminator="type")] | None, SENT] = None
    defer_loading: Deferred = None
    allowed_callers: Callers = None
    async_: AsyncTool = None


class NamespaceTool(RequestModel):
    """Tools under one name."""

    type: Literal["namespace"]
    name: ToolName
    description: Annotated[str | None, SENT] = None
    tools: Items[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]]


class ToolSearch(RequestModel):
    """A search for tools. The caller runs it, or OpenAI; the latter is left out."""

    type: Literal["tool_search"]
    execution: Annotated[Literal["server", "client"] | None, Hint("tools.tool_search", neutral=("client",))] = "server"
    description: Annotated[str | None, SENT] = None
    parameters: Annotated[JsonObject | None, SENT] = None


_HOSTED_TOOLS = Literal[
    "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "file_search",
    "code_interpreter", "image_generation", "mcp", "local_shell", "shell", "apply_patch", "computer",
    "computer_use", "computer_use_preview", "programmatic_tool_calling",
]  # fmt: skip


class HostedTool(RequestModel):
    """A tool of OpenAI's own, which is left out."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[_HOSTED_TOOLS, Hint(by_value={name: f"tools.{name}" for name in get_args(_HOSTED_TOOLS)})]


AnyTool = Annotated[
    FunctionTool | CustomTool | NamespaceTool | ToolSearch | HostedTool,
    Field(discriminator="type"),
]
