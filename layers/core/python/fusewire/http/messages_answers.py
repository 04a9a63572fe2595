"""`POST /messages`: answers, streams and errors in Anthropic's format.

Source: Anthropic's API reference, "Create a Message", "Streaming messages", "Errors".
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

from pydantic import TypeAdapter

from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import (
    ChatResponse,
    CompletionTokensDetails,
    FinishReason,
    JsonObject,
    PromptTokensDetails,
    StreamChunk,
    Usage,
)
from fusewire.errors import (
    AllProvidersFailedError,
    BudgetExceededError,
    BudgetReservedError,
    CallNotFoundError,
    DeadlineExceededError,
    FusewireError,
    KeyNotFoundError,
    ModelNotFoundError,
    RateLimitedError,
    RequestTooLargeError,
)
from fusewire.http.blocks import Block, BlockReader, Step, blocks_of
from fusewire.http.doors import Door, Event, in_own_words, typed_events
from fusewire.http.errors import body_of, headers_of
from fusewire.http.messages import NAMES, chat_request
from fusewire.http.messages_request import MessagesRequest
from fusewire.http.resolver import Resolver

_STOPPED: Final[dict[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""The vocabulary doesn't tell a stop sequence from an end: both are `end_turn`."""

_INPUT: Final = TypeAdapter[dict[str, Any]](JsonObject)
_NOT_JSON: Final = "INVALID_JSON"
"""What Anthropic's documentation wraps arguments in that aren't an object: a model's mistake, or cut at the cap."""


def messages_door(app: Resolver, registry: Registry) -> Door:
    """:raises InvalidRequestError: for a body that can't be understood or honoured"""
    request, dropped = chat_request(app.body(MessagesRequest), registry)
    if app.header("anthropic-beta"):
        dropped = (*dropped, "anthropic-beta")
    message_id = f"msg_{app.request_id.replace('-', '')}"
    return Door(
        request,
        whole=partial(message, message_id),
        events=lambda chunks: typed_events(chunks, MessageWriter(message_id, app.request_id)),
        dropped=dropped,
        names=NAMES,
        headers={"request-id": app.request_id},
    )


# --- whole answers ---


def message(message_id: str, response: ChatResponse, cost: Decimal) -> Event:
    """A whole answer."""
    choice = response.choices[0]
    blocks = blocks_of(choice.message)
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": response.model,
        "content": [_block(block) for block in blocks if block.kind != "refusal"],
        **_stop(choice.finish_reason, blocks),
        "usage": _usage(response.usage, cost),
    }


def _block(block: Block) -> Event:
    if block.kind == "tool":
        return _tool_use(block, _input(block.text))
    if block.kind == "thinking":
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    return {"type": "text", "text": block.text}


def _tool_use(block: Block, given: dict[str, Any]) -> Event:
    told = {"type": "tool_use", "id": block.call_id, "name": block.name, "input": given}
    return told | ({"extra_content": block.extra_content} if block.extra_content else {})


def _input(arguments: str) -> dict[str, Any]:
    try:
        return _INPUT.validate_json(arguments) if arguments.strip() else {}
    except ValueError:
        return {_NOT_JSON: arguments}


def _stop(finish: FinishReason | None, blocks: Sequence[Block]) -> Event:
    reason = _STOPPED[finish or "stop"]
    refusal = "".join(block.text for block in blocks if block.kind == "refusal")
    if refusal:
        reason = "refusal"
    elif reason == "end_turn" and any(block.kind == "tool" for block in blocks):
        # OpenAI's word for it where the tool was forced.
        reason = "tool_use"
    details = {"type": "refusal", "category": None, "explanation": refusal or None} if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


def _usage(usage: Usage | None, cost: Decimal | None) -> Event:
    """Anthropic's count: `input_tokens` is what neither came from a cache nor went into one."""
    told: Event = {"input_tokens": 0, "output_tokens": 0}
    if usage is not None:
        details = usage.prompt_tokens_details or PromptTokensDetails()
        read, written = details.cached_tokens or 0, details.cache_write_tokens or 0
        hour = min(details.cache_write_1h_tokens or 0, written)
        thought = (usage.completion_tokens_details or CompletionTokensDetails()).reasoning_tokens
        told = {
            "input_tokens": max(usage.prompt_tokens - read - written, 0),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "cache_creation": {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour},
            "output_tokens": usage.completion_tokens,
        }
        if thought is not None:
            told["output_tokens_details"] = {"thinking_tokens": thought}
    return told if cost is None else told | {"cost": cost}


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
            return  # told with the reason for stopping
        if step.what == "begins":
            self._index += 1
            empty = Block(step.block.kind, step.block.call_id, step.block.name, step.block.extra_content)
            yield {"type": "content_block_start", "index": self._index, "content_block": _block(empty)}
        elif step.what == "goes_on":
            delta = _DELTAS[step.block.kind]
            told = {"type": delta[0], delta[1]: step.text}
            yield {"type": "content_block_delta", "index": self._index, "delta": told}
        else:
            yield {"type": "content_block_stop", "index": self._index}

    def end(self, reader: BlockReader) -> Iterator[Event]:
        usage = _usage(reader.usage, reader.usage.cost if reader.usage else None)
        yield {"type": "message_delta", "delta": _stop(reader.finish, self._blocks), "usage": usage}
        yield {"type": "message_stop"}

    def broken(self, message: str, code: str) -> Iterator[Event]:
        told = {"type": "api_error", "message": message, "details": {"error_code": code}}
        yield {"type": "error", "error": told, "request_id": self._request_id}


_DELTAS: Final = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}

# --- errors ---

_TYPES: Final[tuple[tuple[type[FusewireError], str], ...]] = (
    (KeyNotFoundError, "not_found_error"),
    (ModelNotFoundError, "not_found_error"),
    (CallNotFoundError, "not_found_error"),
    (RequestTooLargeError, "request_too_large"),
    (BudgetExceededError, "billing_error"),
    (BudgetReservedError, "rate_limit_error"),
    (RateLimitedError, "rate_limit_error"),
    (DeadlineExceededError, "timeout_error"),
)


def error_type(error: FusewireError) -> str:
    """Anthropic's word for an error of ours."""
    for kind, told in _TYPES:
        if isinstance(error, kind):
            return told
    if isinstance(error, AllProvidersFailedError) and error.retry_after is not None:
        return "overloaded_error"
    # Where the vocabulary's word isn't Anthropic's too, it is something on this side.
    return error.type if error.status < 500 else "api_error"


def tell_error(error: FusewireError, request_id: str) -> tuple[object, dict[str, str]]:
    """Anthropic's error body and headers; what else OpenAI's body would tell is among the details."""
    told, param = in_own_words(error, NAMES)
    plain: Any = body_of(error)["error"]
    more = {key: value for key, value in plain.items() if key not in ("message", "type", "code", "param")}
    details = {"error_code": error.code, "param": param, **more}
    body = {
        "type": "error",
        "error": {"type": error_type(error), "message": told, "details": details},
        "request_id": request_id,
    }
    return body, headers_of(error) | {"request-id": request_id}
