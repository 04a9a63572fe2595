"""A true upper bound on the tokens of a request, from its bytes alone.

No tokenizer makes more tokens than there are bytes in the text that it reads: byte-level BPE starts from single bytes
and merges, SentencePiece falls back to bytes for what it doesn't know. So the bytes of the widest text that a server
may make of a request, plus allowances for what it adds, bound every vendor's count, and no guess about a model's
tokenizer is needed. Three things widen a text on its way: Unicode normalisation, JSON written anew, and separators.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

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

TOKENS_PER_PART: Final = 32
"""What joins or wraps a part of a message's content: a newline (vLLM), or the JSON around it where a template writes a
message's content as JSON (Llama 3.1, of tools' results)."""

TOKENS_FOR_TOOLS: Final = 1024
"""The hidden text that comes with tools. Anthropic documents 264 to 804 tokens by model ("Tool use: pricing"); Qwen's
and Hermes' templates add about 150."""

TOKENS_PER_IMAGE: Final = 49_152
"""The most that one image is billed at: gpt-4o-mini counts 2,833 + 5,667 for each of up to 8 tiles, 48,169 tokens
(OpenAI, "Images and vision: calculating costs"); every other documented model stays below 20,000."""

_JSON_AROUND: Final = 64
"""The words and marks that wrap one tool or one tool call."""

_CALL: Final = '{"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}'

_PIECE: Final = 1024
_PIECE_SEAM: Final = 8
"""What composition across the seam of two pieces can change, in bytes: one letter with its marks."""

_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[{}\[\],:]|\d[eE]', re.DOTALL)
_LONGEST_FLOAT: Final = 24
"""Of any 64-bit float's shortest form: -1.7976931348623157e+308."""


def chat_input_bound(request: ChatRequest) -> int:
    """Tokens of input that no server can count more of, for the whole conversation with tools and schema."""
    bound = TOKENS_PER_REQUEST
    for message in request.messages:
        bound += TOKENS_PER_MESSAGE + sum(_message(message))
    answers = (message for message in request.messages if isinstance(message, AssistantMessage))
    called = {call.function.name for answer in answers for call in answer.tool_calls or ()}
    if request.tools or called:
        bound += TOKENS_FOR_TOOLS
    if not request.tools:
        # Anthropic wants earlier calls' tools defined, so that its hidden text comes with a history of calls too.
        bound += sum(_JSON_AROUND + _text(name) for name in called)
    for tool in request.tools or ():
        bound += _JSON_AROUND + _json(dumps(tool.model_dump(exclude_none=True)))
    if isinstance(request.tool_choice, NamedToolChoice):
        bound += _text(request.tool_choice.function.name)
    if isinstance(request.response_format, JsonSchemaFormat):
        bound += TOKENS_FOR_TOOLS + _json(dumps(request.response_format.model_dump(exclude_none=True)))
    elif request.response_format is not None:
        bound += TOKENS_PER_REQUEST
    return bound + TOKENS_PER_IMAGE * sum(1 for _ in request.images())


def embedding_input_bound(request: EmbeddingRequest) -> int:
    """Tokens of input: bytes of texts, or the token ids as they were given, plus each input's markers."""
    items = request.input
    if isinstance(items, str):
        return _text(items) + TOKENS_PER_MESSAGE
    if items and isinstance(items[0], int):
        return len(items) + TOKENS_PER_MESSAGE
    return sum((_text(item) if isinstance(item, str) else len(_as_list(item))) + TOKENS_PER_MESSAGE for item in items)


def _message(message: Message) -> Iterator[int]:
    """The bound of each text of a message that a template may render."""
    if message.name:
        yield _text(message.name)
    content = message.content
    texts = [content] if isinstance(content, str) else [_part(part) for part in content or ()]
    if isinstance(content, list) or message.role == "tool":
        yield TOKENS_PER_PART * len(texts)
    for text in texts:
        # Llama 3.1's template writes a tool's result as JSON: its quotes and line ends come back escaped.
        yield _text(dumps(text) if message.role == "tool" else text)
    if isinstance(message, AssistantMessage):
        yield from map(_text, filter(None, (message.refusal, message.reasoning_content)))
        for call in message.tool_calls or ():
            # Its arguments are a string within JSON in some templates, and parsed and written anew in others.
            arguments = (dumps(call.function.arguments), call.function.arguments)
            yield _JSON_AROUND + max(_json(_CALL % (dumps(call.id), dumps(call.function.name), a)) for a in arguments)
            if call.extra_content is not None:
                # Google's signatures, which go back to it: whatever stands there goes with them.
                yield _JSON_AROUND + _json(dumps(call.extra_content))
    elif message.role == "tool":
        yield _text(message.tool_call_id)


def _part(part: object) -> str:
    """A part's text; an image has none, and is counted by itself."""
    if isinstance(part, TextPart):
        return part.text
    return part.refusal if isinstance(part, RefusalPart) else ""


def _text(text: str) -> int:
    """Bytes of the text, or of what a tokenizer's normalisation makes of it where that is more.

    NFKC in Claude's published tokenizer and in SentencePiece, small letters in BERT's: U+FDFA, three bytes, becomes 33.
    """
    if text.isascii():
        return len(text)
    bound = 0
    # In pieces, since normalising a long run of combining marks takes time by the square of its length.
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        normal = unicodedata.normalize("NFKC", piece)
        bound += _PIECE_SEAM + max(map(_bytes, (piece, normal, normal.casefold())))
    return bound


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))


def _json(text: str) -> int:
    """The bound of JSON however a template writes it: on one line, spaced, or indented by four (`tojson(indent=4)`)."""
    added = depth = 0
    for found in _STRUCTURE.finditer(text):
        match found[0][-1]:
            case "{" | "[":
                depth += 1
                added += 1 + 4 * depth
            case "}" | "]":
                depth -= 1
                added += 1 + 4 * max(depth, 0)
            case ",":
                added += 1 + 4 * max(depth, 0)
            case ":":
                added += 1
            case "e" | "E":
                # 1e15 comes back as 1000000000000000.0
                added += _LONGEST_FLOAT
    return _text(text) + added


def _as_list(item: object) -> list[object]:
    return item if isinstance(item, list) else [item]
