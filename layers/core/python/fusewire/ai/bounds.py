"""The input bound: a true upper bound on the tokens of a request. The output's is its cap.

No tokenizer makes more tokens than there are bytes in the text that it reads: byte-level BPE starts from single bytes
and merges, SentencePiece falls back to bytes for what it doesn't know. So the bytes of the widest text that a server
may make of a request, plus allowances for what it adds, bound every vendor's count, and no guess about a model's
tokenizer is needed. Four things widen a text on its way: Unicode normalisation, JSON written anew, escapes in that
JSON, and separators. What a server adds of its own is an allowance: fixed ones here, and one by provider, which a usage
that exceeds its bound raises (`fusewire.ai.allowances`).

Where a vendor has published more of how a model's input is counted (`fusewire.ai.counting`), the bound is tighter and
still one: images by their size, OpenAI's texts in its own vocabulary, the hidden text of tools by vendor.
"""

from collections.abc import Callable, Iterator
from typing import Final

from fusewire.ai.counting import ANY_SERVER, TOKENS_PER_REQUEST, Counting, Encoding
from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    EmbeddingRequest,
    FilePart,
    ImageUrl,
    JsonSchemaFormat,
    Message,
    NamedToolChoice,
    RefusalPart,
    TextPart,
)
from fusewire.ai.text_bounds import counted_json_bytes, hosted_json_bytes, json_bytes, plain_bytes, text_bytes
from fusewire.json import dumps

TOKENS_PER_MESSAGE: Final = 8
"""Markers around a message: 3 or 4 tokens at OpenAI (their cookbook, "How to count tokens"), 5 in ChatML as llama.cpp
renders it, 6 in Llama 3 and Harmony. The role is among them."""

TOKENS_PER_PART: Final = 32
"""What joins or wraps a part of a message's content: a newline (vLLM), or the JSON around it where a template writes a
message's content as JSON (Llama 3.1, of tools' results)."""

TOKENS_PER_TOOL_RESULT: Final = 128
"""The JSON in which a template wraps a tool's result, beside the tool's name and the call's id (Command R7B; llama.cpp
for models without a role for tools)."""

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

WORTH_COUNTING: Final = 4096
"""Bytes of a request's texts from which on they are counted in the vendor's vocabulary: the bytes of less are at most
so many tokens, some two cents at 5 USD a million, and the vocabulary takes time to load."""


_PARAMETERS: Final = 256
"""Bytes of a tool's parameters, for the question whether a request is worth counting."""


