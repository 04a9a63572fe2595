"""Anthropic's responses as the schema has them: whole messages, streams of events, finish reasons and usage.

Read leniently, as the vendor asks: kinds of blocks and events that aren't known here are passed over, what a caller can
do without is filled in, and a value of the wrong type is as if it weren't there.
Sources: Anthropic's API reference, "Create a Message", "Streaming messages", "Stop reasons and fallback".
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fusewire.ai.providers.json_values import (
    MAX_COUNT,
    arguments_of,
    counts_of,
    fields,
    joined,
    new_id,
    objects,
    parsed,
    text,
    token_count,
)
from fusewire.ai.schema import ChatResponse, FinishReason, StreamChunk, Usage

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

_INPUT_COUNTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_CACHE_AGES: Final = ("ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens")


def usage_of(usage: Mapping[str, Any], *, has_content: bool) -> Usage | None:
    """OpenAI's count: the prompt with both cache counts in it, and reasoning within the output.

    `input_tokens` is what neither was read from a cache nor written to one: the prompt is the sum of three. Where one
    of them is there and can't be, the prompt isn't told.

    :param has_content: an answer that has some used a token of each kind, so that a 0 is no count
    """
    least = 1 if has_content else 0
    counts = None if usage.get("input_tokens") is None else counts_of(usage, _INPUT_COUNTS)
    counted: dict[str, Any] = {}
    if counts is not None:
        by_age = fields(usage.get("cache_creation"))
        hour, minutes = (token_count(by_age.get(name)) or 0 for name in _CACHE_AGES)
        plain, read, written = counts
        written = max(written, hour + minutes)
        prompt = token_count(plain + read + written)
        if prompt is not None and prompt >= least:
            counted["prompt_tokens"] = prompt
            counted["prompt_tokens_details"] = {
                "cached_tokens": read,
                "cache_write_tokens": written,
                "cache_write_1h_tokens": hour,
            }
    output = token_count(usage.get("output_tokens"))
    if output is not None and output >= least:
        counted["completion_tokens"] = output
        thought = token_count(fields(usage.get("output_tokens_details")).get("thinking_tokens"))
        if thought is not None:
            counted["completion_tokens_details"] = {"reasoning_tokens": thought}
    if not counted:
        return None
    if "prompt_tokens" in counted and "completion_tokens" in counted:
        counted["total_tokens"] = min(counted["prompt_tokens"] + counted["completion_tokens"], MAX_COUNT)
    return Usage.model_validate(counted | {"service_tier": text(usage.get("service_tier"))})


def whole_response(raw: bytes, model: str) -> ChatResponse:
    """
    :param model: that was asked, for a server that doesn't repeat it
    :raises ValueError: for what has no answer in it: neither content, a reason nor usage
    """
    body = parsed(raw)
    blocks = _blocks(body.get("content"))
    reason = text(body.get("stop_reason"))
    calls = [call for block in blocks if (call := _call(block))]
    said = joined("".join(_said(block, "text") for block in blocks))
    thought = joined("".join(_said(block, "thinking") for block in blocks))
    usage = usage_of(fields(body.get("usage")), has_content=bool(said or thought or calls))
    if body.get("type") == "error" or not (blocks or reason or usage):
        raise ValueError("neither content, a reason nor usage")
    message: dict[str, Any] = {"role": "assistant", "content": said or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    if thought:
        message["reasoning_content"] = thought
    if thoughts := _thoughts(blocks):
        message |= {"thinking_blocks": thoughts, "texts": [words for b in blocks if (words := _said(b, "text"))]}
    if reason == "refusal":
        message["refusal"] = text(fields(body.get("stop_details")).get("explanation"))
    finish = _finish(reason, calls=bool(calls)) if blocks or reason else _CUT_SHORT
    answer = {
        "id": text(body.get("id")) or new_id("msg_"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": text(body.get("model")) or model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
    }
    return ChatResponse.model_validate(answer if usage is None else answer | {"usage": usage})


class StreamReader:
    """One stream's events, each read to chunks or to nothing."""

    def __init__(self, model: str, *, counts_input_first: bool = False) -> None:
        """
        :param model: that was asked, for a server that doesn't repeat it
        :param counts_input_first: whether the first event has the whole input as it is billed
        """
        self._counts_input_first = counts_input_first
        self.begun: bool = False
        """The vendor has taken the request up: what comes to grief from here on may have cost something."""
        self.done: bool = False
        """It said that the answer is whole."""
        self.finish: FinishReason | None = None
        self.called: set[str] = set()
        self._id = ""
        self._model = model
        self._created = int(time.time())
        self._usage: dict[str, Any] = {}
        self._has_content = False
        self._calls: dict[int, tuple[int, str]] = {}
        """Of each block that is a tool call: its place among the calls, and its arguments unless they came."""
        self._signature = ""
        """Of the thought that isn't over."""
        self._last_block = 0

    def read(self, event: object) -> Iterator[StreamChunk]:
        body = fields(event)
        block, delta = fields(body.get("content_block")), fields(body.get("delta"))
        match body.get("type"):
            case "message_start":
                message = fields(body.get("message"))
                self.begun = True
                self._id = text(message.get("id")) or self._id
                self._model = text(message.get("model")) or self._model
                self._count(message.get("usage"), final=False)
                chunk = self._chunk({"role": "assistant", "content": ""})
                if self._counts_input_first:
                    chunk.input_usage = usage_of(self._usage, has_content=False)
                yield chunk
            case "content_block_start":
                yield from self._block_begins(self._index(body, begins=True), block)
            case "content_block_delta":
                yield from self._block_goes_on(self._index(body), delta)
            case "content_block_stop":
                yield from self._block_ends(self._index(body))
            case "message_delta":
                self._count(body.get("usage"), final=True)
                yield from self._finishes(body)
            case "message_stop":
                yield from self._stops()

    def filtered(self) -> StreamChunk:
        """The end of an answer that the vendor's filter blocked in the middle: nobody tells what it cost."""
        self.finish = "content_filter"
        return self._chunk({}, self.finish)

    def _index(self, body: Mapping[str, Any], *, begins: bool = False) -> int:
        """The block's; where it isn't told, the next one's or the last one's."""
        index = token_count(body.get("index"))
        if index is None:
            index = self._last_block + begins
        self._last_block = index
        return index

    def _block_begins(self, index: int, block: Mapping[str, Any]) -> Iterator[StreamChunk]:
        call = _call(block)
        if call is None:
            self._signature = text(block.get("signature")) or ""
            yield from self._text(_said(block, "text"), _said(block, "thinking"))
            if block.get("type") == "redacted_thinking" and (thought := _thought(block)):
                yield self._thought(thought)
            return
        self.called.add(call["function"]["name"])
        place = len(self._calls)
        self._calls[index] = (place, call["function"]["arguments"])
        call["function"]["arguments"] = ""
        self._has_content = True
        yield self._chunk({"tool_calls": [{"index": place, **call}]})

    def _block_goes_on(self, index: int, delta: Mapping[str, Any]) -> Iterator[StreamChunk]:
        piece = text(delta.get("partial_json"))
        if delta.get("type") == "signature_delta":
            self._signature += text(delta.get("signature")) or ""
        elif not piece:
            yield from self._text(_said(delta, "text"), _said(delta, "thinking"))
        elif index in self._calls:
            place, _ = self._calls[index]
            self._calls[index] = (place, "")
            yield self._arguments(place, piece)

    def _block_ends(self, index: int) -> Iterator[StreamChunk]:
        if self._signature:
            yield self._thought({"type": "thinking", "signature": self._signature})
            self._signature = ""
        place, arguments = self._calls.get(index, (0, ""))
        if arguments:
            self._calls[index] = (place, "")
            yield self._arguments(place, arguments)

    def _finishes(self, body: Mapping[str, Any]) -> Iterator[StreamChunk]:
        delta = fields(body.get("delta"))
        reason = text(delta.get("stop_reason"))
        if reason is None or self.finish is not None:
            return
        why = text(fields(delta.get("stop_details")).get("explanation")) if reason == "refusal" else None
        self.finish = _finish(reason, calls=bool(self._calls))
        yield self._chunk({"refusal": why} if why else {}, self.finish)

    def _stops(self) -> Iterator[StreamChunk]:
        """The answer is whole, even if no reason was told for its end."""
        if self.finish is None and self._has_content:
            self.finish = _finish(None, calls=bool(self._calls))
            yield self._chunk({}, self.finish)
        self.done = self.finish is not None
        usage = usage_of(self._usage, has_content=self._has_content)
        if self.done and usage is not None:
            yield StreamChunk.model_validate(self._frame() | {"choices": [], "usage": usage})

    def _text(self, said: str, thought: str) -> Iterator[StreamChunk]:
        for name, piece in (("content", said), ("reasoning_content", thought)):
            if piece:
                self._has_content = True
                yield self._chunk({name: piece})

    def _thought(self, thought: dict[str, Any]) -> StreamChunk:
        self._has_content = True
        return self._chunk({"thinking_blocks": [thought]})

    def _arguments(self, place: int, piece: str) -> StreamChunk:
        return self._chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})

    def _count(self, usage: object, *, final: bool) -> None:
        """Later counts replace earlier ones: all are totals. The output that a stream begins with is no total yet."""
        for name, value in fields(usage).items():
            is_output = name in ("output_tokens", "output_tokens_details")
            is_counted = token_count(value) is not None or isinstance(value, dict)
            if value is not None and (final or not is_output) and (is_counted or name not in self._usage):
                self._usage[name] = value

    def _chunk(self, delta: dict[str, Any], finish: FinishReason | None = None) -> StreamChunk:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return StreamChunk.model_validate(self._frame() | {"choices": [choice]})

    def _frame(self) -> dict[str, Any]:
        self.begun = True
        self._id = self._id or new_id("msg_")
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}


