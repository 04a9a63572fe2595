"""A true upper bound on the tokens of a request, from its bytes alone.

No tokenizer makes more tokens than there are bytes: byte-level BPE starts from single bytes and merges, SentencePiece
falls back to bytes for what it doesn't know. So bytes of UTF-8, plus allowances for what servers add around the text,
bound every vendor's count, and no guess about a model's tokenizer is needed.
"""

from collections.abc import Iterable
from typing import Any, Final

from fusewire.ai.vocabulary import (
    AssistantMessage,
    ChatRequest,
    EmbeddingRequest,
    JsonSchemaFormat,
    Message,
    NamedToolChoice,
    RefusalPart,
    TextPart,
)
from fusewire.json import dumps

TOKENS_PER_REQUEST: Final = 96
"""What a server adds once: the answer's priming and a chat template's default system text (Harmony's is the longest
common one, about 70 tokens; SmolLM2's and Llama 3's take 20 to 30)."""

TOKENS_PER_MESSAGE: Final = 8
"""Markers around a message: 3 or 4 tokens at OpenAI (their cookbook, "How to count tokens"), 5 in ChatML as llama.cpp
renders it, 6 in Llama 3 and Harmony. The role is among them."""

TOKENS_FOR_TOOLS: Final = 1024
"""The hidden text that comes with tools. Anthropic documents 264 to 804 tokens by model ("Tool use: pricing"); Qwen's
and Hermes' templates add about 150."""

TOKENS_PER_IMAGE: Final = 49_152
"""The most that one image is billed at: gpt-4o-mini counts 2,833 + 5,667 for each of up to 8 tiles, 48,169 tokens
(OpenAI, "Images and vision: calculating costs"); every other documented model stays below 20,000."""

_JSON_OVERHEAD_PER_TOOL: Final = 64


def chat_input_bound(request: ChatRequest) -> int:
    """Tokens of input that no server can count more of, for the whole conversation with tools and schema."""
    bound = TOKENS_PER_REQUEST
    for message in request.messages:
        bound += TOKENS_PER_MESSAGE + sum(map(_bytes, _texts(message)))
    if request.tools:
        bound += TOKENS_FOR_TOOLS
        for tool in request.tools:
            bound += _JSON_OVERHEAD_PER_TOOL + _json_bytes(tool.model_dump(exclude_none=True))
    if isinstance(request.tool_choice, NamedToolChoice):
        bound += _bytes(request.tool_choice.function.name)
    if isinstance(request.response_format, JsonSchemaFormat):
        bound += TOKENS_FOR_TOOLS + _json_bytes(request.response_format.model_dump(exclude_none=True))
    elif request.response_format is not None:
        bound += TOKENS_PER_REQUEST
    return bound + TOKENS_PER_IMAGE * sum(1 for _ in request.images())


def embedding_input_bound(request: EmbeddingRequest) -> int:
    """Tokens of input: bytes of texts, or the token ids as they were given, plus each input's markers."""
    items = request.input
    if isinstance(items, str):
        return _bytes(items) + TOKENS_PER_MESSAGE
    if items and isinstance(items[0], int):
        return len(items) + TOKENS_PER_MESSAGE
    return sum((_bytes(item) if isinstance(item, str) else len(_as_list(item))) + TOKENS_PER_MESSAGE for item in items)


def _texts(message: Message) -> Iterable[str]:
    """Every text of a message that a template may render."""
    if message.name:
        yield message.name
    content = message.content
    if isinstance(content, str):
        yield content
    elif content:
        for part in content:
            if isinstance(part, TextPart):
                yield part.text
            elif isinstance(part, RefusalPart):
                yield part.refusal
    if isinstance(message, AssistantMessage):
        yield from filter(None, (message.refusal, message.reasoning_content))
        for call in message.tool_calls or ():
            # Rendered as JSON by many templates: the quotes within the arguments may come back escaped.
            yield dumps({"id": call.id, "type": "function", "function": call.function.model_dump()})
            yield " " * TOKENS_PER_MESSAGE
    elif message.role == "tool":
        yield message.tool_call_id


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))


def _json_bytes(value: dict[str, Any]) -> int:
    # Indented JSON is the widest form in which a template writes a schema: count it with room for the white space.
    text = dumps(value)
    return _bytes(text) + 2 * text.count(",") + 2 * text.count(":")


def _as_list(item: object) -> list[object]:
    return item if isinstance(item, list) else [item]
