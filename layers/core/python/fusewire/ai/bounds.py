"""The input bound: a true upper bound on the tokens of a request, from its bytes alone. The output's is its cap.

No tokenizer makes more tokens than there are bytes in the text that it reads: byte-level BPE starts from single bytes
and merges, SentencePiece falls back to bytes for what it doesn't know. So the bytes of the widest text that a server
may make of a request, plus allowances for what it adds, bound every vendor's count, and no guess about a model's
tokenizer is needed. Four things widen a text on its way: Unicode normalisation, JSON written anew, escapes in that
JSON, and separators. What a server adds of its own is an allowance: fixed ones here, and one by provider, which a usage
that exceeds its bound raises (`fusewire.ai.allowances`).
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from fusewire.ai.pdf import max_pages
from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    EmbeddingRequest,
    FilePart,
    JsonSchemaFormat,
    Message,
    NamedToolChoice,
    RefusalPart,
    TextPart,
)
from fusewire.json import dumps

TOKENS_PER_REQUEST: Final = 96
"""What a vendor's own server adds once: the answer's priming and a default system text (Harmony's is the longest one
known, about 70 tokens)."""

TEMPLATE_TOKENS: Final = 1024
"""What a server adds once that renders a model's own chat template: the default of `<PROVIDER>_TEMPLATE_TOKENS`. The
default system text takes 20 to 30 tokens in SmolLM2's and Llama 3's, 200 in Mistral Small 3's under llama.cpp, and
about 600, the most that is known, in Mistral Small 3.2's (kekzl/imp#78)."""

TOKENS_PER_MESSAGE: Final = 8
"""Markers around a message: 3 or 4 tokens at OpenAI (their cookbook, "How to count tokens"), 5 in ChatML as llama.cpp
renders it, 6 in Llama 3 and Harmony. The role is among them."""

TOKENS_PER_PART: Final = 32
"""What joins or wraps a part of a message's content: a newline (vLLM), or the JSON around it where a template writes a
message's content as JSON (Llama 3.1, of tools' results)."""

TOKENS_PER_TOOL_RESULT: Final = 128
"""The JSON in which a template wraps a tool's result, beside the tool's name and the call's id (Command R7B; llama.cpp
for models without a role for tools)."""

TOKENS_FOR_TOOLS: Final = 1024
"""The hidden text that comes with tools. Anthropic documents 264 to 804 tokens by model ("Tool use: pricing"); Qwen's
and Hermes' templates add about 150."""

TOKENS_PER_IMAGE: Final = 49_152
"""The most that one image is billed at: gpt-4o-mini counts 2,833 + 5,667 for each of up to 8 tiles, 48,169 tokens
(OpenAI, "Images and vision: calculating costs"); every other documented model stays below 20,000."""

TOKENS_PER_PAGE: Final = 8192
"""The most that a page of a PDF is billed at, with whatever joins it: 3,000 tokens of text and a picture of the page
(Anthropic, "PDF support: estimate your costs"), which takes 4,784 at most ("Vision: image limits")."""

MAX_PAGES: Final = 600
"""That a vendor takes in one request (Anthropic, "PDF support: requirements"); a file whose pages can't be counted is
never sent."""

_JSON_AROUND: Final = 64
"""The words and marks that wrap one tool or one tool call."""

_OBJECT_CLOSED: Final = 80
"""`"additionalProperties":false`, `"properties":{}` and `"description":"{}"` with their separators."""

_CALL: Final = '{"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}'

_LIST_DEPTH: Final = 1
"""Tools are written as one list (`tools | tojson(indent=4)` in Granite's template)."""
_CALLS_DEPTH: Final = 2
"""Calls are written as a list, or as an object with a list (llama.cpp, for models whose template has no calls)."""

_ESCAPE: Final = 6
"""Bytes of a UTF-16 unit as JSON writers escape it, `\\u003c`."""
_HTML: Final = "<>&'\x7f"
"""ASCII that some writers escape: Jinja2's own `tojson` and minijinja's `<>&'`, Go's `<>&` (Ollama)."""
_LINE_ENDS: Final = "\u2028\u2029"
"""Three bytes each; Go escapes them and leaves other letters."""

_PIECE: Final = 1024
_PIECE_SEAM: Final = 8
"""What composition across the seam of two pieces can change, in bytes: one letter with its marks."""

_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[{}\[\],:]|\d[eE]', re.DOTALL)
_MAX_FLOAT: Final = 24
"""Of any 64-bit float's shortest form: -1.7976931348623157e+308."""


