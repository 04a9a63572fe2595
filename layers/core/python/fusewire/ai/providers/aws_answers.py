"""Bedrock's Converse answers, whole and streamed, in the vocabulary."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.vocabulary import (
    AnsweredFunction,
    AnsweredMessage,
    AnsweredToolCall,
    ChatResponse,
    Choice,
    ChunkChoice,
    Delta,
    DeltaFunction,
    DeltaToolCall,
    FinishReason,
    PromptTokensDetails,
    StreamChunk,
    TokenCount,
    Usage,
)
from fusewire.json import dumps

_FINISH: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


class _Told(BaseModel):
    """Part of an answer, as botocore hands it over: unchecked."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _CacheDetail(_Told):
    ttl: str
    inputTokens: TokenCount


class _TokenUsage(_Told):
    inputTokens: TokenCount | None = None
    outputTokens: TokenCount | None = None
    cacheReadInputTokens: TokenCount | None = None
    cacheWriteInputTokens: TokenCount | None = None
    cacheDetails: list[_CacheDetail] | None = None


class _ToolUse(_Told):
    toolUseId: str
    name: str
    input: dict[str, Any] | None = None


class _ReasoningText(_Told):
    text: str


class _Reasoning(_Told):
    reasoningText: _ReasoningText | None = None


class _Cited(_Told):
    text: str = ""


class _Citations(_Told):
    content: list[_Cited] | None = None


class _Block(_Told):
    text: str | None = None
    toolUse: _ToolUse | None = None
    reasoningContent: _Reasoning | None = None
    citationsContent: _Citations | None = None

    @property
    def words(self) -> str | None:
        if self.citationsContent is not None:
            return "".join(cited.text for cited in self.citationsContent.content or ())
        return self.text


class _Message(_Told):
    content: list[_Block]


class _Output(_Told):
    message: _Message


class _Answer(_Told):
    output: _Output
    stopReason: str
    usage: _TokenUsage | None = None


def answer_of(told: Mapping[str, Any], model: str) -> ChatResponse:
    """A whole answer of `converse`.

    :raises ValidationError: when it isn't one
    :raises ProviderFailure: when the model made something that Bedrock couldn't read itself
    """
    answer = _Answer.model_validate(told)
    blocks = answer.output.message.content
    texts = [block.words for block in blocks if block.words is not None]
    thoughts = [r.reasoningText.text for block in blocks if (r := block.reasoningContent) and r.reasoningText]
    calls = [_called(block.toolUse) for block in blocks if block.toolUse]
    message = AnsweredMessage(
        content="".join(texts) if texts or not calls else None,
        reasoning_content="".join(thoughts) or None,
        tool_calls=calls or None,
    )
    return ChatResponse(
        id=_id(told),
        created=int(time.time()),
        model=model,
        choices=[Choice(index=0, message=message, finish_reason=_finish(answer.stopReason))],
        usage=_usage(answer.usage),
    )


def _usage(told: _TokenUsage | None) -> Usage | None:
    """Bedrock counts what it read from its cache, and what it wrote there, beside the input: here they are within."""
    if told is None or told.inputTokens is None or told.outputTokens is None:
        return None  # half a usage prices half an answer
    read, written = told.cacheReadInputTokens or 0, told.cacheWriteInputTokens or 0
    prompt = told.inputTokens + read + written
    hour = sum(detail.inputTokens for detail in told.cacheDetails or () if detail.ttl == "1h")
    details = PromptTokensDetails(
        cached_tokens=read, cache_write_tokens=written, cache_write_1h_tokens=min(hour, written)
    )
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=told.outputTokens,
        total_tokens=prompt + told.outputTokens,
        prompt_tokens_details=details if read or written else None,
    )


def _called(used: _ToolUse) -> AnsweredToolCall:
    return AnsweredToolCall(
        id=used.toolUseId, function=AnsweredFunction(name=used.name, arguments=dumps(used.input or {}))
    )


def _finish(reason: str) -> FinishReason:
    if (known := _FINISH.get(reason)) is None:
        # malformed_model_output, malformed_tool_use; and a reason that came later than this table says nothing of
        # whether the answer is whole.
        raise ProviderFailure(FailureKind.MALFORMED_ANSWER, "aws reports an answer that can't be used")
    return known


def _id(told: Mapping[str, Any]) -> str:
    metadata = told.get("ResponseMetadata")
    request = metadata.get("RequestId") if isinstance(metadata, dict) else None
    return f"chatcmpl-{request or time.time_ns()}"


