"""The schema of requests, OpenAI's: a field that isn't here is refused by name, never dropped.

Each optional field is marked with what it asks of a provider; `capabilities` says what the marks mean.
Source of the shapes: OpenAI's API reference, "Create chat completion" and "Create embeddings".
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from fusewire.ai.schema.base import Items, JsonObject, ModelName, RequestModel, TokenCap
from fusewire.ai.schema.capabilities import (
    NOT_SENT,
    SENT,
    Hint,
    Kept,
    Meaning,
    Preference,
    Unsupported,
    capabilities_of,
)
from fusewire.ai.schema.thinking import Thinking, ThinkingBlock, holds_signed, is_more_than_effort
from fusewire.price_overrides import ServiceTier

Role = Annotated[str | None, NOT_SENT]
"""Within a part: some clients repeat the message's there."""
CacheBreakpoint = Annotated[JsonObject | None, Hint()]
"""OpenAI's: where its cache ends. Its models from GPT-5.6 on take one, and the others refuse it."""


class CacheControl(RequestModel):
    """Anthropic's mark for "keep the prompt up to here"; vendors that cache unasked have no place for it."""

    type: Literal["ephemeral"]
    ttl: Annotated[Literal["5m", "1h"] | None, SENT] = None
    scope: Annotated[str | None, NOT_SENT] = None
    """Who may share what is kept: Anthropic's beta, which Claude Code sends. What is kept is shared less without it."""


class TextPart(RequestModel):
    type: Literal["text"]
    text: str
    role: Role = None
    cache_control: Annotated[CacheControl | None, Hint()] = None
    prompt_cache_breakpoint: CacheBreakpoint = None


class RefusalPart(RequestModel):
    type: Literal["refusal"]
    refusal: str
    role: Role = None


class ImageUrl(RequestModel):
    url: str
    detail: Annotated[Literal["auto", "low", "high"] | None, Hint("messages.image_url.detail", neutral=("auto",))] = (
        "auto"
    )


class ImagePart(RequestModel):
    capability = "images"

    type: Literal["image_url"]
    image_url: ImageUrl
    role: Role = None
    cache_control: Annotated[CacheControl | None, Hint()] = None
    prompt_cache_breakpoint: CacheBreakpoint = None


class FileData(RequestModel):
    file_data: Annotated[str, Field(pattern=r"^data:application/pdf;base64,[A-Za-z0-9+/]+={0,2}$")]
    filename: Annotated[str | None, SENT] = None


class FilePart(RequestModel):
    """A PDF, read with its pictures by whoever is capable of it. Where nobody is, see `fusewire.ai.relaxing`."""

    capability = "files"

    type: Literal["file"]
    file: FileData
    role: Role = None
    cache_control: Annotated[CacheControl | None, Hint()] = None
    prompt_cache_breakpoint: CacheBreakpoint = None


ContentPart = Annotated[TextPart | ImagePart | FilePart | RefusalPart, Field(discriminator="type")]


Parsed = Annotated[Any, NOT_SENT]
"""What OpenAI's SDKs make of an answer, and leave in it when it is sent back."""


def _object_for_nothing(arguments: str) -> str:
    """Models that call a tool without parameters, and clients that keep such calls, write nothing or `null`."""
    return "{}" if arguments.strip() in ("", "null") else arguments


class FunctionCall(RequestModel):
    name: str
    arguments: Annotated[
        str, BeforeValidator(lambda value: "" if value is None else value), AfterValidator(_object_for_nothing)
    ]
    parsed_arguments: Parsed = None


class ToolCall(RequestModel):
    id: str
    type: Annotated[Literal["function"], BeforeValidator(lambda name: name or "function"), SENT] = "function"
    function: FunctionCall
    index: Annotated[int | None, SENT] = None
    extra_content: Annotated[JsonObject | None, Hint()] = None
    """Google's: the signature of the thought that led to the call, which has to come back with it."""


class SystemMessage(RequestModel):
    role: Literal["system", "developer"]
    content: str | Items[TextPart]
    name: Annotated[str | None, Hint("messages.name")] = None


class UserMessage(RequestModel):
    role: Literal["user"]
    content: str | Items[ContentPart]
    name: Annotated[str | None, Hint("messages.name")] = None


