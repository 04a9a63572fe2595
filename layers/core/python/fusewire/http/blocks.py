"""An answer as blocks, each whole before the next begins: what Anthropic's and OpenAI's newer formats are made of.

A `ChatResponse` has one text, one refusal, one line of thought and any number of tool calls, and a stream may go to and
fro between them. Here that becomes a list of blocks. A block that begins while a tool call is unfinished waits for it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from fusewire.ai.schema import (
    Delta,
    DeltaToolCall,
    FinishReason,
    ResponseMessage,
    ResponseThinking,
    StreamChunk,
    Usage,
)

Kind = Literal["thinking", "text", "refusal", "tool"]


@dataclass(slots=True, eq=False)
class Block:
    """One part of an answer. `pieces` are its text so far, or a tool call's arguments."""

    kind: Kind
    call_id: str = ""
    name: str = ""
    extra_content: dict[str, Any] | None = None
    """Google's signature, which has to come back with the call."""
    signature: str = ""
    """Of a thought of Claude's, which has to come back with it."""
    encrypted: str = ""
    """A thought of Claude's that nobody may read, and that has to come back too."""
    pieces: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next in a stream: a block begins, goes on by `text`, or ends."""

    what: Literal["begins", "goes_on", "ends"]
    block: Block
    text: str = ""


def blocks_of(message: ResponseMessage) -> list[Block]:
    """A whole answer's blocks."""
    if message.thinking_blocks:
        return _blocks_with_thoughts(message, message.thinking_blocks)
    said: tuple[tuple[Kind, str | None], ...] = (
        ("thinking", message.reasoning_content),
        ("text", message.content),
        ("refusal", message.refusal),
    )
    return [Block(kind, pieces=[text]) for kind, text in said if text] + _called_in(message)


def _called_in(message: ResponseMessage) -> list[Block]:
    return [
        Block("tool", call.id, call.function.name, call.extra_content, pieces=[call.function.arguments])
        for call in message.tool_calls or ()
    ]


def _blocks_with_thoughts(message: ResponseMessage, thoughts: list[ResponseThinking]) -> list[Block]:
    """Each thought stands where Claude had it: it has to come back at the same place."""
    texts = [message.content or ""] if message.texts is None else message.texts
    blocks = [Block("text", pieces=[text]) for text in texts if text]
    blocks += [Block("refusal", pieces=[text]) for text in (message.refusal,) if text]
    blocks += _called_in(message)
    for number, thought in enumerate(thoughts):
        blocks.insert(number if thought.place is None else thought.place, _thought(thought))
    return blocks


def _thought(thought: ResponseThinking) -> Block:
    pieces = [thought.thinking] if thought.thinking else []
    return Block("thinking", signature=thought.signature or "", encrypted=thought.data or "", pieces=pieces)


class BlockReader:
    """Reads one stream. `read` each chunk, then `end`."""

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self.usage: Usage | None = None
        self._open: Block | None = None
        self._waiting: list[Block] = []
        self._calls: dict[int, Block] = {}

    def read(self, chunk: StreamChunk) -> Iterator[Step]:
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            self.finish = choice.finish_reason or self.finish
            yield from self._delta(choice.delta)

    def end(self) -> Iterator[Step]:
        """The rest: nothing more is waited for."""
        yield from self._let_in(at_once=True)
        yield from self._close()

    def _delta(self, delta: Delta) -> Iterator[Step]:
        if delta.reasoning_content:
            yield from self._add(self._said("thinking"), delta.reasoning_content)
        for thought in delta.thinking_blocks or ():
            yield from self._signed(thought)
        if delta.content:
            yield from self._add(self._said("text"), delta.content)
        if delta.refusal:
            yield from self._add(self._said("refusal"), delta.refusal)
        for call in delta.tool_calls or ():
            yield from self._add(self._called(call), (call.function and call.function.arguments) or "")

    def _said(self, kind: Kind) -> Block:
        last = self._waiting[-1] if self._waiting else self._open
        # A signature is a thought's end.
        is_it = last is not None and last.kind == kind and not (last.signature or last.encrypted)
        return last if last is not None and is_it else Block(kind)

    def _signed(self, thought: ResponseThinking) -> Iterator[Step]:
        if thought.type == "redacted_thinking":
            yield from self._add(Block("thinking", encrypted=thought.data or ""), "")
            return
        block = self._said("thinking")
        yield from self._add(block, thought.thinking or "")
        block.signature = thought.signature or ""

    def _called(self, call: DeltaToolCall) -> Block:
        block = self._calls.setdefault(call.index, Block("tool"))
        block.call_id = call.id or block.call_id
        block.name = (call.function and call.function.name) or block.name
        block.extra_content = call.extra_content or block.extra_content
        return block

    def _add(self, block: Block, piece: str) -> Iterator[Step]:
        if block.ended:
            return  # its arguments were a whole object: nothing that follows can belong to it
        if piece:
            block.pieces.append(piece)
        if block is not self._open:
            if block not in self._waiting:
                self._waiting.append(block)
        elif piece:
            yield Step("goes_on", block, piece)
        yield from self._let_in()

    def _let_in(self, *, at_once: bool = False) -> Iterator[Step]:
        """Begin those who wait, in order, as far as the ones before them are done."""
        while self._waiting and (at_once or not (self._is_busy() or _is_nameless(self._waiting[0]))):
            yield from self._close()
            self._open = self._waiting.pop(0)
            yield Step("begins", self._open)
            if self._open.pieces:
                yield Step("goes_on", self._open, self._open.text)

    def _is_busy(self) -> bool:
        return self._open is not None and self._open.kind == "tool" and not _is_object(self._open.text)

    def _close(self) -> Iterator[Step]:
        if self._open is not None:
            self._open.ended = True
            yield Step("ends", self._open)
            self._open = None


def _is_nameless(block: Block) -> bool:
    return block.kind == "tool" and not block.name


def _is_object(text: str) -> bool:
    try:
        return text.rstrip().endswith("}") and isinstance(json.loads(text), dict)
    except ValueError:
        return False
