"""How much of an answer is taken from a vendor: a gigabyte of zeros is a megabyte once it is compressed.

Time is limited elsewhere (`deadline.py`, `bedrock/exchange.py`).
"""

from dataclasses import dataclass
from typing import Final

_MIB: Final = 2**20
_BLANK_LINES: Final = (b"\n\n", b"\n\r\n", b"\r\r")


class AnswerTooLarge(Exception):
    """More came than any answer to this request can hold."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The most that one answer may hold. Bytes count after decompression."""

    bytes: int
    values: int
    """JSON values of an answer that is read as a whole: each takes several times its length in memory."""
    event: int
    """Bytes of one event of a stream: the SDKs keep it until the blank line that ends it."""
    lines: int = 2**31
    """Lines of one event of a stream. Anthropic's SDK copies the event again for each of them."""
    parts: int = 2_000_000
    """Pieces in which it comes, each of which costs time however short it is."""


WHOLE: Final = AnswerLimits(bytes=32 * _MIB, values=4_000_000, event=32 * _MIB)
"""Of a chat answer in one piece. The longest are some 130,000 tokens, or a megabyte; log probabilities take more."""

STREAMED: Final = AnswerLimits(bytes=256 * _MIB, values=0, event=8 * _MIB, lines=2000)
"""Of a stream: more than the 200 MB that Lambda passes on."""

ERROR: Final = AnswerLimits(bytes=_MIB, values=100_000, event=_MIB)


def for_vectors(inputs: int) -> AnswerLimits:
    """Of embeddings: for each input a vector of up to 8,192 numbers, and 20 bytes for each number."""
    size = _MIB + inputs * 8192 * 20
    return AnswerLimits(bytes=size, values=100_000 + inputs * 8200, event=size)


class AnswerSize:
    """How much of one answer has come."""

    def __init__(self, limits: AnswerLimits) -> None:
        self._limits = limits
        self._bytes = 0
        self._parts = 0
        self._event = 0
        self._lines = 0
        self._last = b""

    def add(self, part: bytes) -> None:
        """:raises AnswerTooLarge: when it is more than the limits allow"""
        self._bytes += len(part)
        self._parts += 1
        text = self._last + part  # a blank line may come in two parts
        end = max(map(text.rfind, _BLANK_LINES))
        if end >= 0:
            self._event = self._lines = 0
            part = text[end:]
        self._event += len(part)
        self._lines += part.count(b"\n") + part.count(b"\r")
        self._last = text[-2:]
        limits = self._limits
        if self._bytes > limits.bytes or self._parts > limits.parts or self._event > limits.event:
            raise AnswerTooLarge
        if self._lines > limits.lines:
            raise AnswerTooLarge
