"""CloudWatch Logs Insights for tests: as much of its query language as the saved queries use, over JSON lines.

`fields`, `filter`, `stats ... by`, `sort`, `limit`; `and`, `or`, `not`, comparisons, `in`, `like` and `not like` with a
string or a /pattern/; the functions in `_AGGREGATES` and `bin`. Anything else is refused rather than guessed at, so
that a query that passes here is one whose meaning was tried. Fields within objects are named with dots; `@timestamp`
and `@message` are a line's time and text, as in the cloud.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final

from local.cloudformation import load

Row = dict[str, Any]
"""A line's fields, or a result's columns, by name; what is missing is missing."""

_Value = Callable[[Row], Any]
_Step = Callable[[Iterable[Row]], Iterable[Row]]

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"[^"]*"|'[^']*') | (?P<pattern>/(?:[^/\\]|\\.)+/) | (?P<period>\d+(?:ms|mo|[smhdwy])\b) |
        (?P<number>\d+(?:\.\d+)?) | (?P<name>@?[A-Za-z_][\w.]*) | (?P<sign>!=|<=|>=|[=<>|,()\[\]*])
    )""",
    re.VERBOSE,
)
_COMMENT: Final = re.compile(r"^\s*#.*$", re.MULTILINE)
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COMMANDS: Final = ("fields", "filter", "stats", "sort", "limit")


class QueryError(Exception):
    """A query that isn't in this part of the language; `str()` says where."""


@dataclass(frozen=True)
class Query:
    """A query that can be run."""

    steps: tuple[_Step, ...]
    names: frozenset[str]
    """Every field of a line that it names."""
    values: frozenset[str]
    """Every string that it compares with."""
    columns: tuple[str, ...] | None
    """What it shows, in order; None for whole lines."""

    def run(self, lines: Iterable[str]) -> list[Row]:
        """The result, from a log's lines; those that aren't JSON objects are skipped."""
        rows: Iterable[Row] = _rows(lines)
        for step in self.steps:
            rows = step(rows)
        if self.columns is None:
            return list(rows)
        return [{name: row[name] for name in self.columns if name in row} for row in rows]


def saved_queries(template: Path) -> dict[str, str]:
    """The text of each `AWS::Logs::QueryDefinition`, by the last part of its name."""
    resources = load(template.read_text(encoding="utf-8"))["Resources"].values()
    queries = [each["Properties"] for each in resources if each["Type"] == "AWS::Logs::QueryDefinition"]
    return {query["Name"].rpartition("/")[2]: query["QueryString"] for query in queries}


def parse(text: str) -> Query:
    """:raises QueryError: for what isn't in this part of the language"""
    return _Parser(text).query()


# --- lines -------------------------------------------------------------------------------------------------------


