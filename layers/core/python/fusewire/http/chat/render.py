"""`POST /chat/completions`: `ChatRequest` and `ChatResponse` are this format itself.

A stream becomes server-sent events: `data: <json>` per chunk, `data: [DONE]` at the end of a whole answer.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import AssistantMessage, ChatRequest, FunctionMessage, StreamChunk
from fusewire.http.errors import openai_error
from fusewire.http.formats import ApiFormat
from fusewire.http.invocation import log_unexpected
from fusewire.json import dumps


def chat_format(request: ChatRequest) -> ApiFormat:
    """A chat completion."""
    include_usage = bool(request.stream_options and request.stream_options.include_usage)
    if _is_legacy(request):
        # Here, since hardly any request has that form.
        from fusewire.http.chat.legacy_functions import legacy_body, legacy_chunks, with_tools

        return ApiFormat(
            with_tools(request),
            render=lambda response, cost: legacy_body(response),
            render_stream=partial(chat_events, include_usage=include_usage, bodies=legacy_chunks),
        )
    return ApiFormat(
        request,
        render=lambda response, cost: response.model_dump(exclude_unset=True),
        render_stream=partial(chat_events, include_usage=include_usage),
    )


def _is_legacy(request: ChatRequest) -> bool:
    """Whether anything of the request has the form that tools had until November 2023."""
    return bool(request.functions) or any(
        isinstance(message, FunctionMessage)
        or (isinstance(message, AssistantMessage) and message.function_call is not None)
        for message in request.messages
    )


def _bodies(chunks: Iterable[StreamChunk]) -> Iterator[dict[str, Any]]:
    return (chunk.model_dump(exclude_unset=True) for chunk in chunks)


def chat_events(
    chunks: Iterable[StreamChunk],
    *,
    include_usage: bool,
    bodies: Callable[[Iterable[StreamChunk]], Iterator[dict[str, Any]]] = _bodies,
) -> Iterator[bytes]:
    """Encode a stream. One that breaks ends with an error and no `[DONE]`.

    :param include_usage: whether the caller wants the last chunk, which has the usage
    :param bodies: makes a chunk's body
    """
    try:
        for body in bodies(chunks):
            if body.get("usage") is None or include_usage:
                yield _event(body)
    except StreamBrokenError as error:
        yield _error(f"The provider broke off in mid-answer: {error}. What you have is incomplete.", "stream_broken")
        return
    except Exception as error:  # noqa: BLE001 - the headers are gone: an event is the only way left to tell the caller
        log_unexpected(error)
        yield _error("Something failed inside the gateway in mid-answer.", "internal_error")
        return
    yield b"data: [DONE]\n\n"


def _error(message: str, code: str) -> bytes:
    return _event(openai_error(message, type="server_error", code=code))


def _event(body: object) -> bytes:
    # Some servers cut a surrogate pair in two: each half goes on as a JSON escape, and the caller joins them again.
    return b"data: " + dumps(body).encode(errors="backslashreplace") + b"\n\n"
