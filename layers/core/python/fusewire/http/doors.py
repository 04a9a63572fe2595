"""What the front doors share: a request in somebody's format goes in as a `ChatRequest`, and its answer comes back.

`functions/complete` serves them all over one router. A door's own module says how its format maps both ways.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.vocabulary import ChatRequest, ChatResponse, StreamChunk
from fusewire.errors import FusewireError
from fusewire.http.blocks import BlockReader, Step
from fusewire.http.errors import UNSUPPORTED
from fusewire.http.invocation import log_unexpected
from fusewire.http.sse import chat_events
from fusewire.json import dumps

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Door:
    """One call through a front door."""

    request: ChatRequest
    whole: Callable[[ChatResponse, Decimal], object]
    """The body of an answer that cost so much."""
    events: Callable[[Iterator[StreamChunk]], Iterator[bytes]]
    dropped: tuple[str, ...] = ()
    """What the caller said in passing and the vocabulary has no place for."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What this format calls the vocabulary's fields, where that differs."""
    headers: dict[str, str] = field(default_factory=dict)


def chat_door(request: ChatRequest) -> Door:
    """Chat completions: the vocabulary is their own format."""
    include_usage = bool(request.stream_options and request.stream_options.include_usage)
    return Door(
        request,
        whole=lambda response, cost: response.model_dump(exclude_unset=True),
        events=partial(chat_events, include_usage=include_usage),
    )


# --- requests ---


class Asked(BaseModel):
    """Part of a request, as strict as the vocabulary's: unknown fields are errors, and `1` isn't `True`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def refused(why: str, *, unless: object = None) -> BeforeValidator:
    """For a field that is known and can't be honoured: whatever asks for something is refused by the field's name.

    Absent, null, false and empty ask for nothing; nor does `unless`.
    """

    def check(value: object) -> object:
        if value in (None, False, [], {}, unless):
            return value
        raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": why})

    return BeforeValidator(check)


def of_type(*types: str | None, why: str) -> BeforeValidator:
    """For objects of which only some types can be honoured: another is refused whatever else it holds."""

    def check(value: object) -> object:
        told = value.get("type") if isinstance(value, dict) else types[0]
        if told in types:
            return value
        shown = f" (got {told!r})" if isinstance(told, str) and len(told) < 60 else ""
        raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": why + shown})

    return BeforeValidator(check)


def in_own_words(error: FusewireError, names: Mapping[str, str]) -> tuple[str, str | None]:
    """An error's message and the field that it names, as the caller knows that field."""
    own = names.get(error.param or "")
    if own is None:
        return error.message, error.param
    return f"{error.message} Here {error.param} is {own}.", own


# --- streams ---


class Writer(Protocol):
    """Makes one format's events of one stream."""

    def begin(self, chunk: StreamChunk | None) -> Iterable[Event]:
        """The events before the first block."""

    def step(self, step: Step) -> Iterable[Event]:
        """The events of a block."""

    def end(self, reader: BlockReader) -> Iterable[Event]:
        """The events after the last block."""

    def broken(self, message: str, code: str) -> Iterable[Event]:
        """The end of an answer that can't be finished."""


def typed_events(chunks: Iterable[StreamChunk], writer: Writer) -> Iterator[bytes]:
    """Encode a stream as server-sent events with a type each. A broken one ends with an error."""
    try:
        for event in _events(chunks, writer):
            yield _encoded(event)
    except StreamBrokenError as error:
        message = f"The provider broke off in mid-answer: {error}. What you have is incomplete."
        yield from map(_encoded, writer.broken(message, "stream_broken"))
    except Exception as error:  # noqa: BLE001 - the headers are gone: an event is the only way left to tell the caller
        log_unexpected(error)
        yield from map(_encoded, writer.broken("Something failed inside the gateway in mid-answer.", "internal_error"))


def _events(chunks: Iterable[StreamChunk], writer: Writer) -> Iterator[Event]:
    reader = BlockReader()
    begun = False
    for chunk in chunks:
        if not begun:
            begun = True
            yield from writer.begin(chunk)
        for step in reader.read(chunk):
            yield from writer.step(step)
    if not begun:
        yield from writer.begin(None)
    for step in reader.end():
        yield from writer.step(step)
    yield from writer.end(reader)


def _encoded(event: Event) -> bytes:
    # Half a surrogate pair goes on as a JSON escape, as in `sse`.
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event).encode(errors="backslashreplace"))
