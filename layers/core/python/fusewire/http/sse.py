"""Server-sent events as OpenAI sends them: `data: <json>` per chunk, `data: [DONE]` at the end of a whole answer."""

from collections.abc import Iterable, Iterator

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.vocabulary import StreamChunk
from fusewire.http.invocation import log_unexpected
from fusewire.json import dumps


def chat_events(chunks: Iterable[StreamChunk], *, include_usage: bool) -> Iterator[bytes]:
    """Encode a stream; the usage chunk for those who asked for it. A broken one ends with an error and no `[DONE]`."""
    try:
        for chunk in chunks:
            if chunk.usage is None or include_usage:
                yield _event(chunk.model_dump(exclude_unset=True))
    except StreamBrokenError as error:
        yield _error(f"The provider broke off in mid-answer: {error}. What you have is incomplete.", "stream_broken")
        return
    except Exception as error:  # noqa: BLE001 - the headers are gone: an event is the only way left to tell the caller
        log_unexpected(error)
        yield _error("Something failed inside the gateway in mid-answer.", "internal_error")
        return
    yield b"data: [DONE]\n\n"


def _error(message: str, code: str) -> bytes:
    body = {"error": {"message": message, "type": "server_error", "code": code, "param": None}}
    return _event(body)


def _event(body: object) -> bytes:
    # Some servers cut a surrogate pair in two: each half goes on as a JSON escape, and the caller joins them again.
    return b"data: " + dumps(body).encode(errors="backslashreplace") + b"\n\n"
