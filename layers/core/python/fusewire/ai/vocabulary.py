"""The one vocabulary of requests and answers: OpenAI's field names, whichever vendor serves.

Requests are strict: a field that isn't here is refused by name, never dropped. Answers keep what callers use and
leave out vendors' private extras, so that an application can't tell who answered.
Source of the shapes: OpenAI's API reference, "Create chat completion" and "Create embeddings".
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class _Asked(BaseModel):
    """Part of a request: unknown fields are errors, and neither `1` nor `"true"` is `True`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Answered(BaseModel):
    """Part of an answer: vendors' extras are left out, and OpenAI's constants are always there."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    _constants: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        cls._constants = frozenset(name for name, told in cls.model_fields.items() if type(told.default) is str)

    def model_post_init(self, context: object) -> None:
        # Answers are sent without what no vendor said; `object`, `role` and `type` OpenAI's SDK won't go without.
        self.model_fields_set.update(self._constants)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


def _only_finite(value: dict[str, Any]) -> dict[str, Any]:
    # pydantic reads NaN, Infinity and 1e999; nobody after us could write them as JSON again.
    if not _is_finite(value):
        raise ValueError("NaN and Infinity aren't JSON")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_only_finite)]

# A model's name goes into headers, logs and the ledger: none is a place for control characters.
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
TokenCap = Annotated[int, Field(ge=1, le=2**31 - 1)]
TokenCount = Annotated[int, Field(ge=0, le=2**53)]
"""Tokens as a vendor reports them; more than a number in JSON can hold exactly is no count."""


# --- chat: the request -------------------------------------------------------------------------------------------


class CacheControl(_Asked):
    """Anthropic's mark for "keep the prompt up to here"; vendors that cache unasked have no place for it."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextPart(_Asked):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None


class RefusalPart(_Asked):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(_Asked):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Asked):
    type: Literal["image_url"]
    image_url: ImageUrl
    cache_control: CacheControl | None = None


ContentPart = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class FunctionCall(_Asked):
    name: str
    arguments: str


class ToolCall(_Asked):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None
    extra_content: JsonObject | None = None
    """Google's: the signature of the thought that led to the call, which has to come back with it."""


class SystemMessage(_Asked):
    role: Literal["system", "developer"]
    content: str | list[TextPart]
    name: str | None = None


class UserMessage(_Asked):
    role: Literal["user"]
    content: str | list[ContentPart]
    name: str | None = None


class AssistantMessage(_Asked):
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


class ToolMessage(_Asked):
    role: Literal["tool"]
    content: str | list[TextPart]
    tool_call_id: str
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class FunctionDefinition(_Asked):
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(_Asked):
    type: Literal["function"]
    function: FunctionDefinition
    cache_control: CacheControl | None = None


class NamedFunction(_Asked):
    name: str


class NamedToolChoice(_Asked):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(_Asked):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextFormat(_Asked):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(_Asked):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(_Asked):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None
    """True can't be honoured: the padding that it asks for is among the vendors' extras."""


class ChatRequest(_Asked):
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


# --- chat: the answer --------------------------------------------------------------------------------------------


class PromptTokensDetails(_Answered):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Of `cache_write_tokens`, those that are kept for an hour."""


class CompletionTokensDetails(_Answered):
    reasoning_tokens: int | None = None


class Usage(_Answered):
    """Tokens as OpenAI counts them: cached and cache-write ones are within `prompt_tokens`, reasoning within output."""

    prompt_tokens: TokenCount
    completion_tokens: TokenCount = 0
    total_tokens: TokenCount = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    cost: Decimal | None = None
    """USD, booked in the ledger; set by fusewire, never by a vendor."""


class AnsweredFunction(_Answered):
    name: str
    arguments: str


class AnsweredToolCall(_Answered):
    id: str
    type: Literal["function"] = "function"
    function: AnsweredFunction
    extra_content: JsonObject | None = None


class AnsweredMessage(_Answered):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[AnsweredToolCall] | None = None
    reasoning_content: str | None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Choice(_Answered):
    index: int
    message: AnsweredMessage
    finish_reason: FinishReason
    logprobs: JsonObject | None = None


class ChatResponse(_Answered):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class DeltaFunction(_Answered):
    name: str | None = None
    arguments: str | None = None


class DeltaToolCall(_Answered):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: DeltaFunction | None = None
    extra_content: JsonObject | None = None


class Delta(_Answered):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[DeltaToolCall] | None = None
    reasoning_content: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether an application would see something of this: from then on a stream can't change its provider."""
        return bool(self.content or self.refusal or self.tool_calls or self.reasoning_content)


class ChunkChoice(_Answered):
    index: int
    delta: Annotated[Delta, BeforeValidator(lambda told: told or {}), Field(default_factory=Delta)]
    """Azure's asynchronous content filter sends annotations in choices that have none."""
    finish_reason: FinishReason | None = None
    logprobs: JsonObject | None = None


_Chunk = Literal["chat.completion.chunk"]


class StreamChunk(_Answered):
    id: str
    object: Annotated[_Chunk, BeforeValidator(lambda told: told or "chat.completion.chunk")] = "chat.completion.chunk"
    """Empty in Azure's first chunk, which holds what its content filter found in the prompt."""
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


# --- embeddings --------------------------------------------------------------------------------------------------

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class EmbeddingRequest(_Asked):
    """`POST /embeddings`."""

    model: ModelName
    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=2048)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2048)]
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


class Embedding(_Answered):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian 32-bit floats where the caller asked for that."""


class EmbeddingResponse(_Answered):
    object: Literal["list"] = "list"
    data: Annotated[list[Embedding], Field(min_length=1)]
    model: str
    usage: Usage | None = None
