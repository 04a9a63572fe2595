"""The schema of responses, OpenAI's: what callers use is kept, and vendors' private extras are left out.

So an application can't tell which vendor served it. Source of the shapes: OpenAI's API reference, as for the requests.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from fusewire.ai.schema.base import JsonObject, ResponseModel, TokenCount

ServedTier = Annotated[str | None, BeforeValidator(lambda name: name if isinstance(name, str) else None)]
"""A service tier as an answer names it; what isn't a name names none."""


class PromptTokensDetails(ResponseModel):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Of `cache_write_tokens`, those that are kept for an hour."""


class CompletionTokensDetails(ResponseModel):
    reasoning_tokens: int | None = None


class Usage(ResponseModel):
    """Tokens as OpenAI counts them: cached and cache-write ones are within `prompt_tokens`, reasoning within output.

    A count that the vendor didn't tell, or that can't be, isn't set.
    """

    prompt_tokens: TokenCount = 0
    completion_tokens: TokenCount = 0
    total_tokens: TokenCount = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    cost: Annotated[Decimal, WithJsonSchema({"type": "number"})] | None = None
    """USD, booked in the ledger; set by fusewire, never by a vendor."""
    service_tier: Annotated[SkipJsonSchema[ServedTier], Field(exclude=True)] = None
    """Which tier it was counted in, as the vendor calls it; for the booking, not for the caller."""

    @property
    def has_input(self) -> bool:
        """Whether the vendor told the input's tokens."""
        return "prompt_tokens" in self.model_fields_set

    @property
    def has_output(self) -> bool:
        """Whether the vendor told the output's tokens."""
        return "completion_tokens" in self.model_fields_set

    def book(self, cost: Decimal, *, output: bool) -> None:
        """Set the cost in USD, and what wasn't told to 0: OpenAI's SDKs expect a number.

        :param output: whether there is any, as there is none of an embedding
        """
        self.cost = cost
        self.model_fields_set.update({"prompt_tokens", "total_tokens", *(("completion_tokens",) if output else ())})


class ResponseFunction(ResponseModel):
    name: str
    arguments: str


class ResponseToolCall(ResponseModel):
    id: str
    type: Literal["function"] = "function"
    function: ResponseFunction
    extra_content: JsonObject | None = None


class ResponseThinking(ResponseModel):
    """A thought of Claude's with its signature, or one that is encrypted: Claude wants it back as it is."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    place: Annotated[SkipJsonSchema[int | None], Field(exclude=True)] = None
    """Where it stands among the answer's blocks: its thoughts, its texts and its calls."""


class ResponseMessage(ResponseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ResponseToolCall] | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[ResponseThinking] | None = None
    """Claude's thoughts as it wants them back; `reasoning_content` has their text."""
    texts: Annotated[SkipJsonSchema[list[str] | None], Field(exclude=True)] = None
    """The content in the pieces that thoughts stand between."""


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Choice(ResponseModel):
    index: int
    message: ResponseMessage
    finish_reason: FinishReason
    logprobs: JsonObject | None = None


class ChatResponse(ResponseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: ServedTier = None


class DeltaFunction(ResponseModel):
    name: str | None = None
    arguments: str | None = None


class DeltaToolCall(ResponseModel):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: DeltaFunction | None = None
    extra_content: JsonObject | None = None


class Delta(ResponseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[DeltaToolCall] | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[ResponseThinking] | None = None
    """The end of a thought, whose text came as `reasoning_content`: its signature. An encrypted one comes whole."""

    @property
    def has_content(self) -> bool:
        """Whether an application would see something of this: from then on a stream can't change its provider."""
        return bool(self.content or self.refusal or self.tool_calls or self.reasoning_content or self.thinking_blocks)


class ChunkChoice(ResponseModel):
    index: int
    delta: Annotated[Delta, BeforeValidator(lambda delta: delta or {}), Field(default_factory=Delta)]
    """Azure's asynchronous content filter sends annotations in choices that have none."""
    finish_reason: FinishReason | None = None
    logprobs: JsonObject | None = None


_Chunk = Literal["chat.completion.chunk"]


class StreamChunk(ResponseModel):
    id: str
    object: Annotated[_Chunk, BeforeValidator(lambda name: name or "chat.completion.chunk")] = "chat.completion.chunk"
    """Empty in Azure's first chunk, which holds what its content filter found in the prompt."""
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    input_usage: Annotated[SkipJsonSchema[Usage | None], Field(exclude=True)] = None
    """The whole input as its vendor bills it, where it says so before the answer: nothing will be added to it."""
    system_fingerprint: str | None = None
    service_tier: ServedTier = None


class Embedding(ResponseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian 32-bit floats where the caller asked for that."""


class EmbeddingResponse(ResponseModel):
    object: Literal["list"] = "list"
    data: Annotated[list[Embedding], Field(min_length=1)]
    model: str
    usage: Usage | None = None
