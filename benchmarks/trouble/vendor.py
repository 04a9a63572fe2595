"""Vendors that fail in every way that the router knows, and keep the only true account of what they billed."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from benchmarks.trouble import DEAR, SECRETS, Question, number_in, usd
from tests.support.upstream import (
    Handler,
    Reply,
    Upstream,
    cut_before_answer,
    cut_stream,
    end_stream_early,
    error_in_stream,
    hang,
    properly,
    raw,
    running_upstream,
    stall_stream,
    status,
    without_usage,
)

_WORDS: Final = 8
_ANSWER_SECONDS: Final = 0.15
_HANG_SECONDS: Final = 8.0


@dataclass
class Bills:
    """What each provider billed for each call's number, in USD."""

    usd: dict[tuple[str, int], Decimal] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    """How often each way of answering was taken."""
    all_well: bool = False
    """Whether the vendors answer as they should from now on."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, provider: str, number: int, cost: Decimal) -> None:
        with self._lock:
            self.usd[provider, number] = self.usd.get((provider, number), Decimal(0)) + cost

    def played(self, kind: str) -> None:
        with self._lock:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1


@contextmanager
def running_vendor(provider: str, bills: Bills, seed: int) -> Iterator[int]:
    """A provider's server until the block ends; its port."""
    deck = _Deck(random.Random(f"{seed} {provider}"))  # noqa: S311 - the same failures in every run

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        question = Question(number_in(body["messages"][0]["content"]))
        kind = _MATRIX[0] if bills.all_well else deck.deal()
        if kind.billed:
            bills.add(provider, question.number, usd(question.tokens, DEAR if body["model"] == "dear" else 1))
        bills.played(kind.name)
        kind.reply(handler, body)

    with running_upstream() as upstream:
        upstream.words = [f"{SECRETS['answer']} "] * _WORDS
        upstream.delay = _ANSWER_SECONDS
        upstream.otherwise = reply
        upstream.usage = _usage
        yield upstream.port


def _usage(upstream: Upstream, body: dict[str, Any]) -> dict[str, int]:
    inputs, outputs = Question(number_in(body["messages"][0]["content"])).tokens
    return {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One way of answering."""

    name: str
    cards: int
    """In a deck."""
    billed: bool
    """Whether the vendor did its work, and bills it, whatever became of the answer."""
    reply: Reply


class _Deck:
    """How to answer the next request. From a shuffled deck, so that each way has its turn in a short run too."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._cards: list[_Kind] = []
        self._lock = threading.Lock()

    def deal(self) -> _Kind:
        with self._lock:
            if not self._cards:
                self._cards = [kind for kind in _MATRIX for _ in range(kind.cards)]
                self._chance.shuffle(self._cards)
            return self._cards.pop()


def _streams_only(reply: Reply) -> Reply:
    """What happens within a stream; whoever asked for a whole answer sees the connection break."""
    return lambda handler, body: (reply if body.get("stream") else cut_before_answer)(handler, body)


def _stall(handler: Handler, body: dict[str, Any]) -> None:
    (stall_stream(_WORDS // 2, _HANG_SECONDS) if body.get("stream") else hang(_HANG_SECONDS))(handler, body)


_MATRIX: Final = (
    _Kind("answer", 120, True, properly),
    _Kind("answer without usage", 1, True, without_usage),
    _Kind("no JSON", 1, True, raw(b"<html>")),
    _Kind("hang", 1, True, hang(_HANG_SECONDS)),
    _Kind("stall", 1, True, _stall),
    _Kind("cut before the answer", 1, True, cut_before_answer),
    _Kind("cut in the middle", 1, True, _streams_only(cut_stream(_WORDS // 2))),
    _Kind("end early", 1, True, _streams_only(end_stream_early(_WORDS // 2))),
    _Kind("error in the middle", 1, True, _streams_only(error_in_stream(_WORDS // 2))),
    _Kind("408", 1, True, status(408)),
    _Kind("502", 1, True, status(502)),
    _Kind("504", 1, True, status(504)),
    _Kind("409", 1, False, status(409)),
    _Kind("429", 1, False, status(429, {"retry-after": "1"})),
    _Kind("500", 2, False, status(500)),
    _Kind("503", 2, False, status(503)),
)
