"""The blocks of a conversation in Anthropic's Messages format, and its turns.

Source: Anthropic's API reference, "Create a Message". A block that can only stand in an earlier answer, and that nobody
but Anthropic could have made, is read as whatever it is: a conversation that began there goes on.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from fusewire.ai.schema import CacheControl, Items, JsonObject
from fusewire.http.formats import unsupported
from fusewire.http.schema import RequestModel

_IMAGE_TYPES = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
_BASE64: Final = Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")
_CITED: Final = "citations have no place in an answer here"
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class OpenModel(BaseModel):
    """Part of a request that only Anthropic could have made: what nobody here reads is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class TextBlock(RequestModel):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: list[Any] | None = None
    """Of an earlier answer of Anthropic's."""


class Base64Source(RequestModel):
    type: Literal["base64"]
    media_type: _IMAGE_TYPES
    data: Annotated[str, _BASE64]


class UrlSource(RequestModel):
    type: Literal["url"]
    url: str


class FileSource(RequestModel):
    """A file that Anthropic stores."""

    type: Literal["file"]
    file_id: str


class ImageBlock(RequestModel):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]
    cache_control: CacheControl | None = None
    transformations: Annotated[None, unsupported("other vendors have no such thing")] = None


class PdfSource(RequestModel):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: Annotated[str, _BASE64]


class PlainTextSource(RequestModel):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


class ContentSource(RequestModel):
    type: Literal["content"]
    content: str | Items[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]]


class Citations(RequestModel):
    enabled: Annotated[Literal[False] | None, unsupported(_CITED)] = None


class DocumentBlock(RequestModel):
    type: Literal["document"]
    source: Annotated[PdfSource | PlainTextSource | ContentSource | UrlSource | FileSource, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None
    cache_control: CacheControl | None = None


class SearchResultBlock(RequestModel):
    type: Literal["search_result"]
    source: str
    title: str
    content: Items[TextBlock]
    citations: Citations | None = None
    cache_control: CacheControl | None = None


class ToolReferenceBlock(RequestModel):
    """What a client's own search for tools has found: see `fusewire.http.messages.tools`."""

    type: Literal["tool_reference"]
    tool_name: str
    cache_control: CacheControl | None = None


class ToolUseBlock(RequestModel):
    type: Literal["tool_use"]
    id: str
    name: str
    input: JsonObject
    cache_control: CacheControl | None = None
    caller: JsonObject | None = None
    toolset_name: str | None = None
    extra_content: JsonObject | None = None
    """Ours: what a vendor sent with the call and wants back; Anthropic's SDKs keep it."""


class ToolResultBlock(RequestModel):
    type: Literal["tool_result"]
    tool_use_id: str
    content: (
        str
        | Items[
            Annotated[
                TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock,
                Field(discriminator="type"),
            ]
        ]
        | None
    ) = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: str | None = None


class ThinkingBlock(RequestModel):
    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(RequestModel):
    type: Literal["redacted_thinking"]
    data: str


class CompactionBlock(OpenModel):
    """Anthropic's summary of what came before."""

    type: Literal["compaction"]
    content: str | None = None


class ServersBlock(OpenModel):
    """What a tool of Anthropic's server did in an earlier answer: `server_tool_use` and its result, and the like."""

    type: str


def _answer_block(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in _ANSWER_BLOCKS else "other"


_ANSWER_BLOCKS: Final = ("text", "tool_use", "thinking", "redacted_thinking", "compaction")
UserBlock = Annotated[
    TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolResultBlock, Field(discriminator="type")
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")]
    | Annotated[CompactionBlock, Tag("compaction")]
    | Annotated[ServersBlock, Tag("other")],
    Discriminator(_answer_block),
]


class UserTurn(RequestModel):
    role: Literal["user"]
    content: str | Items[UserBlock]


class AssistantTurn(RequestModel):
    role: Literal["assistant"]
    content: str | Items[AssistantBlock]


class ToolChange(OpenModel):
    """The name of a tool that comes or goes in mid-conversation."""

    type: Literal["tool_reference"]
    name: str


class ToolChangeBlock(RequestModel):
    type: Literal["tool_addition", "tool_removal"]
    tool: ToolChange
    cache_control: CacheControl | None = None


class TurnOutputConfig(RequestModel):
    effort: Effort | None = None


class SystemTurn(RequestModel):
    role: Literal["system"]
    content: str | Items[Annotated[TextBlock | ToolChangeBlock, Field(discriminator="type")]] | None = None
    output_config: TurnOutputConfig | None = None
    clear_at: Literal["next_user_message", "never"] | None = None


Turn = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]
