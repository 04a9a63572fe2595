"""`POST /messages`: answers and streams in Anthropic's format.

Source: Anthropic's API reference, "Create a Message", "Streaming messages".
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from fusewire.ai.registry import Registry
from fusewire.ai.schema import (
    ChatResponse,
    CompletionTokensDetails,
    FinishReason,
    JsonObject,
    PromptTokensDetails,
    StreamChunk,
    Usage,
)
from fusewire.http.blocks import Block, BlockReader, Step, blocks_of
from fusewire.http.formats import ApiFormat
from fusewire.http.headers import ANTHROPIC_REQUEST_ID
from fusewire.http.messages.errors import anthropic_error
from fusewire.http.messages.request import MessagesRequest
from fusewire.http.messages.translate import NAMES, chat_request
from fusewire.http.request import Request
from fusewire.http.schema import Money
from fusewire.http.typed_events import Event, typed_events

StopReason = Literal["end_turn", "max_tokens", "tool_use", "refusal"]
_STOPPED: Final[dict[FinishReason, StopReason]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""A `ChatResponse` doesn't distinguish a stop sequence from an end: both are `end_turn`."""

_INPUT: Final = TypeAdapter[dict[str, Any]](JsonObject)
_NOT_JSON: Final = "INVALID_JSON"
"""What Anthropic's documentation wraps arguments in that aren't an object: a model's mistake, or cut at the cap."""


class AnthropicUsage(TypedDict):
    """Tokens as Anthropic counts them; `cost` is in USD."""

    input_tokens: int
    cache_read_input_tokens: NotRequired[int]
    cache_creation_input_tokens: NotRequired[int]
    cache_creation: NotRequired[dict[str, int]]
    output_tokens: int
    output_tokens_details: NotRequired[dict[str, int]]
    cost: NotRequired[Money]


class AnthropicMessage(TypedDict):
    """As Anthropic's API reference has it; `usage.cost` is the cost in USD."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Event]
    stop_reason: StopReason
    stop_sequence: None
    stop_details: NotRequired[Event | None]
    usage: AnthropicUsage


class AnthropicTokenCount(TypedDict):
    """As Anthropic's API reference has it, "Count tokens in a Message"."""

    input_tokens: int


def messages_format(request: Request, body: MessagesRequest, registry: Registry) -> ApiFormat:
    """
    :param registry: finds the model that a Claude's own id means
    :raises InvalidRequestError: for a body that can't be honoured
    """
    chat, dropped = chat_request(body, registry)
    if request.header("anthropic-beta"):
        dropped = (*dropped, "anthropic-beta")
    message_id = f"msg_{request.id.replace('-', '')}"
    return ApiFormat(
        chat,
        render=partial(message, message_id),
        render_stream=lambda chunks: typed_events(chunks, MessageWriter(message_id, request.id)),
        dropped=dropped,
        names=NAMES,
        headers={ANTHROPIC_REQUEST_ID.name: request.id},
    )


# --- whole answers ---


def message(message_id: str, response: ChatResponse, cost: Decimal) -> AnthropicMessage:
    """A whole answer."""
    choice = response.choices[0]
    blocks = blocks_of(choice.message)
    reason, details = _stop(choice.finish_reason, blocks)
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": response.model,
        "content": [_block(block) for block in blocks if block.kind != "refusal"],
        "stop_reason": reason,
        "stop_sequence": None,
        "stop_details": details,
        "usage": _usage(response.usage, cost),
    }


def _block(block: Block) -> Event:
    if block.kind == "tool":
        return _tool_use(block, _input(block.text))
    if block.encrypted:
        return {"type": "redacted_thinking", "data": block.encrypted}
    if block.kind == "thinking":
        return {"type": "thinking", "thinking": block.text, "signature": block.signature}
    return {"type": "text", "text": block.text}


def _tool_use(block: Block, given: dict[str, Any]) -> Event:
    tool_use = {"type": "tool_use", "id": block.call_id, "name": block.name, "input": given}
    return tool_use | ({"extra_content": block.extra_content} if block.extra_content else {})


