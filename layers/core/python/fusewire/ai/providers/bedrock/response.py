"""Bedrock's Converse responses, whole and streamed, as the schema has them.

What a caller can do without is filled in, and a value of the wrong type is as if it weren't there: botocore hands over
what it gets, unchecked.
"""

import base64
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fusewire.ai.providers.json_values import (
    MAX_COUNT,
    arguments_of,
    counts_of,
    fields,
    joined,
    new_id,
    objects,
    text,
    token_count,
)
from fusewire.ai.schema import (
    ChatResponse,
    Choice,
    ChunkChoice,
    Delta,
    DeltaFunction,
    DeltaToolCall,
    FinishReason,
    ResponseFunction,
    ResponseMessage,
    ResponseThinking,
    ResponseToolCall,
    StreamChunk,
    Usage,
)

_FINISH: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_CUT_SHORT: Final[FinishReason] = "length"
"""For any other reason (`malformed_model_output`, `malformed_tool_use`, or one that came later than this table): what
isn't known to be whole is told to be cut."""

_INPUT_COUNTS: Final = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


def response_of(response: Mapping[str, Any], model: str) -> ChatResponse:
    """A whole answer of `converse`.

    :raises ValueError: for what has no answer in it: neither content, a reason nor usage
    """
    content = fields(fields(response.get("output")).get("message")).get("content")
    blocks = [{"text": content}] if isinstance(content, str) else objects(content)
    reason = text(response.get("stopReason"))
    texts = [words for block in blocks if (words := _words(block)) is not None]
    thoughts = [_thought(block) for block in blocks]
    calls = [call for block in blocks if (call := _called(block))]
    usage = usage_of(response, has_content=any([*texts, *thoughts, *calls]))
    if not (blocks or reason or usage):
        raise ValueError("neither content, a reason nor usage")
    signed = list(_signed(blocks))
    message = ResponseMessage(
        content=joined("".join(texts)) if texts or not calls else None,
        reasoning_content=joined("".join(thoughts)) or None,
        tool_calls=calls or None,
        thinking_blocks=signed or None,
        texts=[words for words in texts if words] if signed else None,
    )
    finish = _finish(reason, calls=bool(calls)) if blocks or reason else _CUT_SHORT
    return ChatResponse(
        id=_id(response),
        created=int(time.time()),
        model=model,
        choices=[Choice(index=0, message=message, finish_reason=finish)],
        usage=usage,
    )


def usage_of(answer: Mapping[str, Any], *, has_content: bool) -> Usage | None:
    """The usage, with the service tier that it was counted in.

    Bedrock counts what it read from its cache, and what it wrote there, beside the input: here they are within.

    Where one of the three is there and can't be, the input isn't told.

    :param answer: a whole one, or a stream's `metadata`
    :param has_content: an answer that has some used a token of each kind, so that a 0 is no count
    """
    usage, tier = fields(answer.get("usage")), fields(answer.get("serviceTier"))
    least = 1 if has_content else 0
    counts = None if usage.get("inputTokens") is None else counts_of(usage, _INPUT_COUNTS)
    counted: dict[str, Any] = {}
    if counts is not None:
        plain, read, written = counts
        details = objects(usage.get("cacheDetails"))
        hour = sum(token_count(detail.get("inputTokens")) or 0 for detail in details if detail.get("ttl") == "1h")
        prompt = token_count(plain + read + written)
        if prompt is not None and prompt >= least:
            counted["prompt_tokens"] = prompt
            if read or written:
                counted["prompt_tokens_details"] = {
                    "cached_tokens": read,
                    "cache_write_tokens": written,
                    "cache_write_1h_tokens": min(hour, written),
                }
    output = token_count(usage.get("outputTokens"))
    if output is not None and output >= least:
        counted["completion_tokens"] = output
    if not counted:
        return None
    if "prompt_tokens" in counted and "completion_tokens" in counted:
        counted["total_tokens"] = min(counted["prompt_tokens"] + counted["completion_tokens"], MAX_COUNT)
    return Usage.model_validate(counted | {"service_tier": text(tier.get("type"))})


def _words(block: Mapping[str, Any]) -> str | None:
    """A block's text; None for another kind of block."""
    cited = block.get("citationsContent")
    if isinstance(cited, dict):
        return "".join(text(part.get("text")) or "" for part in objects(cited.get("content")))
    return text(block.get("text"))


def _thought(block: Mapping[str, Any]) -> str:
    return text(fields(fields(block.get("reasoningContent")).get("reasoningText")).get("text")) or ""


def _signed(blocks: Iterable[Mapping[str, Any]]) -> Iterator[ResponseThinking]:
    """Claude's thoughts as it wants them back, each with its place."""
    place = 0
    for block in blocks:
        thought = _thinking(fields(block.get("reasoningContent")))
        if thought is not None:
            thought.place = place
            yield thought
        place += bool(thought or _words(block) or _thought(block) or text(fields(block.get("toolUse")).get("name")))


def _thinking(content: Mapping[str, Any]) -> ResponseThinking | None:
    """A thought that is signed, or one that is encrypted: bytes here, base64 at Anthropic."""
    if isinstance(encrypted := content.get("redactedContent"), bytes):
        return ResponseThinking(type="redacted_thinking", data=base64.b64encode(encrypted).decode())
    said = fields(content.get("reasoningText"))
    if signature := text(said.get("signature")):
        return ResponseThinking(type="thinking", thinking=text(said.get("text")) or "", signature=signature)
    return None