def chat_input_bound(request: ChatRequest, template_tokens: int = TOKENS_PER_REQUEST) -> int:
    """Tokens of input that no server can count more of, for the whole conversation with tools and schema.

    :param template_tokens: what the server adds once (`AIProvider.template_tokens`)
    """
    bound = template_tokens
    answers = (message for message in request.messages if isinstance(message, AssistantMessage))
    called = {call.function.name for answer in answers for call in answer.tool_calls or ()}
    longest_name = max((_json(dumps(name)) for name in called), default=0)
    for message in request.messages:
        bound += TOKENS_PER_MESSAGE + sum(_message(message))
        if message.role == "tool":
            bound += TOKENS_PER_TOOL_RESULT + longest_name
    if request.tools or called:
        bound += TOKENS_FOR_TOOLS
    if not request.tools:
        # Anthropic wants earlier calls' tools defined, so that its hidden text comes with a history of calls too.
        bound += sum(_JSON_AROUND + _json(dumps(name)) for name in called)
    for tool in request.tools or ():
        text = dumps(tool.model_dump(exclude_none=True))
        bound += _JSON_AROUND + _json(text, _LIST_DEPTH)
        bound += _completion(text) if tool.function.strict else 0
        if "$defs" in (tool.function.parameters or {}) or "definitions" in (tool.function.parameters or {}):
            bound += _json(text, _LIST_DEPTH)  # a union at the root is put together from its definitions, which stay
    if isinstance(request.tool_choice, NamedToolChoice):
        bound += _json(dumps(request.tool_choice.function.name))
    if isinstance(request.response_format, JsonSchemaFormat):
        text = dumps(request.response_format.model_dump(exclude_none=True))
        bound += TOKENS_FOR_TOOLS + _json(text) + _completion(text)
    elif request.response_format is not None:
        bound += TOKENS_PER_REQUEST
    bound += TOKENS_PER_PAGE * sum(_pages(part) for part in request.files())
    return bound + TOKENS_PER_IMAGE * sum(1 for _ in request.images())


def _pages(part: FilePart) -> int:
    pages = max_pages(part.file.file_data.partition(",")[2])
    return MAX_PAGES if pages is None else pages


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
        yield _json(dumps(message.name))
    content = message.content
    texts = [content] if isinstance(content, str) else [_part(part) for part in content or ()]
    if isinstance(content, list) or message.role == "tool":
        yield TOKENS_PER_PART * len(texts)
    for text in texts:
        # Llama 3.1's template writes a tool's result as JSON: its quotes and line ends come back escaped.
        yield _json(dumps(text)) if message.role == "tool" else _text(text)
    if isinstance(message, AssistantMessage):
        yield from map(_text, filter(None, (message.refusal, message.reasoning_content)))
        for thought in message.thinking_blocks or ():
            # Encrypted, it is longer than the thought that it stands for.
            yield from map(_text, filter(None, (thought.thinking, thought.signature, thought.data)))
        for call in message.tool_calls or ():
            # Its arguments are a string within JSON in some templates, and parsed and written anew in others.
            arguments = (dumps(call.function.arguments), call.function.arguments)
            written = (_CALL % (dumps(call.id), dumps(call.function.name), each) for each in arguments)
            yield _JSON_AROUND + max(_json(each, _CALLS_DEPTH) for each in written)
            if call.extra_content is not None:
                # Google's signatures, which go back to it: whatever stands there goes with them.
                yield _JSON_AROUND + _json(dumps(call.extra_content))
    elif message.role == "tool":
        yield _json(dumps(message.tool_call_id))


def _part(part: object) -> str:
    """A part's text; an image has none, and is counted by itself."""
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, FilePart):
        return part.file.filename or ""
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


def _json(text: str, depth: int = 0) -> int:
    """The bound of JSON however a template writes it: on one line, spaced, or indented by four (`tojson(indent=4)`),
    and with its letters as they are or escaped.

    :param depth: the lists and objects that it stands in, where a template writes them as one
    """
    added = 4 * depth
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
                added += _MAX_FLOAT
    return _escaped(text) + added


def _escaped(text: str) -> int:
    """The bound of JSON as its text, or with whatever a server's JSON writer escapes.

    Hugging Face's `tojson` escapes no letters (transformers#31100), Jinja2's own does (llama-cpp-python), and so did
    llama.cpp's (minja#7) and TabbyAPI's (tabbyAPI#459); which one a server has can't be told from outside.
    """
    bound = _text(text)
    if not text.isascii():
        ascii_bytes = len(text.encode("ascii", errors="ignore"))
        units = len(text.encode("utf-16-le", errors="surrogatepass")) // 2 - ascii_bytes
        line_ends = sum(map(text.count, _LINE_ENDS))
        bound = max(bound + (_ESCAPE - 3) * line_ends, ascii_bytes + _ESCAPE * units)
    return bound + (_ESCAPE - 1) * sum(map(text.count, _HTML))


def _completion(schema: str) -> int:
    """What a schema grows by where it is closed and its limits are described (`providers/json_schemas.py`)."""
    return _OBJECT_CLOSED * schema.count("{") + schema.count('"') + schema.count("\\")


def _as_list(item: object) -> list[object]:
    return item if isinstance(item, list) else [item]
