"""What can be asked, in OpenAI's words: a field that isn't here is refused by name, never dropped.

Source of the shapes: OpenAI's API reference, "Create chat completion" and "Create embeddings".
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from fusewire.ai.vocabulary.shapes import Asked, JsonObject, ModelName, TokenCap


class CacheControl(Asked):
    """Anthropic's mark for "keep the prompt up to here"; vendors that cache unasked have no place for it."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextPart(Asked):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None


class RefusalPart(Asked):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Asked):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Asked):
    type: Literal["image_url"]
    image_url: ImageUrl
    cache_control: CacheControl | None = None


ContentPart = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class FunctionCall(Asked):
    name: str
    arguments: str


class ToolCall(Asked):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None
    extra_content: JsonObject | None = None
    """Google's: the signature of the thought that led to the call, which has to come back with it."""


class SystemMessage(Asked):
    role: Literal["system", "developer"]
    content: str | list[TextPart]
    name: str | None = None


class UserMessage(Asked):
    role: Literal["user"]
    content: str | list[ContentPart]
    name: str | None = None


class AssistantMessage(Asked):
    """An earlier answer, as applications send it back: with the empty fields that OpenAI's SDK keeps."""

    role: Literal["assistant"]
    content: str | list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Asked):
    role: Literal["tool"]
    content: str | list[TextPart]
    tool_call_id: str
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class FunctionDefinition(Asked):
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Asked):
    type: Literal["function"]
    function: FunctionDefinition
    cache_control: CacheControl | None = None


class NamedFunction(Asked):
    name: str


class NamedToolChoice(Asked):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Asked):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextFormat(Asked):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(Asked):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(Asked):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None
    """True can't be honoured: the padding that it asks for is among the vendors' extras."""


class ChatRequest(Asked):
    """`POST /chat/completions`. Token counts are tokens; the output cap is `max_completion_tokens`."""

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenCap | None = None
    max_completion_tokens: TokenCap | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[TextFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "ChatRequest":
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        if self.tool_choice is not None and self.tool_choice != "none" and not self.tools:
            raise ValueError("tool_choice needs tools")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def output_cap(self) -> int | None:
        """Tokens of output that the caller allows for each of the `n` answers; None when it names no cap."""
        return self.max_completion_tokens or self.max_tokens

    def images(self) -> Iterator[ImagePart]:
        """Every image in the conversation, in order."""
        for message in self.messages:
            if isinstance(message, UserMessage) and isinstance(message.content, list):
                yield from (part for part in message.content if isinstance(part, ImagePart))

    def extensions(self) -> frozenset[str]:
        """Which fields of single vendors' it carries: `cache_control`, `extra_content`, `reasoning_content`."""
        found: set[str] = set()
        for message in self.messages:
            if isinstance(message.content, list) and any(getattr(part, "cache_control", 0) for part in message.content):
                found.add("cache_control")
            if isinstance(message, AssistantMessage):
                if message.reasoning_content:
                    found.add("reasoning_content")
                if any(call.extra_content for call in message.tool_calls or ()):
                    found.add("extra_content")
        if any(tool.cache_control for tool in self.tools or ()):
            found.add("cache_control")
        return frozenset(found)


# Where hundreds of thousands may be wrong, the first is enough.
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]


class EmbeddingRequest(Asked):
    """`POST /embeddings`."""

    model: ModelName
    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=2048, fail_fast=True)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2048, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _no_empty_text(self) -> "EmbeddingRequest":
        texts = [self.input] if isinstance(self.input, str) else self.input
        if any(text == "" for text in texts):
            raise ValueError("input can't hold an empty string")
        return self

    @property
    def count(self) -> int:
        """How many inputs there are, each to be answered with one vector."""
        if isinstance(self.input, str) or isinstance(self.input[0], int):
            return 1
        return len(self.input)