# --- streams -----------------------------------------------------------------------------------------------------


class _ToolUseDelta(_Told):
    input: str = ""


class _ReasoningDelta(_Told):
    text: str | None = None


class _Delta(_Told):
    text: str | None = None
    toolUse: _ToolUseDelta | None = None
    reasoningContent: _ReasoningDelta | None = None


class _Start(_Told):
    toolUse: _ToolUse | None = None


class _BlockStart(_Told):
    start: _Start
    contentBlockIndex: int


class _BlockDelta(_Told):
    delta: _Delta
    contentBlockIndex: int


class _BlockStop(_Told):
    contentBlockIndex: int


class _MessageStop(_Told):
    stopReason: str


class _Metadata(_Told):
    usage: _TokenUsage | None = None


class _Event(_Told):
    messageStart: dict[str, Any] | None = None
    contentBlockStart: _BlockStart | None = None
    contentBlockDelta: _BlockDelta | None = None
    contentBlockStop: _BlockStop | None = None
    messageStop: _MessageStop | None = None
    metadata: _Metadata | None = None


class _Call(_Told):
    """A tool call as it comes: which one it is in the answer, and whether its arguments have begun."""

    place: int
    begun: bool = Field(default=False)


class AnswerStream:
    """The events of one `converse_stream`, in order, as chunks. `is_complete` after its usage has come."""

    def __init__(self, told: Mapping[str, Any], model: str) -> None:
        self._id = _id(told)
        self._created = int(time.time())
        self._model = model
        self._calls: dict[int, _Call] = {}
        self.called: set[str] = set()
        """The names of the tools that were called."""
        self.finish: FinishReason | None = None
        self.is_complete = False

    def chunks(self, event: Mapping[str, Any]) -> Iterator[StreamChunk]:
        """What one event says; nothing for an event that says nothing to an application.

        :raises ValidationError: when it is no event of Converse
        :raises ProviderFailure: when the model made something that Bedrock couldn't read itself
        """
        told = _Event.model_validate(event)
        if told.messageStart is not None:
            yield self._chunk(Delta(role="assistant", content=""))
        if (begun := told.contentBlockStart) is not None and (used := begun.start.toolUse) is not None:
            call = self._calls[begun.contentBlockIndex] = _Call(place=len(self._calls))
            self.called.add(used.name)
            function = DeltaFunction(name=used.name, arguments="")
            yield self._called(DeltaToolCall(index=call.place, id=used.toolUseId, type="function", function=function))
        if told.contentBlockDelta is not None:
            yield from self._delta(told.contentBlockDelta)
        if (ended := told.contentBlockStop) is not None:
            unbegun = self._calls.get(ended.contentBlockIndex)
            if unbegun is not None and not unbegun.begun:
                yield self._arguments(unbegun, "{}")  # a call without arguments sends none
        if told.messageStop is not None:
            self.finish = _finish(told.messageStop.stopReason)
            yield self._chunk(Delta(), self.finish)
        if told.metadata is not None:
            self.is_complete = self.finish is not None
            yield self._chunk(None).model_copy(update={"usage": _usage(told.metadata.usage)})

    def _delta(self, told: _BlockDelta) -> Iterator[StreamChunk]:
        delta = told.delta
        if delta.text:
            yield self._chunk(Delta(content=delta.text))
        if delta.reasoningContent is not None and delta.reasoningContent.text:
            yield self._chunk(Delta(reasoning_content=delta.reasoningContent.text))
        if delta.toolUse is not None and delta.toolUse.input:
            if (call := self._calls.get(told.contentBlockIndex)) is None:
                raise ProviderFailure(
                    FailureKind.MALFORMED_ANSWER, "aws sent arguments of a tool call that never began"
                )
            call.begun = True
            yield self._arguments(call, delta.toolUse.input)

    def _arguments(self, call: _Call, piece: str) -> StreamChunk:
        return self._called(DeltaToolCall(index=call.place, function=DeltaFunction(arguments=piece)))

    def _called(self, call: DeltaToolCall) -> StreamChunk:
        return self._chunk(Delta(tool_calls=[call]))

    def _chunk(self, delta: Delta | None, finish: FinishReason | None = None) -> StreamChunk:
        choices = [] if delta is None else [ChunkChoice(index=0, delta=delta, finish_reason=finish)]
        return StreamChunk(id=self._id, created=self._created, model=self._model, choices=choices)