def _input(arguments: str) -> dict[str, Any]:
    try:
        return _INPUT.validate_json(arguments) if arguments.strip() else {}
    except ValueError:
        return {_NOT_JSON: arguments}


def _stop(finish: FinishReason | None, blocks: Sequence[Block]) -> tuple[StopReason, Event | None]:
    """The reason for stopping, and what there is to say of it."""
    reason = _STOPPED[finish or "stop"]
    refusal = "".join(block.text for block in blocks if block.kind == "refusal")
    if refusal:
        reason = "refusal"
    elif reason == "end_turn" and any(block.kind == "tool" for block in blocks):
        # OpenAI's word for it where the tool was forced.
        reason = "tool_use"
    details = {"type": "refusal", "category": None, "explanation": refusal or None} if reason == "refusal" else None
    return reason, details


def _usage(usage: Usage | None, cost: Decimal | None) -> AnthropicUsage:
    """Anthropic's count: `input_tokens` is what neither came from a cache nor went into one."""
    counts: AnthropicUsage = {"input_tokens": 0, "output_tokens": 0}
    if usage is not None:
        details = usage.prompt_tokens_details or PromptTokensDetails()
        read, written = details.cached_tokens or 0, details.cache_write_tokens or 0
        hour = min(details.cache_write_1h_tokens or 0, written)
        thought = (usage.completion_tokens_details or CompletionTokensDetails()).reasoning_tokens
        counts = {
            "input_tokens": max(usage.prompt_tokens - read - written, 0),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "cache_creation": {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour},
            "output_tokens": usage.completion_tokens,
        }
        if thought is not None:
            counts["output_tokens_details"] = {"thinking_tokens": thought}
    if cost is not None:
        counts["cost"] = cost
    return counts


# --- streams ---


class MessageWriter:
    """Anthropic's events: the message's start, each block from its start to its stop, the message's delta and stop."""

    def __init__(self, message_id: str, request_id: str) -> None:
        self._message_id = message_id
        self._request_id = request_id
        self._blocks: list[Block] = []
        self._index = -1

    def begin(self, chunk: StreamChunk | None) -> Iterator[Event]:
        # Nobody knows the input's tokens yet: the last event but one has the whole usage.
        started: Event = {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": chunk.model if chunk else "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        yield {"type": "message_start", "message": started}

    def step(self, step: Step) -> Iterator[Event]:
        if step.what == "begins":
            self._blocks.append(step.block)
        if step.block.kind == "refusal":
            return  # it is part of the reason for stopping
        if step.what == "begins":
            self._index += 1
            empty = Block(
                step.block.kind,
                step.block.call_id,
                step.block.name,
                step.block.extra_content,
                encrypted=step.block.encrypted,
            )
            yield {"type": "content_block_start", "index": self._index, "content_block": _block(empty)}
        elif step.what == "goes_on":
            delta = _DELTAS[step.block.kind]
            yield {
                "type": "content_block_delta",
                "index": self._index,
                "delta": {"type": delta[0], delta[1]: step.text},
            }
        else:
            if step.block.signature:
                yield {
                    "type": "content_block_delta",
                    "index": self._index,
                    "delta": {"type": "signature_delta", "signature": step.block.signature},
                }
            yield {"type": "content_block_stop", "index": self._index}

    def end(self, reader: BlockReader) -> Iterator[Event]:
        usage = _usage(reader.usage, reader.usage.cost if reader.usage else None)
        reason, details = _stop(reader.finish, self._blocks)
        delta = {"stop_reason": reason, "stop_sequence": None, "stop_details": details}
        yield {"type": "message_delta", "delta": delta, "usage": usage}
        yield {"type": "message_stop"}

    def broken(self, message: str, code: str) -> Iterator[Event]:
        yield {**anthropic_error("api_error", message, {"error_code": code}, self._request_id)}


_DELTAS: Final = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}
