"""`POST /responses`: answers, streams and errors in the format of OpenAI's Responses.

Source: OpenAI's API reference, "The response object", "Streaming events".
"""

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from fusewire.ai.vocabulary import (
    ChatResponse,
    CompletionTokensDetails,
    FinishReason,
    PromptTokensDetails,
    StreamChunk,
    Usage,
)
from fusewire.errors import FusewireError
from fusewire.http.blocks import Block, BlockReader, Kind, Step, blocks_of
from fusewire.http.doors import Door, Event, in_own_words, typed_events
from fusewire.http.errors import body_of, headers_of
from fusewire.http.resolver import Resolver
from fusewire.http.responses import NAMES, chat_request
from fusewire.http.responses_request import ResponsesRequest

_CUT: Final[dict[FinishReason, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_PREFIXES: Final[dict[Kind, str]] = {"thinking": "rs", "text": "msg", "refusal": "msg", "tool": "fc"}


def responses_door(app: Resolver) -> Door:
    """:raises InvalidRequestError: for a body that can't be understood or honoured"""
    asked = app.body(ResponsesRequest)
    request, dropped = chat_request(asked)
    shape = ResponseShape(asked, app.request_id.replace("-", ""))
    return Door(
        request,
        whole=shape.whole,
        events=lambda chunks: typed_events(chunks, ResponseWriter(shape)),
        dropped=dropped,
        names=NAMES,
    )


def tell_error(error: FusewireError, request_id: str) -> tuple[object, dict[str, str]]:
    """OpenAI's error body, with the fields' names as Responses has them."""
    told: Any = body_of(error)["error"]
    message, param = in_own_words(error, NAMES)
    return {"error": told | {"message": message, "param": param}}, headers_of(error)


class ResponseShape:
    """The response object of one request, at whatever stage."""

    def __init__(self, asked: ResponsesRequest, unique: str) -> None:
        self._asked = asked
        self._unique = unique

    def whole(self, response: ChatResponse, cost: Decimal) -> Event:
        """A whole answer. One whose usage nobody told has none here; its cost is in the headers."""
        choice = response.choices[0]
        blocks = blocks_of(choice.message)
        output = [self.item(number, block, "completed") for number, block in enumerate(blocks)]
        if output and choice.finish_reason in _CUT:
            output[-1]["status"] = "incomplete"
        return self.response(response.model, response.created, output, choice.finish_reason, response.usage)

    def response(
        self, model: str, created: int, output: Sequence[Event], finish: FinishReason | None, usage: Usage | None
    ) -> Event:
        """An answer that has come to its end."""
        cut = _CUT.get(finish) if finish else None
        more: Event = {"incomplete_details": {"reason": cut}} if cut else {"completed_at": int(time.time())}
        status = "incomplete" if cut else "completed"
        return self.unfinished(model, created, status, output) | more | {"usage": _usage(usage)}

    def unfinished(self, model: str, created: int, status: str, output: Sequence[Event] = ()) -> Event:
        """What is known before the end."""
        asked = self._asked
        echoed = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
        reasoning = asked.reasoning
        return {
            "id": f"resp_{self._unique}",
            "object": "response",
            "created_at": created,
            "status": status,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": model,
            "output": list(output),
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "prompt_cache_key": asked.prompt_cache_key,
            "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
            "safety_identifier": asked.safety_identifier,
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}} | (echoed.get("text") or {}),
            "tool_choice": echoed.get("tool_choice") or "auto",
            "tools": echoed.get("tools") or [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": asked.user,
        }

    def item_id(self, number: int, block: Block) -> str:
        return f"{_PREFIXES[block.kind]}_{self._unique}_{number}"

    def item(self, number: int, block: Block, status: str) -> Event:
        """A block as an output item: whole, or as far as it has come."""
        told: Event = {"id": self.item_id(number, block), "status": status}
        if block.kind == "tool":
            told |= {
                "type": "function_call",
                "call_id": block.call_id,
                "name": block.name,
                "arguments": block.text,
            }
            return told | ({"extra_content": block.extra_content} if block.extra_content else {})
        content = [_part(block.kind, block.text)] if block.pieces else []
        if block.kind == "thinking":
            return told | {"type": "reasoning", "summary": [], "content": content}
        return told | {"type": "message", "role": "assistant", "content": content}


def _part(kind: Kind, text: str) -> Event:
    if kind == "thinking":
        return {"type": "reasoning_text", "text": text}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage | None) -> Event | None:
    if usage is None:
        return None
    into = usage.prompt_tokens_details or PromptTokensDetails()
    out = usage.completion_tokens_details or CompletionTokensDetails()
    told: Event = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": into.cached_tokens or 0,
            "cache_write_tokens": into.cache_write_tokens or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": out.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    return told if usage.cost is None else told | {"cost": usage.cost}


