"""The items of a Responses request's input, checked.

Each optional field is marked as `fusewire.ai.schema.capabilities` says; a `Hint` is what `ChatRequest` has no place for
and what changes no meaning. Source: OpenAI's API reference, "Create a model response".
"""

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field

from fusewire.ai.schema import Items, JsonObject
from fusewire.ai.schema.base import RequestModel
from fusewire.ai.schema.capabilities import NOT_SENT, SENT, Hint
from fusewire.http.formats import refused, unsupported
from fusewire.http.responses.declared_tools import AnyTool

_FILES: Final = "files can't be sent to every provider: send the text as input_text, or pages as input_image"
_COMPACTED: Final = "only OpenAI can read a conversation that it compacted: send the conversation itself"

Status = Literal["in_progress", "completed", "incomplete"]
Id = Annotated[str | None, NOT_SENT]
ItemStatus = Annotated[Status | None, NOT_SENT]
Parsed = Annotated[Any, NOT_SENT]
"""OpenAI's SDK for TypeScript leaves in an answer what it made of it."""
Breakpoint = Annotated[JsonObject | None, Hint("input.prompt_cache_breakpoint")]


class InputText(RequestModel):
    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: Breakpoint = None


class InputImage(RequestModel):
    type: Literal["input_image"]
    detail: Annotated[
        Literal["auto", "low", "high", "original"] | None, Hint("input.detail", neutral=("auto", "low", "high"))
    ] = None
    """`original` is sent as `high`."""
    image_url: Annotated[str | None, SENT] = None
    file_id: Annotated[None, unsupported("nothing is stored here; send the image as image_url"), NOT_SENT] = None
    prompt_cache_breakpoint: Breakpoint = None


class InputFile(RequestModel):
    model_config = ConfigDict(extra="allow")

    type: Annotated[Literal["input_file"], refused(_FILES)]


class OutputText(RequestModel):
    """An earlier answer's text."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[Items[Any] | None, Hint("input.annotations")] = None
    logprobs: Annotated[Items[Any] | None, Hint("input.logprobs")] = None
    parsed: Parsed = None


class OutputRefusal(RequestModel):
    type: Literal["refusal"]
    refusal: str


MessagePart = Annotated[InputText | InputImage | InputFile | OutputText | OutputRefusal, Field(discriminator="type")]
ResultPart = Annotated[InputText | InputImage | InputFile, Field(discriminator="type")]


class InputMessage(RequestModel):
    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Items[MessagePart]
    id: Id = None
    status: ItemStatus = None
    phase: Annotated[Literal["commentary", "final_answer"] | None, Hint("input.phase")] = None


class DirectCall(RequestModel):
    type: Literal["direct"]


Caller = Annotated[DirectCall | None, NOT_SENT]
Namespace = Annotated[str | None, SENT]
Async = Annotated[bool | None, Field(alias="async"), Hint("input.async", neutral=(False,))]


class InputCall(RequestModel):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    namespace: Namespace = None
    id: Id = None
    status: ItemStatus = None
    caller: Caller = None
    async_: Async = None
    created_by: Id = None
    parsed_arguments: Parsed = None
    extra_content: Annotated[JsonObject | None, SENT] = None
    """Ours: what a vendor sent with the call and wants back; OpenAI's SDKs keep it."""


class InputCustomCall(RequestModel):
    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    namespace: Namespace = None
    id: Id = None
    status: ItemStatus = None
    caller: Caller = None
    async_: Async = None
    created_by: Id = None
    extra_content: Annotated[JsonObject | None, SENT] = None


class InputCallOutput(RequestModel):
    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str
    output: str | Items[ResultPart]
    id: Id = None
    status: ItemStatus = None
    name: Annotated[str | None, NOT_SENT] = None
    namespace: Annotated[str | None, NOT_SENT] = None
    caller: Caller = None
    created_by: Id = None


class ReasoningText(RequestModel):
    type: Literal["reasoning_text", "text"]
    text: str


class SummaryText(RequestModel):
    type: Literal["summary_text"]
    text: str


class InputReasoning(RequestModel):
    type: Literal["reasoning"]
    id: Id = None
    summary: Annotated[Items[SummaryText] | None, Hint("input.reasoning.summary")] = None
    content: Annotated[Items[ReasoningText] | None, SENT] = None
    encrypted_content: Annotated[str | None, Hint("input.reasoning.encrypted_content")] = None
    status: ItemStatus = None


class ItemReference(RequestModel):
    """An item of an earlier answer, where answers are kept."""

    type: Literal["item_reference"]
    id: str


class CompactedItem(RequestModel):
    model_config = ConfigDict(extra="allow")

    type: Annotated[Literal["compaction", "compaction_trigger"], refused(_COMPACTED)]


_HOSTED_ITEMS = Literal[
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_list_tools",
    "mcp_call", "mcp_approval_request", "mcp_approval_response", "program", "program_output",
]  # fmt: skip


class HostedItem(RequestModel):
    """What OpenAI's own tools did for an earlier answer, which is a message of its own."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[_HOSTED_ITEMS, Hint(by_value={name: f"input.{name}" for name in get_args(_HOSTED_ITEMS)})]


class AdditionalTools(RequestModel):
    """Tools that are there from this place of the conversation on."""

    type: Literal["additional_tools"]
    role: Annotated[Literal["developer"] | None, NOT_SENT] = None
    tools: Items[AnyTool]
    id: Id = None


class ToolSearchCall(RequestModel):
    type: Literal["tool_search_call"]
    call_id: Annotated[str | None, SENT] = None
    execution: Annotated[Literal["server", "client"] | None, Hint("input.tool_search_call", neutral=("client",))] = None
    arguments: Annotated[Any, SENT] = None
    id: Id = None
    status: ItemStatus = None
    created_by: Id = None


class ToolSearchOutput(RequestModel):
    type: Literal["tool_search_output"]
    call_id: Annotated[str | None, SENT] = None
    execution: Annotated[Literal["server", "client"] | None, NOT_SENT] = None
    tools: Items[AnyTool]
    id: Id = None
    status: ItemStatus = None
    created_by: Id = None


def _with_type(item: object) -> object:
    if not isinstance(item, dict) or item.get("type") is not None:
        return item
    kind = "item_reference" if "id" in item and "role" not in item else "message"
    return {**item, "type": kind}


Item = Annotated[
    InputMessage
    | InputCall
    | InputCustomCall
    | InputCallOutput
    | InputReasoning
    | AdditionalTools
    | ToolSearchCall
    | ToolSearchOutput
    | HostedItem
    | ItemReference
    | CompactedItem,
    Field(discriminator="type"),
    BeforeValidator(_with_type),
]
