"""`POST /messages`: the request in Anthropic's Messages format, checked.

Source: Anthropic's API reference, "Create a Message". `messages` says it in the vocabulary's words.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from fusewire.ai.vocabulary import CacheControl, JsonObject, ModelName, TokenCap
from fusewire.http.doors import Asked, of_type, refused

_IMAGE_TYPES = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
_CUSTOM_ONLY: Final = "only tools of the caller's own (type custom) can be honoured here"
_ELSEWHERE: Final = "it lives at Anthropic, and other vendors have no such thing"
_NONE_YET: Final = Field(max_length=0)


class TextBlock(Asked):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: Annotated[None, refused("citations have no place in a request here")] = None


class Base64Source(Asked):
    type: Literal["base64"]
    media_type: _IMAGE_TYPES
    data: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]


class UrlSource(Asked):
    type: Literal["url"]
    url: str


class ImageBlock(Asked):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]
    cache_control: CacheControl | None = None
    transformations: Annotated[None, refused("other vendors have no such thing")] = None


class DirectCaller(Asked):
    type: Literal["direct"]


class ToolUseBlock(Asked):
    type: Literal["tool_use"]
    id: str
    name: str
    input: JsonObject
    cache_control: CacheControl | None = None
    caller: DirectCaller | None = None
    toolset_name: Annotated[None, refused(_ELSEWHERE)] = None
    extra_content: JsonObject | None = None
    """Ours: what a vendor sent with the call and wants back; Anthropic's SDKs keep it."""


class ToolResultBlock(Asked):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: Annotated[None, refused(_ELSEWHERE)] = None


class ThinkingBlock(Asked):
    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Asked):
    type: Literal["redacted_thinking"]
    data: str


UserBlock = Annotated[TextBlock | ImageBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[
    TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock, Field(discriminator="type")
]


class UserTurn(Asked):
    role: Literal["user"]
    content: str | list[UserBlock]


class AssistantTurn(Asked):
    role: Literal["assistant"]
    content: str | list[AssistantBlock]


class SystemTurn(Asked):
    role: Literal["system"]
    content: str | list[TextBlock]


Turn = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]


class CustomTool(Asked):
    type: Literal["custom"] | None = None
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    """64 letters, where Anthropic takes 128: no more has a place at every vendor."""
    description: str | None = None
    input_schema: JsonObject
    cache_control: CacheControl | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Annotated[Literal[False] | None, refused(_ELSEWHERE)] = None
    allowed_callers: list[Literal["direct"]] | None = None
    input_examples: Annotated[Annotated[list[Any], _NONE_YET] | None, refused("other vendors have no such thing")] = (
        None
    )


class ToolChoice(Asked):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Asked):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Field(ge=1024)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Asked):
    type: Literal["json_schema"]
    schema_: Annotated[JsonObject, Field(alias="schema")]


class OutputConfig(Asked):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(Asked):
    user_id: str | None = None


class MessagesRequest(Asked):
    """`POST /messages`."""

    model: ModelName
    max_tokens: TokenCap
    messages: Annotated[list[Turn], Field(min_length=1)]
    system: str | list[TextBlock] | None = None
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Field(max_length=4)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    tools: (
        Annotated[list[Annotated[CustomTool, of_type("custom", None, why=_CUSTOM_ONLY)]], Field(max_length=128)] | None
    ) = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
    cache_control: CacheControl | None = None
    service_tier: Literal["auto"] | None = None
    speed: Literal["standard"] | None = None
    context_management: JsonObject | None = None
    container: Annotated[None, refused(_ELSEWHERE)] = None
    mcp_servers: Annotated[Annotated[list[Any], _NONE_YET] | None, refused(_ELSEWHERE)] = None
    inference_geo: Annotated[None, refused("where a model runs is for the operator's settings to say")] = None
    diagnostics: Annotated[None, refused(_ELSEWHERE)] = None