class AssistantMessage(RequestModel):
    """An earlier answer, as applications send it back: with the empty fields that OpenAI's SDK keeps."""

    role: Literal["assistant"]
    content: Annotated[str | Items[Annotated[TextPart | RefusalPart, Field(discriminator="type")]] | None, SENT] = None
    name: Annotated[str | None, Hint("messages.name")] = None
    refusal: Annotated[str | None, SENT] = None
    tool_calls: Annotated[Items[ToolCall] | None, Meaning("tools")] = None
    reasoning_content: Annotated[str | None, Hint()] = None
    thinking_blocks: Annotated[Items[ThinkingBlock] | None, Hint(when=holds_signed)] = None
    annotations: Annotated[Annotated[list[Any], Field(max_length=0)] | None, NOT_SENT] = None
    audio: Annotated[None, Unsupported(), NOT_SENT] = None
    parsed: Parsed = None
    function_call: Annotated[FunctionCall | None, NOT_SENT] = None
    """The old form of `tool_calls`: see `ChatRequest.functions`."""


class FunctionMessage(RequestModel):
    """The old form of a tool's result: see `ChatRequest.functions`."""

    is_sent = False

    role: Literal["function"]
    name: str
    content: Annotated[str | None, SENT] = None


class ToolMessage(RequestModel):
    capability = "tools"

    role: Literal["tool"]
    content: str | Items[TextPart]
    tool_call_id: str
    name: Annotated[str | None, Hint("messages.name")] = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Field(discriminator="role")
]


class FunctionDefinition(RequestModel):
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.-]+$")]
    """OpenAI's have 64 letters at most, Claude's and Gemini's 128: a vendor that takes fewer says so."""
    description: Annotated[str | None, SENT] = None
    parameters: Annotated[JsonObject | None, SENT] = None
    strict: Annotated[bool | None, Meaning("strict_tools", neutral=(False,))] = None


class Tool(RequestModel):
    type: Literal["function"]
    function: FunctionDefinition
    cache_control: Annotated[CacheControl | None, Hint()] = None


class NamedFunction(RequestModel):
    name: str


class NamedToolChoice(RequestModel):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(RequestModel):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str | None, SENT] = None
    schema_: Annotated[JsonObject | None, Field(alias="schema"), SENT] = None
    strict: Annotated[bool | None, SENT] = None


class TextFormat(RequestModel):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(RequestModel):
    include_usage: Annotated[bool | None, NOT_SENT] = None
    include_obfuscation: Annotated[bool | None, NOT_SENT] = None
    """OpenAI pads its chunks by default; the padding is among the vendors' extras, which are left out."""


def _default_search(value: object) -> object:
    return {"search_context_size": "medium"} if value == {} else value


Penalty = Annotated[float, Field(ge=-2, le=2)]