class InputBound:
    """The bound of one request's input, for each way of counting it; each is computed once."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._known: dict[Counting, int] = {}

    def of(self, counting: Counting) -> int:
        """In tokens, without what the server adds once."""
        if (known := self._known.get(counting)) is None:
            known = self._known[counting] = chat_input_bound(self._request, 0, counting)
        return known


def chat_input_bound(
    request: ChatRequest, template_tokens: int = TOKENS_PER_REQUEST, counting: Counting = ANY_SERVER
) -> int:
    """Tokens of input that no server can count more of, for the whole conversation with tools and schema.

    :param template_tokens: what the server adds once (`AIProvider.template_tokens`)
    :param counting: what is known of how this model's server counts
    """
    text_size, as_text = _text_size(request, counting.encoding), counting.encoding is not None
    write = _json_size(counting, text_size)
    bound = template_tokens
    answers = (message for message in request.messages if isinstance(message, AssistantMessage))
    called = {call.function.name for answer in answers for call in answer.tool_calls or ()}
    longest_name = max((write(dumps(name), 0) for name in called), default=0)
    for message in request.messages:
        bound += TOKENS_PER_MESSAGE + sum(_message(message, text_size, write, results_as_text=as_text))
        if message.role == "tool":
            bound += TOKENS_PER_TOOL_RESULT + longest_name
    if request.tools or called:
        bound += counting.hidden_tool_tokens
    if not request.tools:
        # Anthropic wants earlier calls' tools defined, so that its hidden text comes with a history of calls too.
        bound += sum(_JSON_AROUND + write(dumps(name), 0) for name in called)
    for tool in request.tools or ():
        text = dumps(tool.model_dump(exclude_none=True))
        bound += _JSON_AROUND + write(text, _LIST_DEPTH)
        bound += _completion(text) if tool.function.strict else 0
        if "$defs" in (tool.function.parameters or {}) or "definitions" in (tool.function.parameters or {}):
            bound += write(text, _LIST_DEPTH)  # a union at the root is put together from its definitions, which stay
    if isinstance(request.tool_choice, NamedToolChoice):
        bound += write(dumps(request.tool_choice.function.name), 0)
    if isinstance(request.response_format, JsonSchemaFormat):
        text = dumps(request.response_format.model_dump(exclude_none=True))
        bound += counting.hidden_schema_tokens + write(text, 0) + _completion(text)
    elif request.response_format is not None:
        bound += TOKENS_PER_REQUEST
    bound += TOKENS_PER_PAGE * sum(_pages(part) for part in request.files())
    return bound + sum(_image_tokens(part.image_url, counting) for part in request.images())


def _image_tokens(image: ImageUrl, counting: Counting) -> int:
    # Here, because few requests have any.
    from fusewire.ai.image_size import image_size

    return counting.images(image_size(image.url), image.detail or "auto")


def _json_size(counting: Counting, text_size: "_TextSize") -> "_JsonSize":
    """How JSON is counted, given the depth that it stands in."""
    if counting.own_template:
        return json_bytes
    if counting.encoding is None:
        return lambda text, _: hosted_json_bytes(text)
    return lambda text, _: counted_json_bytes(text, text_size)


def _text_size(request: ChatRequest, encoding: Encoding | None) -> "_TextSize":
    """How the texts of this request are counted."""
    if encoding is None:
        return text_bytes
    total = sum(plain_bytes(text) for message in request.messages for text in _texts(message))
    total += sum(len(tool.function.description or "") for tool in request.tools or ())
    total += _PARAMETERS * len(request.tools or ())
    if total < WORTH_COUNTING:
        return plain_bytes
    from fusewire.ai.exact_tokens import text_tokens

    return lambda text: text_tokens(text, encoding)


def _pages(part: FilePart) -> int:
    from fusewire.ai.pdf import max_pages

    pages = max_pages(part.file.file_data.partition(",")[2])
    return MAX_PAGES if pages is None else pages


def embedding_input_bound(request: EmbeddingRequest) -> int:
    """Tokens of input: bytes of texts, or the token ids as they were given, plus each input's markers."""
    items = request.input
    if isinstance(items, str):
        return text_bytes(items) + TOKENS_PER_MESSAGE
    if items and isinstance(items[0], int):
        return len(items) + TOKENS_PER_MESSAGE
    return sum(
        (text_bytes(item) if isinstance(item, str) else len(_as_list(item))) + TOKENS_PER_MESSAGE for item in items
    )


_TextSize = Callable[[str], int]
_JsonSize = Callable[[str, int], int]


def _texts(message: Message) -> list[str]:
    """The texts of a message's content."""
    content = message.content
    return [content] if isinstance(content, str) else [_part(part) for part in content or ()]


def _message(message: Message, text_size: _TextSize, write: _JsonSize, *, results_as_text: bool) -> Iterator[int]:
    """The bound of each text of a message that a template may render.

    :param results_as_text: whether a tool's result stands in the prompt as it came (OpenAI's openai-harmony)
    """
    if message.name:
        yield write(dumps(message.name), 0)
    content = message.content
    texts = _texts(message)
    if isinstance(content, list) or message.role == "tool":
        yield TOKENS_PER_PART * len(texts)
    for text in texts:
        # Llama 3.1's template writes a tool's result as JSON: its quotes and line ends come back escaped.
        yield write(dumps(text), 0) if message.role == "tool" and not results_as_text else text_size(text)
    if isinstance(message, AssistantMessage):
        yield from map(text_size, filter(None, (message.refusal, message.reasoning_content)))
        for thought in message.thinking_blocks or ():
            # Encrypted, it is longer than the thought that it stands for.
            yield from map(text_size, filter(None, (thought.thinking, thought.signature, thought.data)))
        for call in message.tool_calls or ():
            # Its arguments are a string within JSON in some templates, and parsed and written anew in others.
            arguments = (dumps(call.function.arguments), call.function.arguments)
            written = (_CALL % (dumps(call.id), dumps(call.function.name), each) for each in arguments)
            yield _JSON_AROUND + max(write(each, _CALLS_DEPTH) for each in written)
            if call.extra_content is not None:
                # Google's signatures, which go back to it: whatever stands there goes with them.
                yield _JSON_AROUND + write(dumps(call.extra_content), 0)
    elif message.role == "tool":
        yield write(dumps(message.tool_call_id), 0)


def _part(part: object) -> str:
    """A part's text; an image has none, and is counted by itself."""
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, FilePart):
        return part.file.filename or ""
    return part.refusal if isinstance(part, RefusalPart) else ""


def _completion(schema: str) -> int:
    """What a schema grows by where it is closed and its limits are described (`providers/json_schemas.py`)."""
    return _OBJECT_CLOSED * schema.count("{") + schema.count('"') + schema.count("\\")


def _as_list(item: object) -> list[object]:
    return item if isinstance(item, list) else [item]