def _called(block: Mapping[str, Any]) -> ResponseToolCall | None:
    """None for another kind of block, and for a call of nothing."""
    used = fields(block.get("toolUse"))
    name = text(used.get("name"))
    if not name:
        return None
    function = ResponseFunction(name=name, arguments=joined(arguments_of(used.get("input"))))
    return ResponseToolCall(id=text(used.get("toolUseId")) or new_id("tooluse_"), function=function)


def _finish(reason: str | None, *, calls: bool) -> FinishReason:
    if not reason:
        return "tool_calls" if calls else "stop"
    return _FINISH.get(reason, _CUT_SHORT)


def _id(response: Mapping[str, Any]) -> str:
    request = text(fields(response.get("ResponseMetadata")).get("RequestId"))
    return f"chatcmpl-{request or time.time_ns()}"


# --- streams -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    """A tool call as it comes: which one it is in the answer, and whether its arguments have begun."""

    place: int
    begun: bool = False


class ResponseStream:
    """The events of one `converse_stream`, in order, as chunks. `is_complete` after its reason and its usage have come;
    with the reason alone it is whole, and what it used isn't told."""

    def __init__(self, response: Mapping[str, Any], model: str) -> None:
        self._id = _id(response)
        self._created = int(time.time())
        self._model = model
        self._calls: dict[int, _Call] = {}
        self._last_block = 0
        self._has_content = False
        self.called: set[str] = set()
        """The names of the tools that were called."""
        self.finish: FinishReason | None = None
        self.is_complete = False

    def chunks(self, event: Mapping[str, Any]) -> Iterator[StreamChunk]:
        """What one event says; nothing for an event that says nothing to an application."""
        if isinstance(event.get("messageStart"), dict):
            yield self._chunk(Delta(role="assistant", content=""))
        if isinstance(begun := event.get("contentBlockStart"), dict):
            yield from self._begins(begun)
        if isinstance(block := event.get("contentBlockDelta"), dict):
            yield from self._goes_on(block)
        if isinstance(ended := event.get("contentBlockStop"), dict):
            unbegun = self._calls.get(self._index(ended))
            if unbegun is not None and not unbegun.begun:
                unbegun.begun = True
                yield self._arguments(unbegun, "{}")  # a call without arguments sends none
        if isinstance(stopped := event.get("messageStop"), dict):
            self.finish = _finish(text(stopped.get("stopReason")), calls=bool(self._calls))
            yield self._chunk(Delta(), self.finish)
        if isinstance(metadata := event.get("metadata"), dict):
            self.is_complete = self.finish is not None
            usage = usage_of(metadata, has_content=self._has_content)
            yield self._chunk(None).model_copy(update={"usage": usage})

    def _index(self, block: Mapping[str, Any], *, begins: bool = False) -> int:
        """The block's; where it isn't told, the next one's or the last one's."""
        index = token_count(block.get("contentBlockIndex"))
        if index is None:
            index = self._last_block + begins
        self._last_block = index
        return index

    def _begins(self, block: Mapping[str, Any]) -> Iterator[StreamChunk]:
        index, used = self._index(block, begins=True), fields(fields(block.get("start")).get("toolUse"))
        if name := text(used.get("name")):
            call = self._calls[index] = _Call(place=len(self._calls))
            self.called.add(name)
            id_, function = text(used.get("toolUseId")) or new_id("tooluse_"), DeltaFunction(name=name, arguments="")
            yield self._call(DeltaToolCall(index=call.place, id=id_, type="function", function=function))

    def _goes_on(self, block: Mapping[str, Any]) -> Iterator[StreamChunk]:
        index, delta = self._index(block), fields(block.get("delta"))
        if said := text(delta.get("text")):
            self._has_content = True
            yield self._chunk(Delta(content=said))
        reasoning = fields(delta.get("reasoningContent"))
        if thought := text(reasoning.get("text")):
            self._has_content = True
            yield self._chunk(Delta(reasoning_content=thought))
        if (signature := text(reasoning.get("signature"))) and "claude" in self._model:
            # It comes whole, after the thought.
            yield self._signed(ResponseThinking(type="thinking", signature=signature))
        if (encrypted := _thinking(reasoning)) is not None and "claude" in self._model:
            yield self._signed(encrypted)
        piece, call = text(fields(delta.get("toolUse")).get("input")), self._calls.get(index)
        if piece and call is not None:  # arguments of a call that never began are of nothing that could be called
            call.begun = True
            yield self._arguments(call, piece)

    def _signed(self, thought: ResponseThinking) -> StreamChunk:
        self._has_content = True
        return self._chunk(Delta(thinking_blocks=[thought]))

    def _arguments(self, call: _Call, piece: str) -> StreamChunk:
        return self._call(DeltaToolCall(index=call.place, function=DeltaFunction(arguments=piece)))

    def _call(self, call: DeltaToolCall) -> StreamChunk:
        self._has_content = True
        return self._chunk(Delta(tool_calls=[call]))

    def _chunk(self, delta: Delta | None, finish: FinishReason | None = None) -> StreamChunk:
        choices = [] if delta is None else [ChunkChoice(index=0, delta=delta, finish_reason=finish)]
        return StreamChunk(id=self._id, created=self._created, model=self._model, choices=choices)