class ResponseWriter:
    """OpenAI's events, numbered: created, in progress, each item from added to done, and how it ended."""

    def __init__(self, shape: ResponseShape) -> None:
        self._shape = shape
        self._model = ""
        self._created = int(time.time())
        self._blocks: list[Block] = []
        self._number = -1

    def begin(self, chunk: StreamChunk | None) -> Iterator[Event]:
        if chunk is not None:
            self._model, self._created = chunk.model, chunk.created
        yield self._event("response.created", response=self._unfinished("in_progress"))
        yield self._event("response.in_progress", response=self._unfinished("in_progress"))

    def step(self, step: Step) -> Iterator[Event]:
        if step.what == "begins":
            yield from self._done("completed")
            yield from self._added(step.block)
        elif step.what == "goes_on":
            yield self._of_last(f"{_EVENTS[step.block.kind]}.delta", delta=step.text)
        # Where it ends, the next begins; of the last one the answer's end says whether it was cut.

    def end(self, reader: BlockReader) -> Iterator[Event]:
        status = "incomplete" if reader.finish in _CUT else "completed"
        yield from self._done(status)
        output = self._items(status)
        response = self._shape.response(self._model, self._created, output, reader.finish, reader.usage)
        yield self._event(f"response.{status}", response=response)

    def broken(self, message: str, code: str) -> Iterator[Event]:
        error = {"code": "server_error", "type": code, "message": message, "param": None}
        yield self._event("response.failed", response=self._unfinished("failed") | {"error": error})

    def _added(self, block: Block) -> Iterator[Event]:
        self._blocks.append(block)
        empty = Block(block.kind, block.call_id, block.name, block.extra_content)
        place = len(self._blocks) - 1
        item = self._shape.item(place, empty, "in_progress")
        yield self._event("response.output_item.added", output_index=place, item=item)
        if block.kind != "tool":
            yield self._of_last("response.content_part.added", part=_part(block.kind, ""))

    def _done(self, status: str) -> Iterator[Event]:
        """The end of the last item."""
        if not self._blocks:
            return
        block, place = self._blocks[-1], len(self._blocks) - 1
        if block.kind == "tool":
            yield self._of_last(f"{_EVENTS[block.kind]}.done", name=block.name, arguments=block.text)
        else:
            field = "refusal" if block.kind == "refusal" else "text"
            yield self._of_last(f"{_EVENTS[block.kind]}.done", **{field: block.text})
            yield self._of_last("response.content_part.done", part=_part(block.kind, block.text))
        yield self._event("response.output_item.done", output_index=place, item=self._shape.item(place, block, status))

    def _items(self, last: str) -> list[Event]:
        items = [self._shape.item(place, block, "completed") for place, block in enumerate(self._blocks)]
        if items:
            items[-1]["status"] = last
        return items

    def _unfinished(self, status: str) -> Event:
        return self._shape.unfinished(self._model, self._created, status, self._items("incomplete"))

    def _of_last(self, kind: str, **fields: object) -> Event:
        block, place = self._blocks[-1], len(self._blocks) - 1
        where: Event = {"item_id": self._shape.item_id(place, block), "output_index": place}
        if block.kind != "tool":
            where["content_index"] = 0
        if kind.startswith("response.output_text"):
            where["logprobs"] = []
        return self._event(kind, **where, **fields)

    def _event(self, kind: str, **fields: object) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}


_EVENTS: Final[dict[Kind, str]] = {
    "thinking": "response.reasoning_text",
    "text": "response.output_text",
    "refusal": "response.refusal",
    "tool": "response.function_call_arguments",
}
