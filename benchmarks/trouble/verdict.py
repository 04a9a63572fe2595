"""What upstreams billed <= what the books say <= the budget, and where each cent of the difference is."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg
from psycopg.rows import dict_row

from benchmarks.trouble import DEAR, SECRETS, number_of_bound
from benchmarks.trouble.callers import Outcome

Bill = Mapping[tuple[str, int], Decimal]

_WINDOWS = """
    SELECT w.id, w.opened_by, w.closed_at IS NULL AS open, w.spent + h.spent AS spent,
           w.reserved + h.reserved AS reserved,
           COALESCE((SELECT sum(l.cost) FROM ledger l WHERE l.window_id = w.id), 0) AS booked,
           COALESCE((SELECT sum(r.cost) FROM usage_rollup r WHERE r.window_id = w.id), 0) AS rolled,
           (SELECT count(*) FROM ledger l WHERE l.window_id = w.id AND l.status = 'reserved') AS left_open
    FROM budget_window w, ledger_held_by_slots(w.id) h WHERE w.budget = 'global' ORDER BY w.id
"""


@dataclass(frozen=True, slots=True)
class Window:
    """A budget window as the books have it, in USD."""

    id: int
    opened_by: str
    spent: Decimal
    reserved: Decimal
    booked: Decimal
    """The sum of its entries."""
    rolled: Decimal
    """The sum of its rollups."""
    left_open: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An attempt as the ledger has it."""

    number: int
    """Of the call, read from the bound."""
    window: int
    request_id: str
    provider: str
    status: str
    outcome: str | None
    basis: str | None
    bound: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger at the end."""

    windows: Sequence[Window]
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class AtBound:
    """An attempt that is booked at its bound, and what the vendor billed of it."""

    entry: Entry
    billed: Decimal

    @property
    def difference(self) -> Decimal:
        return self.entry.cost - self.billed


@dataclass
class Verdict:
    """What was found."""

    wrong: list[str] = field(default_factory=list)
    at_bound: list[AtBound] = field(default_factory=list)
    billed: dict[int, Decimal] = field(default_factory=dict)
    """USD by window."""


def read_books(database_url: str, allowance: int) -> Books:
    """:param allowance: the tokens that a call's bound has beyond its prompt's bytes"""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        windows = [
            Window(w["id"], w["opened_by"], w["spent"], w["reserved"], w["booked"], w["rolled"], w["left_open"])
            for w in connection.execute(_WINDOWS).fetchall()
        ]
        entries = [
            Entry(
                number_of_bound(e["bound"], DEAR if e["model"] == "dear" else 1, allowance),
                e["window_id"],
                e["request_id"],
                e["provider"],
                e["status"],
                e["outcome"],
                e["cost_basis"],
                e["bound"],
                e["cost"] or Decimal(0),
            )
            for e in connection.execute("SELECT * FROM ledger ORDER BY reserved_at").fetchall()
        ]
    return Books(windows, entries)


def judge(books: Books, bill: Bill, outcomes: Sequence[Outcome], budget: Decimal, logs: Mapping[str, str]) -> Verdict:
    """
    :param bill: USD by provider and the call's number
    :param budget: of each window
    :param logs: every text that was written, by its name
    """
    verdict = Verdict(billed={window.id: Decimal(0) for window in books.windows})
    _judge_entries(books, bill, verdict)
    verdict.wrong += _wrong_windows(books, verdict.billed, budget)
    verdict.wrong += _wrong_outcomes(outcomes, logs)
    for name, text in logs.items():
        verdict.wrong += [f"{name} holds a {what}" for what, word in SECRETS.items() if word in text]
    booked, billed = sum(w.booked for w in books.windows), sum(bill.values())
    explained = sum(each.difference for each in verdict.at_bound)
    if booked - billed != explained:
        verdict.wrong.append(f"booked {booked}, billed {billed}, and calls at their bound explain {explained} of it")
    return verdict


def _judge_entries(books: Books, bill: Bill, verdict: Verdict) -> None:
    unbooked = dict(bill)
    for entry in books.entries:
        billed = unbooked.pop((entry.provider, entry.number), Decimal(0))
        verdict.billed[entry.window] += billed
        call = f"call {entry.number} at {entry.provider} ({entry.request_id}, {entry.outcome})"
        if entry.basis == "bound":
            verdict.at_bound.append(AtBound(entry, billed))
            if billed > entry.cost:
                verdict.wrong.append(f"{call}: billed {billed}, above its bound {entry.cost}")
        elif entry.cost != billed:
            verdict.wrong.append(f"{call}: {entry.status} at {entry.cost}, billed {billed}")
    verdict.wrong += [
        f"call {number} at {provider}: billed {usd}, in no book" for (provider, number), usd in unbooked.items()
    ]


def _wrong_windows(books: Books, billed: Mapping[int, Decimal], budget: Decimal) -> Iterator[str]:
    for w in books.windows:
        if not billed[w.id] <= w.spent <= budget:
            yield f"window {w.id}: billed {billed[w.id]}, booked {w.spent}, budget {budget}"
        if not w.spent == w.booked == w.rolled:
            yield f"window {w.id}: spent {w.spent}, its entries {w.booked}, its rollups {w.rolled}"
        if w.reserved or w.left_open:
            yield f"window {w.id}: {w.left_open} reservations are left, of {w.reserved} USD"


def _wrong_outcomes(outcomes: Sequence[Outcome], logs: Mapping[str, str]) -> Iterator[str]:
    for outcome in outcomes:
        if not outcome.is_answer:
            yield f"call {outcome.number} had no answer in {outcome.after:.1f} s"
        if outcome.end == "stream cut" and not _was_killed(outcome, logs):
            yield f"call {outcome.number}: its stream was cut, and no worker of it was killed ({outcome.request_id})"


def _was_killed(outcome: Outcome, logs: Mapping[str, str]) -> bool:
    """Whether the gateway says that the worker which served it died."""
    lines = (line for text in logs.values() for line in text.split("\n") if '"gateway.function_crashed"' in line)
    return any(str(outcome.request_id) in line for line in lines)


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many calls ended how, the most frequent first."""
    return dict(Counter(outcome.end for outcome in outcomes).most_common())
