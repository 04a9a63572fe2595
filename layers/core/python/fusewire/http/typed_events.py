"""Streams of server-sent events with a type each, as Anthropic's Messages and OpenAI's Responses have them."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import StreamChunk
from fusewire.http.blocks import BlockReader, Step
from fusewire.http.invocation import log_unexpected
from fusewire.json import dumps

Event = dict[str, Any]


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