def _finish(reason: str | None, *, calls: bool) -> FinishReason:
    if not reason:
        return "tool_calls" if calls else "stop"
    return _FINISHED.get(reason, _CUT_SHORT)


def _blocks(content: object) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)


def _said(block: Mapping[str, Any], name: str) -> str:
    """The text of a block, or of a piece of one, that is of this kind or doesn't say its kind."""
    kind = block.get("type")
    is_it = kind in (name, f"{name}_delta") or not kind
    return (text(block.get(name)) or "") if is_it else ""


def _thoughts(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The thoughts that Claude wants back as they are; one without a signature or data is only read."""
    thoughts = []
    place = 0
    for block in blocks:
        if thought := _thought(block):
            thoughts.append(thought | {"place": place})
        # What is left out of the answer takes no place in it.
        place += bool(thought or _said(block, "text") or _said(block, "thinking") or _call(block))
    return thoughts


def _thought(block: Mapping[str, Any]) -> dict[str, Any] | None:
    if block.get("type") == "redacted_thinking" and (data := text(block.get("data"))):
        return {"type": "redacted_thinking", "data": data}
    if block.get("type") == "thinking" and (signature := text(block.get("signature"))):
        return {"type": "thinking", "thinking": text(block.get("thinking")) or "", "signature": signature}
    return None


def _call(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """None for another kind of block, and for a call of nothing."""
    name = text(block.get("name"))
    if block.get("type") != "tool_use" or not name:
        return None
    return {
        "id": text(block.get("id")) or new_id("toolu_"),
        "type": "function",
        "function": {"name": name, "arguments": joined(arguments_of(block.get("input")))},
    }
