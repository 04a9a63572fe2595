"""Anthropic's answers in OpenAI's words: whole messages, streams of events, finish reasons and usage.

Read leniently, as the vendor asks: kinds of blocks and events that aren't known here are passed over.
Sources: Anthropic's API reference, "Create a Message", "Streaming messages", "Stop reasons and fallback".
"""

import time
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusewire.ai.vocabulary import ChatResponse, FinishReason, StreamChunk, TokenCount, Usage
from fusewire.json import dumps

_FINISHED: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
_CUT_SHORT: Final[FinishReason] = "length"
"""For any other reason, such as `pause_turn`: what isn't known to be whole is told to be cut."""


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _CacheCreation(_Told):
    ephemeral_1h_input_tokens: TokenCount = 0
    ephemeral_5m_input_tokens: TokenCount = 0


class _OutputDetails(_Told):
    thinking_tokens: TokenCount | None = None


class _Usage(_Told):
    """`input_tokens` is what neither was read from a cache nor written to one: the prompt is the sum of three."""

    input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: TokenCount | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(_Told):
    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}


class _StopDetails(_Told):
    explanation: str | None = None


class _Message(_Told):
    type: Literal["message"]
    id: str
    model: str
    content: list[_Block]
    stop_reason: str
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None


class _Begun(_Told):
    id: str
    model: str
    usage: _Usage | None = None


class _Delta(_Told):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Event(_Told):
    type: str
    index: int = 0
    message: _Begun | None = None
    content_block: _Block | None = None
    delta: _Delta = Field(default_factory=_Delta)
    usage: _Usage | None = None


def usage_of(told: _Usage | None) -> Usage | None:
    """OpenAI's count: the prompt with both cache counts in it, and reasoning within the output.

    Without its output tokens it is told without them, and is settled at the bound.
    """
    if told is None or told.input_tokens is None:
        return None
    read = told.cache_read_input_tokens or 0
    by_age = told.cache_creation or _CacheCreation()
    hour = by_age.ephemeral_1h_input_tokens
    written = max(told.cache_creation_input_tokens or 0, by_age.ephemeral_5m_input_tokens + hour)
    prompt = told.input_tokens + read + written
    counted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "cache_write_tokens": written,
            "cache_write_1h_tokens": hour,
        },
    }
    if told.output_tokens is not None:
        counted |= {"completion_tokens": told.output_tokens, "total_tokens": prompt + told.output_tokens}
    if told.output_tokens_details and told.output_tokens_details.thinking_tokens is not None:
        counted["completion_tokens_details"] = {"reasoning_tokens": told.output_tokens_details.thinking_tokens}
    return Usage.model_validate(counted)


def whole_answer(raw: bytes) -> ChatResponse:
    """:raises ValueError: for what is no message"""
    told = _Message.model_validate_json(raw)
    calls = [_call(block) for block in told.content if block.type == "tool_use"]
    text = "".join(block.text for block in told.content if block.type == "text")
    thought = "".join(block.thinking for block in told.content if block.type == "thinking")
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    if thought:
        message["reasoning_content"] = thought
    if told.stop_reason == "refusal" and told.stop_details:
        message["refusal"] = told.stop_details.explanation
    choice = {"index": 0, "message": message, "finish_reason": _finish(told.stop_reason), "logprobs": None}
    answer = {
        "id": told.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": told.model,
        "choices": [choice],
    }
    usage = usage_of(told.usage)
    return ChatResponse.model_validate(answer if usage is None else answer | {"usage": usage})