def _rows(lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        try:
            fields = json.loads(line, parse_float=Decimal)
        except ValueError:
            continue
        if isinstance(fields, dict):
            yield {**dict(_flat(fields)), "@timestamp": fields.get("timestamp"), "@message": line.rstrip("\n")}


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield before + name, value


# --- aggregates --------------------------------------------------------------------------------------------------


def _latest(found: Sequence[tuple[Any, Row]]) -> Any:  # noqa: ANN401 - a field is anything
    return max(found, key=lambda each: str(each[1].get("@timestamp")))[0]


def _percentile(found: Sequence[tuple[Any, Row]], share: Decimal) -> Any:  # noqa: ANN401
    ordered = sorted(value for value, _ in found)
    return ordered[min(int(len(ordered) * share / 100), len(ordered) - 1)]


_AGGREGATES: Final[dict[str, Callable[..., Any]]] = {
    "count": len,
    "sum": lambda found: sum((value for value, _ in found), Decimal(0)),
    "min": lambda found: min(value for value, _ in found),
    "max": lambda found: max(value for value, _ in found),
    "latest": _latest,
    "pct": _percentile,
}


@dataclass
class _Aggregate:
    """One column of `stats`: over the rows of a group that have the field."""

    name: str
    value: _Value
    into: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def over(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401
        found = [(value, row) for row in rows if (value := self.value(row)) is not None]
        return self.into(found, *self.arguments) if found or self.into is len else None


def _stats(columns: Sequence[_Aggregate], groups: Sequence[tuple[str, _Value]]) -> _Step:
    def step(rows: Iterable[Row]) -> Iterable[Row]:
        members: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            members.setdefault(tuple(value(row) for _, value in groups), []).append(row)
        for key, each in members.items():
            row = {name: value for (name, _), value in zip(groups, key, strict=True)}
            row |= {column.name: column.over(each) for column in columns}
            yield {name: value for name, value in row.items() if value is not None}

    return step


def _bin(seconds: int) -> _Value:
    def start(row: Row) -> str | None:
        at = row.get("@timestamp")
        if at is None:
            return None
        moment = datetime.fromisoformat(at).astimezone(UTC)
        whole = moment - timedelta(seconds=moment.timestamp() % seconds)
        return whole.strftime("%Y-%m-%d %H:%M:%S")

    return start


def _order(value: Any) -> tuple[int, Any]:  # noqa: ANN401
    """Numbers after everything else; what is missing comes first."""
    if value is None:
        return 0, ""
    return (2, value) if isinstance(value, int | Decimal) else (1, str(value))


# --- the language ------------------------------------------------------------------------------------------------


@dataclass
class _Parser:
    text: str
    tokens: list[tuple[str, str]] = field(init=False)
    names: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    """Names that the query itself gives."""

    def __post_init__(self) -> None:
        self.tokens, at = [], 0
        text = _COMMENT.sub("", self.text).rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise QueryError(f"not understood: {text[at : at + 30]!r}")
            self.tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            at = found.end()

    def query(self) -> Query:
        steps, columns = [], None
        while True:
            command = self.expect("name")
            if command not in _COMMANDS:
                raise QueryError(f"{command} isn't one of {', '.join(_COMMANDS)}")
            step, shown = getattr(self, f"_{command}")()
            steps.append(step)
            columns = shown or columns
            if not self.tokens:
                return Query(tuple(steps), frozenset(self.names), frozenset(self.values), columns)
            self.expect("sign", "|")

    # Each command: what it does to the rows, and the columns that it leaves, if it chooses them.

    def _fields(self) -> tuple[_Step, tuple[str, ...]]:
        items = [self.named() for _ in self.listed()]

        def step(rows: Iterable[Row]) -> Iterable[Row]:
            return (row | {name: value(row) for name, value in items if value(row) is not None} for row in rows)

        return step, tuple(name for name, _ in items)

    def _filter(self) -> tuple[_Step, None]:
        holds = self.condition()
        return (lambda rows: (row for row in rows if holds(row))), None

    def _stats(self) -> tuple[_Step, tuple[str, ...]]:
        columns = [self.aggregate() for _ in self.listed()]
        groups = [self.named() for _ in self.listed()] if self.took("name", "by") else []
        self.defined |= {name for name, _ in groups} | {column.name for column in columns}
        return _stats(columns, groups), (*(name for name, _ in groups), *(column.name for column in columns))

    def _sort(self) -> tuple[_Step, None]:
        value = self.value()
        descending = self.took("name", "desc")
        if not descending:
            self.took("name", "asc")
        return (lambda rows: sorted(rows, key=lambda row: _order(value(row)), reverse=descending)), None

    def _limit(self) -> tuple[_Step, None]:
        most = int(self.expect("number"))
        return (lambda rows: islice(rows, most)), None

    # What commands are made of.

    def aggregate(self) -> _Aggregate:
        called = self.expect("name")
        if called not in _AGGREGATES:
            raise QueryError(f"{called} isn't one of {', '.join(_AGGREGATES)}")
        self.expect("sign", "(")
        shown = "*" if self.took("sign", "*") else None
        value: _Value = (lambda row: row) if shown else self.value()
        arguments = (Decimal(self.expect("number")),) if self.took("sign", ",") else ()
        self.expect("sign", ")")
        self.expect("name", "as")
        return _Aggregate(self.expect("name"), value, _AGGREGATES[called], arguments)

    def named(self) -> tuple[str, _Value]:
        name = self.tokens[0][1] if self.tokens else ""
        value = self.value()
        if name == "bin" or self.tokens[:1] == [("name", "as")]:
            self.expect("name", "as")  # the cloud can't refer to a bin again without a name
            name = self.expect("name")
            self.defined.add(name)
        return name, value

    def condition(self) -> Callable[[Row], bool]:
        either = [self.conjunction()]
        while self.took("name", "or"):
            either.append(self.conjunction())
        return lambda row: any(each(row) for each in either)

    def conjunction(self) -> Callable[[Row], bool]:
        both = [self.comparison()]
        while self.took("name", "and"):
            both.append(self.comparison())
        return lambda row: all(each(row) for each in both)

    def comparison(self) -> Callable[[Row], bool]:
        if self.took("name", "not"):
            inner = self.comparison()
            return lambda row: not inner(row)
        if self.took("sign", "("):
            inner = self.condition()
            self.expect("sign", ")")
            return inner
        value = self.value()
        if self.took("name", "in"):
            self.expect("sign", "[")
            among = [self.literal() for _ in self.listed()]
            self.expect("sign", "]")
            return lambda row: value(row) in among
        unlike = self.took("name", "not")
        if unlike:
            self.expect("name", "like")
        if unlike or self.took("name", "like"):
            pattern = self.pattern()
            return lambda row: (pattern.search(str(value(row) or "")) is None) is unlike
        compare = _COMPARISONS.get(self.tokens[0][1] if self.tokens else "")
        if compare is None:
            raise QueryError(f"a comparison is missing before {self.rest()!r}")
        self.expect("sign")
        other = self.literal()
        return lambda row: (found := value(row)) is not None and compare(found, other)

    def value(self) -> _Value:
        name = self.expect("name")
        if name == "bin" and self.took("sign", "("):
            period = self.expect("period")
            self.expect("sign", ")")
            if period[-1] not in _SECONDS or period.endswith("ms"):
                raise QueryError(f"bins are of s, m, h or d, not {period}")
            return _bin(int(period[:-1]) * _SECONDS[period[-1]])
        if name not in self.defined:
            self.names.add(name)
        return lambda row: row.get(name)

    def literal(self) -> str | Decimal:
        if self.tokens and self.tokens[0][0] == "number":
            return Decimal(self.expect("number"))
        text = self.expect("string")[1:-1]
        self.values.add(text)
        return text

    def pattern(self) -> re.Pattern[str]:
        if self.tokens and self.tokens[0][0] == "pattern":
            return re.compile(self.expect("pattern")[1:-1])
        return re.compile(re.escape(self.expect("string")[1:-1]))

    # Tokens.

    def listed(self) -> Iterator[None]:
        """Once for each item of a list with commas."""
        yield
        while self.took("sign", ","):
            yield

    def took(self, kind: str, text: str) -> bool:
        """Whether the next token is this one; if so, it is gone."""
        if self.tokens[:1] != [(kind, text)]:
            return False
        del self.tokens[0]
        return True

    def expect(self, kind: str, text: str | None = None) -> str:
        if not self.tokens or self.tokens[0][0] != kind or text not in (None, self.tokens[0][1]):
            raise QueryError(f"{text or f'a {kind}'} is missing before {self.rest()!r}")
        return self.tokens.pop(0)[1]

    def rest(self) -> str:
        return " ".join(text for _, text in self.tokens[:6])
