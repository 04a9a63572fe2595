"""The calls of the trace: when each arrives, what it asks and how long its answer takes.

The trace has no durations. A vendor is assumed that reads 5,000 tokens and writes 50 tokens a second. Times are seconds
of the trace; a replay divides all of them by one factor.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Final

INPUT_USD_PER_MTOK: Final = 3
OUTPUT_USD_PER_MTOK: Final = 15
READ_TOKENS_PER_SECOND: Final = 5000
WRITTEN_TOKENS_PER_SECOND: Final = 50
BYTES_PER_TOKEN: Final = 4
"""Of English and of code, roughly, with the vocabularies of 2024."""
MAX_IDLE_SECONDS: Final = 5.0
"""How long nothing may happen: the trace has minutes without a call, in which a replay would only wait."""

_FILE: Final = Path(__file__).with_name("trace.csv")
_WORDS: Final = " the and for you are not all can has one out use new get any how"
"""Each is four bytes with its space, and one token in OpenAI's vocabularies, so that a bound by those holds too."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the trace."""

    number: int
    at: float
    input_tokens: int
    output_tokens: int
    """What the answer has where no cap ends it before."""
    speed: int = 1
    """How many times faster than usual the vendor writes."""

    def written(self, cap: int | None) -> int:
        """Tokens of the answer under an output cap."""
        return self.output_tokens if cap is None else min(self.output_tokens, cap)

    def seconds(self, cap: int | None) -> float:
        """How long the vendor takes."""
        writing = self.written(cap) / (WRITTEN_TOKENS_PER_SECOND * self.speed)
        return self.input_tokens / READ_TOKENS_PER_SECOND + writing

    def usd(self, cap: int | None) -> Decimal:
        """What the vendor bills."""
        millionths = self.input_tokens * INPUT_USD_PER_MTOK + self.written(cap) * OUTPUT_USD_PER_MTOK
        return Decimal(millionths) / 1_000_000

    def prompt(self) -> str:
        """Text with the call's number in front, of as many bytes as the tokens usually have."""
        head = f"{self.number}\n"
        size = BYTES_PER_TOKEN * self.input_tokens
        return (head + _WORDS * (size // len(_WORDS) + 1))[: max(size, len(head))]


def number_in(prompt: str) -> int:
    """The number of the call that asks this."""
    return int(prompt.partition("\n")[0])


def read_trace() -> list[Call]:
    """All calls, in the order of their arrival."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [
            Call(number, float(row["seconds"]), int(row["input_tokens"]), int(row["output_tokens"]))
            for number, row in enumerate(rows)
        ]


def without_idle_time(calls: Sequence[Call]) -> list[Call]:
    """The same calls; where all have ended and none arrives for longer than `MAX_IDLE_SECONDS`, for that long."""
    removed = busy_until = 0.0
    moved: list[Call] = []
    for call in calls:
        idle = call.at - removed - busy_until
        removed += max(idle - MAX_IDLE_SECONDS, 0.0) if moved else idle
        at = call.at - removed
        busy_until = max(busy_until, at + call.seconds(None))
        moved.append(replace(call, at=at))
    return moved


def with_longer_answers(calls: Sequence[Call], since: int, factor: int) -> list[Call]:
    """The same calls, with answers `factor` times as long from call `since` on, written as many times faster.

    So as many calls are under way at once as before.
    """
    return [
        call if call.number < since else replace(call, output_tokens=call.output_tokens * factor, speed=factor)
        for call in calls
    ]


def until_spent(calls: Sequence[Call], usd: Decimal) -> list[Call]:
    """The first calls, as many as cost `usd` altogether where none is refused or cut."""
    spent = accumulate((call.usd(None) for call in calls), initial=Decimal(0))
    return [call for call, _ in takewhile(lambda pair: pair[1] < usd, zip(calls, spent, strict=False))]
