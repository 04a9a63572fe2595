"""What is answered, in OpenAI's words: what callers use is kept, and vendors' private extras are left out.

So an application can't tell who answered. Source of the shapes: OpenAI's API reference, as for the requests.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from fusewire.ai.vocabulary.shapes import Answered, JsonObject, TokenCount


class PromptTokensDetails(Answered):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Of `cache_write_tokens`, those that are kept for an hour."""


class CompletionTokensDetails(Answered):
    reasoning_tokens: int | None = None


class Usage(Answered):
    """Tokens as OpenAI counts them: cached and cache-write ones are within `prompt_tokens`, reasoning within output."""

    prompt_tokens: TokenCount
    completion_tokens: TokenCount = 0
    total_tokens: TokenCount = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    cost: Annotated[Decimal, WithJsonSchema({"type": "number"})] | None = None
    """USD, booked in the ledger; set by fusewire, never by a vendor."""


class AnsweredFunction(Answered):
    name: str
    arguments: str


class AnsweredToolCall(Answered):
    id: str
    type: Literal["function"] = "function"
    function: AnsweredFunction
    extra_content: JsonObject | None = None


class AnsweredMessage(Answered):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[AnsweredToolCall] | None = None
    reasoning_content: str | None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Choice(Answered):
    index: int
    message: AnsweredMessage
    finish_reason: FinishReason
    logprobs: JsonObject | None = None


class ChatResponse(Answered):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class DeltaFunction(Answered):
    name: str | None = None
    arguments: str | None = None


class DeltaToolCall(Answered):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: DeltaFunction | None = None
    extra_content: JsonObject | None = None


class Delta(Answered):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[DeltaToolCall] | None = None
    reasoning_content: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether an application would see something of this: from then on a stream can't change its provider."""
        return bool(self.content or self.refusal or self.tool_calls or self.reasoning_content)


class ChunkChoice(Answered):
    index: int
    delta: Annotated[Delta, BeforeValidator(lambda told: told or {}), Field(default_factory=Delta)]
    """Azure's asynchronous content filter sends annotations in choices that have none."""
    finish_reason: FinishReason | None = None
    logprobs: JsonObject | None = None


_Chunk = Literal["chat.completion.chunk"]


class StreamChunk(Answered):
    id: str
    object: Annotated[_Chunk, BeforeValidator(lambda told: told or "chat.completion.chunk")] = "chat.completion.chunk"
    """Empty in Azure's first chunk, which holds what its content filter found in the prompt."""
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class Embedding(Answered):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian 32-bit floats where the caller asked for that."""


class EmbeddingResponse(Answered):
    object: Literal["list"] = "list"
    data: Annotated[list[Embedding], Field(min_length=1)]
    model: str
    usage: Usage | None = None
