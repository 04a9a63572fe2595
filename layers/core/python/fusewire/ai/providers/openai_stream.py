"""Streams of OpenAI's protocol as the schema has them, from whatever server sends them.

Sources: OpenAI's API reference, "Chat completions"; the servers' differences from public reports, each a case of
tests/integration/ai/envelopes.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fusewire.ai.providers.json_values import arguments_of, fields, new_id, objects, text, token_count
from fusewire.ai.providers.openai_message import (
    Frame,
    extra_content_of,
    finish_reason,
    holds_content,
    index_of,
    logprobs_of,
    words_of,
)
from fusewire.ai.providers.openai_usage import usage_of
from fusewire.ai.schema import ChunkChoice, FinishReason, StreamChunk


@dataclass(slots=True)
class _StreamedCall:
    id: str
    index: int | None
    """As the server counts; None where it doesn't."""


@dataclass(slots=True)
class _StreamedChoice:
    calls: list[_StreamedCall] = field(default_factory=list)
    has_content: bool = False
    finished: bool = False
    blank_is_null: bool = False
    """Whether this server says `""` where others say null."""


class StreamReader:
    """One stream's events. `read` each, then, if `is_complete`, `last`."""

    def __init__(self, model: str, choices: int) -> None:
        """
        :param model: that was asked, for a server that doesn't repeat it
        :param choices: how many were asked for
        """
        self.called: set[str] = set()
        """The names of the tools that were called."""
        self.finishes: set[FinishReason] = set()
        self._frame = Frame(model)
        self._choices = {index: _StreamedChoice() for index in range(choices)}
        self._is_single = choices == 1
        self._service_tier: str | None = None
        self._usage: dict[str, Any] = {}
        self._output_is_final = False
        """Whether the output's count came with the last content or after it: before, it is no total."""
        self._is_ended = False
        """Whether usage came by itself at the end, which only a whole answer has."""

    @property
    def is_complete(self) -> bool:
        """Whether the vendor said that the answer is: by each choice's reason, or by usage alone after them."""
        return self._is_ended or all(choice.finished for choice in self._choices.values())

    def read(self, event: object) -> StreamChunk | None:
        """None for an event that says nothing to an application. Usage is kept back for `last`."""
        chunk = fields(event)
        raw = objects(chunk.get("choices"))
        choices = [made for place, choice in enumerate(raw) if (made := self._choice(place, choice))]
        if any(choice.delta.has_content for choice in choices):
            self._output_is_final = self._is_ended = False
        self._count(fields(chunk.get("usage")), alone=not raw)
        self._service_tier = text(chunk.get("service_tier")) or self._service_tier
        if not choices:
            return None
        frame = self._frame.of(chunk)
        return StreamChunk.model_validate(frame | {"choices": choices})

    def last(self) -> Iterator[StreamChunk]:
        """The end: the reasons that weren't said, and the usage."""
        for index, choice in self._choices.items():
            if not choice.finished:
                finish = finish_reason(None, calls=bool(choice.calls))
                self.finishes.add(finish)
                yield self._chunk([{"index": index, "delta": {}, "finish_reason": finish}])
        counted = dict(self._usage)
        if not self._output_is_final:
            for name in _OUTPUT_COUNTS:
                counted.pop(name, None)
        usage = usage_of(counted, has_content=any(choice.has_content for choice in self._choices.values()))
        if usage is not None:
            usage.service_tier = self._service_tier
            yield self._chunk([], usage=usage)

    def _chunk(self, choices: list[dict[str, Any]], **more: object) -> StreamChunk:
        return StreamChunk.model_validate({**self._frame.of({}), "choices": choices, **more})

    def _count(self, usage: Mapping[str, Any], *, alone: bool) -> None:
        """Later counts replace earlier ones: all are totals."""
        counted = {name: usage[name] for name in _INPUT_COUNTS if name in usage}
        if token_count(usage.get("prompt_tokens")) is not None or "prompt_tokens" not in self._usage:
            self._usage |= counted
        output = {name: usage[name] for name in _OUTPUT_COUNTS if name in usage}
        if (
            token_count(usage.get("completion_tokens")) is not None
            or token_count(usage.get("total_tokens")) is not None
        ):
            for name in _OUTPUT_COUNTS:
                self._usage.pop(name, None)
            self._usage |= output
            self._output_is_final = True
        if usage and alone:
            self._is_ended = any(choice.has_content for choice in self._choices.values())

    def _choice(self, place: int, choice: Mapping[str, Any]) -> ChunkChoice | None:
        index = 0 if self._is_single else index_of(choice.get("index"), place)
        state = self._choices.setdefault(index, _StreamedChoice())
        raw = fields(choice.get("delta")) or fields(choice.get("message"))
        delta = words_of(raw)
        if "role" in raw:
            delta["role"] = "assistant"
        calls = [made for call in objects(raw.get("tool_calls")) if (made := self._call(state, call))]
        if calls:
            delta["tool_calls"] = calls
        finish = self._finish(state, choice.get("finish_reason"), has_content=holds_content(delta))
        if not delta and finish is None:
            return None
        made = {"index": index, "delta": delta, "finish_reason": finish, **logprobs_of(choice)}
        return ChunkChoice.model_validate(made)

    def _finish(self, state: _StreamedChoice, reason: object, *, has_content: bool) -> FinishReason | None:
        """`""` is an end only from a server that says null before it."""
        if reason == "" and (has_content or not state.has_content):
            state.blank_is_null = True
        state.has_content = state.has_content or has_content
        word = text(reason)
        if word is None or (not word and state.blank_is_null) or state.finished:
            return None
        state.finished = True
        finish = finish_reason(word, calls=bool(state.calls))
        self.finishes.add(finish)
        return finish

    def _call(self, state: _StreamedChoice, call: Mapping[str, Any]) -> dict[str, Any] | None:
        """A part of a call, under an index of its own; None for a part of none."""
        function = fields(call.get("function"))
        given, name, index = (
            text(call.get("id")) or "",
            text(function.get("name")) or "",
            token_count(call.get("index")),
        )
        place = _place(state.calls, given, index, is_named=bool(name))
        extra, arguments = extra_content_of(call), function.get("arguments")
        if place is not None:
            more = {} if arguments is None else {"function": {"arguments": arguments_of(arguments)}}
            return {"index": place, **more, **extra} if more or extra else None
        if not name:
            return None
        state.calls.append(_StreamedCall(given, index))
        self.called.add(name)
        return {
            "index": len(state.calls) - 1,
            "id": given or new_id("call_"),
            "type": "function",
            "function": {"name": name, "arguments": "" if arguments is None else arguments_of(arguments)},
            **extra,
        }


_INPUT_COUNTS: Final = ("prompt_tokens", "prompt_tokens_details")
_OUTPUT_COUNTS: Final = ("completion_tokens", "total_tokens", "completion_tokens_details")


def _place(calls: list[_StreamedCall], given: str, index: int | None, *, is_named: bool) -> int | None:
    """Which of the calls a part goes on with; None for a new one.

    An id tells first, since Ollama and others send parallel calls all under index 0; then the index; and where neither
    is there, as of Gemini, a name begins a call and anything else goes on with the last one.
    """
    last_first = range(len(calls) - 1, -1, -1)
    known = next((place for place in last_first if given and calls[place].id == given), None)
    if known is not None or (is_named and (given or index is None)):
        return known
    if index is not None:
        return next((place for place in last_first if calls[place].index == index), None)
    return len(calls) - 1 if calls else None