class ChatRequest(RequestModel):
    """`POST /chat/completions`. Token counts are tokens; the output cap is `max_completion_tokens`."""

    model: ModelName
    messages: Annotated[Items[Message], Field(min_length=1)]
    stream: Annotated[bool | None, NOT_SENT] = None
    stream_options: Annotated[StreamOptions | None, NOT_SENT] = None
    max_tokens: Annotated[TokenCap | None, NOT_SENT] = None
    max_completion_tokens: Annotated[TokenCap | None, NOT_SENT] = None
    temperature: Annotated[Annotated[float, Field(ge=0, le=2)] | None, Preference(neutral=(1,))] = None
    top_p: Annotated[Annotated[float, Field(ge=0, le=1)] | None, Preference(neutral=(1,))] = None
    n: Annotated[Annotated[int, Field(ge=1, le=128)] | None, Meaning(neutral=(1,))] = None
    stop: Annotated[str | Annotated[list[str], Field(max_length=4)] | None, Meaning()] = None
    seed: Annotated[Annotated[int, Field(ge=-(2**63), lt=2**63)] | None, Hint()] = None
    presence_penalty: Annotated[Penalty | None, Hint(neutral=(0,))] = None
    frequency_penalty: Annotated[Penalty | None, Hint(neutral=(0,))] = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]] | None, Hint()] = None
    logprobs: Annotated[bool | None, Meaning(neutral=(False,))] = None
    top_logprobs: Annotated[Annotated[int, Field(ge=0, le=20)] | None, Meaning("logprobs", neutral=(0,))] = None
    user: Annotated[str | None, Hint()] = None
    safety_identifier: Annotated[str | None, Hint()] = None
    prompt_cache_key: Annotated[str | None, Hint()] = None
    prompt_cache_retention: Annotated[str | None, Hint(neutral=("in_memory", "in-memory"))] = None
    prompt_cache_options: Annotated[JsonObject | None, Hint()] = None
    store: Annotated[Literal[False] | None, Unsupported(), Meaning(neutral=(False,))] = None
    modalities: Annotated[Items[Literal["text"]] | None, Unsupported(), NOT_SENT] = None
    audio: Annotated[None, Unsupported(), NOT_SENT] = None
    moderation: Annotated[None, Unsupported(), NOT_SENT] = None
    prediction: Annotated[JsonObject | None, Hint()] = None
    """What it saves is time."""
    web_search_options: Annotated[JsonObject | None, BeforeValidator(_default_search), Hint()] = None
    """What a search costs has no bound here."""
    metadata: Annotated[dict[str, str] | None, Hint()] = None
    tools: Annotated[Items[Tool] | None, Meaning()] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | NamedToolChoice | None,
        Meaning(
            by_value={"none": "tool_choice_none", "required": "tool_choice_required", "function": "tool_choice_named"},
            neutral=("auto",),
            beside="tools",
        ),
    ] = None
    parallel_tool_calls: Annotated[bool | None, Kept("serial_tool_calls", neutral=(True,), beside="tools")] = None
    functions: Annotated[Items[FunctionDefinition] | None, NOT_SENT] = None
    """The old form of `tools`, with `function_call` for `tool_choice` and in messages. It is read as the new form."""
    function_call: Annotated[Literal["none", "auto"] | NamedFunction | None, NOT_SENT] = None
    response_format: Annotated[
        Annotated[TextFormat | JsonSchemaFormat, Field(discriminator="type")] | None,
        Meaning(by_value={"json_object": "json_object", "json_schema": "json_schema"}, neutral=("text",)),
    ] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None, Preference()
    ] = None
    thinking: Annotated[Thinking | None, Hint(when=is_more_than_effort)] = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, Hint(neutral=("medium",))] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "priority", "fast"] | None,
        Hint(neutral=("auto", "default")),
    ] = None
    """`auto` is the default tier too, whatever the vendor's own settings make of it; `fast` is `priority` by OpenAI's
    newer name. A tier says how soon an answer comes: where it can't be had or has no price, the default one serves."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "ChatRequest":
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        if isinstance(self.function_call, NamedFunction) and not self.functions:
            raise ValueError("function_call needs functions")
        if self.functions and self.tools:
            raise ValueError("functions is the old form of tools; send one of them")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def tier_asked(self) -> ServiceTier | None:
        """The service tier that the caller asks for, None for the default one."""
        match self.service_tier:
            case "flex":
                return "flex"
            case "priority" | "fast":
                return "priority"
        return None

    @property
    def output_cap(self) -> int | None:
        """Tokens of output that the caller allows for each of the `n` answers; None when it names no cap."""
        return self.max_completion_tokens or self.max_tokens

    def images(self) -> Iterator[ImagePart]:
        """Every image in the conversation, in order."""
        return (part for part in self._parts() if isinstance(part, ImagePart))

    def files(self) -> Iterator[FilePart]:
        """Every document in the conversation, in order."""
        return (part for part in self._parts() if isinstance(part, FilePart))

    def _parts(self) -> Iterator[ContentPart]:
        for message in self.messages:
            if isinstance(message, UserMessage) and isinstance(message.content, list):
                yield from message.content


# Where hundreds of thousands may be wrong, the first is enough.
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]


def holds_token_ids(value: object) -> bool:
    """Whether an embedding's input is token ids, or a list of such lists."""
    return isinstance(value, list) and not isinstance(value[0], str)


SEND_TEXT_INSTEAD: Final = "Send text: with LangChain's OpenAIEmbeddings, set check_embedding_ctx_length=False"
"""What a caller can do whose client sends token ids unasked."""


class EmbeddingRequest(RequestModel):
    """`POST /embeddings`."""

    model: ModelName
    input: Annotated[
        str
        | Annotated[list[str], Field(min_length=1, max_length=2048, fail_fast=True)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2048, fail_fast=True)],
        Meaning("token_ids", when=holds_token_ids),
    ]
    encoding_format: Annotated[Literal["float", "base64"] | None, NOT_SENT] = None
    dimensions: Annotated[Annotated[int, Field(ge=1)] | None, Meaning()] = None
    user: Annotated[str | None, Hint()] = None

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


CAPABILITIES: Final = capabilities_of(ChatRequest, EmbeddingRequest)
"""Every word that a provider may declare: a field's name, or one of the words that the marks name."""
