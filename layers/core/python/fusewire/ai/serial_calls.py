"""`parallel_tool_calls: false` for providers that have no such field: of an answer's tool calls, the first.

The others are left out, whole; the model makes them again once it has the first one's result.
"""

from collections.abc import Iterable, Iterator

from fusewire.ai.schema import ChatResponse, StreamChunk


def first_call(response: ChatResponse) -> ChatResponse:
    """The answer with one tool call a choice at most."""
    for choice in response.choices:
        if choice.message.tool_calls:
            choice.message.tool_calls = choice.message.tool_calls[:1]
    return response


def first_calls(chunks: Iterable[StreamChunk]) -> Iterator[StreamChunk]:
    """The same of a stream. Chunks that hold nothing but the others are left out."""
    first: dict[int, int] = {}
    for chunk in chunks:
        said = len(chunk.choices)
        for choice in list(chunk.choices):
            calls = choice.delta.tool_calls
            if not calls:
                continue
            kept = [call for call in calls if call.index == first.setdefault(choice.index, calls[0].index)]
            if kept:
                choice.delta.tool_calls = kept
                continue
            choice.delta.tool_calls = None
            choice.delta.model_fields_set.discard("tool_calls")
            if not choice.delta.has_content and choice.finish_reason is None:
                chunk.choices.remove(choice)
        if chunk.choices or not said or chunk.usage is not None:
            yield chunk