class StreamReader:
    """One stream's events, each read to a chunk or to nothing."""

    def __init__(self) -> None:
        self.begun: bool = False
        """The vendor has taken the request up: what comes to grief from here on may have cost something."""
        self.done: bool = False
        """It said that the answer is whole."""
        self.finish: FinishReason | None = None
        self.called: set[str] = set()
        self._message = _Begun(id="", model="")
        self._created = int(time.time())
        self._usage = _Usage()
        self._calls: dict[int, tuple[int, str]] = {}
        """Of each block that is a tool call: its place among the calls, and its arguments unless they came."""

    def read(self, event: object) -> StreamChunk | None:
        """:raises ValueError: for an event that can't be read"""
        told = _Event.model_validate(event)
        match told.type:
            case "message_start" if told.message is not None:
                self.begun = True
                self._message = told.message
                self._count(told.message.usage, final=False)
                return self._chunk({"role": "assistant", "content": ""})
            case "content_block_start" if told.content_block is not None:
                return self._block_begins(told.index, told.content_block)
            case "content_block_delta":
                return self._block_goes_on(told.index, told.delta)
            case "content_block_stop":
                return self._block_ends(told.index)
            case "message_delta":
                self._count(told.usage, final=True)
                return self._finishes(told.delta)
            case "message_stop":
                self.done = self.finish is not None
                return self._last() if self.done else None
        return None

    def filtered(self) -> StreamChunk:
        """The end of an answer that the vendor's filter blocked in the middle: nobody tells what it cost."""
        self.finish = "content_filter"
        return self._chunk({}, self.finish)

    def _block_begins(self, index: int, block: _Block) -> StreamChunk | None:
        if block.type == "tool_use":
            self.called.add(block.name)
            place = len(self._calls)
            self._calls[index] = (place, dumps(block.input))
            call = _call(block)
            call["function"]["arguments"] = ""
            return self._chunk({"tool_calls": [{"index": place, **call}]})
        return self._text(block.type, block.text, block.thinking)

    def _block_goes_on(self, index: int, delta: _Delta) -> StreamChunk | None:
        if delta.type != "input_json_delta":
            return self._text(delta.type.removesuffix("_delta"), delta.text, delta.thinking)
        if index not in self._calls or not delta.partial_json:
            return None
        place, _ = self._calls[index]
        self._calls[index] = (place, "")
        return self._arguments(place, delta.partial_json)

    def _block_ends(self, index: int) -> StreamChunk | None:
        place, arguments = self._calls.get(index, (0, ""))
        return self._arguments(place, arguments) if arguments else None

    def _finishes(self, delta: _Delta) -> StreamChunk | None:
        if delta.stop_reason is None:
            return None
        self.finish = _finish(delta.stop_reason)
        why = delta.stop_details.explanation if delta.stop_details and delta.stop_reason == "refusal" else None
        return self._chunk({"refusal": why} if why else {}, self.finish)

    def _text(self, kind: str, text: str, thinking: str) -> StreamChunk | None:
        if kind == "text" and text:
            return self._chunk({"content": text})
        return self._chunk({"reasoning_content": thinking}) if kind == "thinking" and thinking else None

    def _arguments(self, place: int, piece: str) -> StreamChunk:
        return self._chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})

    def _count(self, told: _Usage | None, *, final: bool) -> None:
        """Later counts replace earlier ones: all are totals. The output that a stream begins with is no total yet."""
        if told is not None:
            counts = told.model_dump(exclude_none=True, exclude=None if final else {"output_tokens"})
            self._usage = _Usage.model_validate(self._usage.model_dump(exclude_none=True) | counts)

    def _last(self) -> StreamChunk | None:
        usage = usage_of(self._usage)
        return None if usage is None else StreamChunk.model_validate(self._frame() | {"choices": [], "usage": usage})

    def _chunk(self, delta: dict[str, Any], finish: FinishReason | None = None) -> StreamChunk:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return StreamChunk.model_validate(self._frame() | {"choices": [choice]})

    def _frame(self) -> dict[str, Any]:
        if not self.begun:
            raise ValueError("content before the message's start")
        return {
            "id": self._message.id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._message.model,
        }


def _finish(reason: str) -> FinishReason:
    return _FINISHED.get(reason, _CUT_SHORT)


def _call(block: _Block) -> dict[str, Any]:
    if not block.id or not block.name:
        raise ValueError("a tool call without its id or its name")
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": dumps(block.input)},
    }
