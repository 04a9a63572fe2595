"""`POST /responses`: answers, streams and errors in the format of OpenAI's Responses.

Source: OpenAI's API reference, "The response object", "Streaming events".
"""

import json
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, Literal, NotRequired

from typing_extensions import TypedDict

from fusewire.ai.schema import (
    ChatResponse,
    CompletionTokensDetails,
    FinishReason,
    PromptTokensDetails,
    StreamChunk,
    Usage,
)
from fusewire.errors import FusewireError
from fusewire.http import errors
from fusewire.http.blocks import Block, BlockReader, Kind, Step, blocks_of
from fusewire.http.errors import Error
from fusewire.http.formats import ApiFormat, translate_param
from fusewire.http.request import Request
from fusewire.http.responses.kept import Conversation, item_id, response_id
from fusewire.http.responses.request import ResponsesRequest
from fusewire.http.responses.tools import CustomInputReader, FunctionTable, custom_input
from fusewire.http.responses.tools import Kind as ToolKind
from fusewire.http.responses.translate import NAMES, chat_request, dropped_fields
from fusewire.http.schema import Money
from fusewire.http.typed_events import Event, typed_events
from fusewire.store.kept_responses import KeptResponses

Status = Literal["in_progress", "completed", "incomplete", "failed"]
_CUT: Final[dict[FinishReason, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
ItemType = Literal["reasoning", "message", "function_call", "custom_tool_call", "tool_search_call"]
_TYPES: Final[dict[Kind, ItemType]] = {"thinking": "reasoning", "text": "message", "refusal": "message"}
_CALLS: Final[dict[ToolKind, ItemType]] = {
    "function": "function_call",
    "custom": "custom_tool_call",
    "tool_search": "tool_search_call",
}
_PREFIXES: Final[dict[ItemType, str]] = {
    "reasoning": "rs",
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "tool_search_call": "tsc",
}


class ResponseUsage(TypedDict):
    """Tokens as OpenAI counts them; `cost` is in USD."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int
    cost: NotRequired[Money]


class ResponseObject(TypedDict):
    """As OpenAI's API reference has it; `usage.cost` is the cost in USD."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Status
    background: Literal[False]
    completed_at: int | None
    error: Event | None
    incomplete_details: Event | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[Event]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Event
    safety_identifier: str | None
    store: bool
    temperature: float | None
    text: Event
    tool_choice: str | Event
    tools: list[Event]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None


def responses_format(request: Request, body: ResponsesRequest, kept: KeptResponses) -> ApiFormat:
    """
    :param kept: where earlier answers are
    :raises InvalidRequestError: for a body that can't be honoured
    :raises LedgerUnavailableError: when earlier answers can't be read
    """
    conversation = Conversation(request, body, kept)
    whole = conversation.body
    functions = FunctionTable(whole)
    shape = ResponseShape(whole, functions, request.id.replace("-", ""), conversation)
    done = {"store"} if conversation.is_kept else set()
    return ApiFormat(
        chat_request(whole, functions),
        render=shape.whole,
        render_stream=lambda chunks: typed_events(chunks, ResponseWriter(shape)),
        dropped=tuple(name for name in dropped_fields(whole) if name not in done),
        names=NAMES,
    )


def render_error(error: FusewireError, request_id: str) -> tuple[Error, dict[str, str]]:
    """OpenAI's body and headers of an error, with the fields' names as Responses has them."""
    body, headers = errors.render_error(error, request_id)
    if error.param is not None:
        body["error"]["message"], body["error"]["param"] = translate_param(error, NAMES)
    return body, headers


class ResponseShape:
    """The response object of one request, at whatever stage."""

    def __init__(
        self,
        body: ResponsesRequest,
        functions: FunctionTable,
        unique: str,
        conversation: Conversation | None = None,
    ) -> None:
        """
        :param unique: what all ids of this answer have in common
        :param conversation: what keeps the answer; None where none is kept
        """
        self._conversation = conversation
        self._body = body
        self._functions = functions
        self._unique = unique

    def whole(self, response: ChatResponse, cost: Decimal) -> ResponseObject:
        """A whole answer. One without a vendor's usage has none here; its cost is in the headers."""
        choice = response.choices[0]
        blocks = [block for block in blocks_of(choice.message) if not _is_unreadable(block)]
        output = [self.item(number, block, "completed") for number, block in enumerate(blocks)]
        if output and choice.finish_reason in _CUT:
            output[-1]["status"] = "incomplete"
        return self.response(response.model, response.created, output, choice.finish_reason, response.usage)

    def response(
        self, model: str, created: int, output: Sequence[Event], finish: FinishReason | None, usage: Usage | None
    ) -> ResponseObject:
        """An answer that has come to its end."""
        cut = _CUT.get(finish) if finish else None
        response = self.unfinished(model, created, "incomplete" if cut else "completed", output)
        if cut:
            response["incomplete_details"] = {"reason": cut}
        else:
            response["completed_at"] = int(time.time())
        response["usage"] = _usage(usage)
        response["store"] = self._conversation is not None and self._conversation.keep(response)
        return response

    def unfinished(self, model: str, created: int, status: Status, output: Sequence[Event] = ()) -> ResponseObject:
        """What is known before the end."""
        body = self._body
        echoed = body.model_dump(
            mode="json", by_alias=True, exclude_unset=True, include={"text", "tool_choice", "tools"}
        )
        reasoning = body.reasoning
        conversation = self._conversation
        return {
            "id": response_id(self._unique),
            "object": "response",
            "created_at": created,
            "status": status,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": model,
            "output": list(output),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None if conversation is None else conversation.previous_id,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
            "safety_identifier": body.safety_identifier,
            "store": conversation is not None and conversation.is_kept,
            "temperature": body.temperature,
            "text": {"format": {"type": "text"}} | (echoed.get("text") or {}),
            "tool_choice": echoed.get("tool_choice") or "auto",
            "tools": echoed.get("tools") or [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": body.user,
        }

    def item_type(self, block: Block) -> ItemType:
        return _TYPES.get(block.kind) or _CALLS[self._functions.tool_of(block.name).kind]

    def item_id(self, number: int, block: Block) -> str:
        return item_id(_PREFIXES[self.item_type(block)], self._unique, number)

    def item(self, number: int, block: Block, status: str) -> Event:
        """A block as an output item: whole, or as far as it has come."""
        item: Event = {"id": self.item_id(number, block), "type": self.item_type(block), "status": status}
        if block.kind == "tool":
            return item | self._call(block) | ({"extra_content": block.extra_content} if block.extra_content else {})
        content = [_part(block.kind, block.text)] if block.pieces else []
        if block.kind == "thinking":
            return item | {"summary": [], "content": content}
        return item | {"role": "assistant", "content": content}

    def _call(self, block: Block) -> Event:
        """A call, of the tool that the caller knows."""
        tool = self._functions.tool_of(block.name)
        call: Event = {"call_id": block.call_id}
        if tool.kind == "tool_search":
            return call | {"execution": "client", "arguments": _object(block.text)}
        call |= {"name": tool.name} | ({"namespace": tool.namespace} if tool.namespace is not None else {})
        if tool.kind == "custom":
            return call | {"input": custom_input(block.text)}
        return call | {"arguments": block.text}


def _is_unreadable(block: Block) -> bool:
    """Whether it is a thought of Claude's without its text: Responses has no place for another vendor's signature."""
    return block.kind == "thinking" and not block.pieces


def _object(text: str) -> object:
    """The arguments of a search, which are no text; what is no JSON is shown to the caller as it is."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def _part(kind: Kind, text: str) -> Event:
    if kind == "thinking":
        return {"type": "reasoning_text", "text": text}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage | None) -> ResponseUsage | None:
    if usage is None:
        return None
    into = usage.prompt_tokens_details or PromptTokensDetails()
    out = usage.completion_tokens_details or CompletionTokensDetails()
    counts: ResponseUsage = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": into.cached_tokens or 0,
            "cache_write_tokens": into.cache_write_tokens or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": out.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cost is not None:
        counts["cost"] = usage.cost
    return counts


class ResponseWriter:
    """OpenAI's events, numbered: created, in progress, each item from added to done, and how it ended."""

    def __init__(self, shape: ResponseShape) -> None:
        self._shape = shape
        self._model = ""
        self._created = int(time.time())
        self._blocks: list[Block] = []
        self._number = -1
        self._custom_input = CustomInputReader()

    def begin(self, chunk: StreamChunk | None) -> Iterator[Event]:
        if chunk is not None:
            self._model, self._created = chunk.model, chunk.created
        yield self._event("response.created", response=self._unfinished("in_progress"))
        yield self._event("response.in_progress", response=self._unfinished("in_progress"))

    def step(self, step: Step) -> Iterator[Event]:
        if _is_unreadable(step.block):
            return
        if step.what == "begins":
            yield from self._done("completed")
            yield from self._added(step.block)
        elif step.what == "goes_on":
            yield from self._delta(step.block, step.text)
        # Where it ends, the next begins; of the last one the answer's end says whether it was cut.

    def end(self, reader: BlockReader) -> Iterator[Event]:
        status = "incomplete" if reader.finish in _CUT else "completed"
        yield from self._done(status)
        output = self._items(status)
        response = self._shape.response(self._model, self._created, output, reader.finish, reader.usage)
        yield self._event(f"response.{status}", response=response)

    def broken(self, message: str, code: str) -> Iterator[Event]:
        error = {"code": "server_error", "type": code, "message": message, "param": None}
        response = self._unfinished("failed")
        response["error"] = error
        yield self._event("response.failed", response=response)

    def _delta(self, block: Block, text: str) -> Iterator[Event]:
        kind = self._shape.item_type(block)
        if kind == "custom_tool_call":
            text = self._custom_input.read(text)
        if text and kind != "tool_search_call":  # a search has no events of its own
            yield self._of_last(f"{self._events_of(block)}.delta", delta=text)

    def _added(self, block: Block) -> Iterator[Event]:
        self._blocks.append(block)
        self._custom_input = CustomInputReader()
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
        item = self._shape.item(place, block, status)
        if item["type"] == "custom_tool_call":
            rest = self._custom_input.end(block.text)
            if rest:
                yield self._of_last(f"{self._events_of(block)}.delta", delta=rest)
            yield self._of_last(f"{self._events_of(block)}.done", input=item["input"])
        elif item["type"] == "function_call":
            yield self._of_last(f"{self._events_of(block)}.done", name=item["name"], arguments=block.text)
        elif block.kind != "tool":
            field = "refusal" if block.kind == "refusal" else "text"
            yield self._of_last(f"{self._events_of(block)}.done", **{field: block.text})
            yield self._of_last("response.content_part.done", part=_part(block.kind, block.text))
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _events_of(self, block: Block) -> str:
        return _EVENTS.get(block.kind) or _CALL_EVENTS[self._shape.item_type(block)]

    def _items(self, last: str) -> list[Event]:
        items = [self._shape.item(place, block, "completed") for place, block in enumerate(self._blocks)]
        if items:
            items[-1]["status"] = last
        return items

    def _unfinished(self, status: Status) -> ResponseObject:
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
}
_CALL_EVENTS: Final[dict[ItemType, str]] = {
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
}
