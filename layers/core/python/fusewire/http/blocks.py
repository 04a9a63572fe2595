"""An answer as blocks, each whole before the next begins: what Anthropic's and OpenAI's newer formats are made of.

The vocabulary has one text, one refusal, one line of thought and any number of tool calls, and a stream may go to and
fro between them. Here that becomes a row of blocks. A block that begins while a tool call is unfinished waits for it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from fusewire.ai.vocabulary import AnsweredMessage, Delta, DeltaToolCall, FinishReason, StreamChunk, Usage

Kind = Literal["thinking", "text", "refusal", "tool"]


@dataclass(slots=True, eq=False)
class Block:
    """One part of an answer. `pieces` are its text so far, or a tool call's arguments."""

    kind: Kind
    call_id: str = ""
    name: str = ""
    extra_content: dict[str, Any] | None = None
    """Google's signature, which has to come back with the call."""
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


def blocks_of(message: AnsweredMessage) -> list[Block]:
    """A whole answer's blocks."""
    said: tuple[tuple[Kind, str | None], ...] = (
        ("thinking", message.reasoning_content),
        ("text", message.content),
        ("refusal", message.refusal),
    )
    blocks = [Block(kind, pieces=[text]) for kind, text in said if text]
    for call in message.tool_calls or ():
        arguments = call.function.arguments
        blocks.append(Block("tool", call.id, call.function.name, call.extra_content, [arguments]))
    return blocks


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
        if delta.content:
            yield from self._add(self._said("text"), delta.content)
        if delta.refusal:
            yield from self._add(self._said("refusal"), delta.refusal)
        for call in delta.tool_calls or ():
            yield from self._add(self._called(call), (call.function and call.function.arguments) or "")

    def _said(self, kind: Kind) -> Block:
        last = self._waiting[-1] if self._waiting else self._open
        return last if last is not None and last.kind == kind else Block(kind)

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
