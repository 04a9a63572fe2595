"""What a terminal shows: tables for people, JSON for scripts. Money keeps every digit."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.api import dumps

_PIPED_WIDTH: Final = 10_000
_RIGHT: Final = ("_usd", "_tokens", "_ratio", "requests", "attempt", "attempts", "_left", "_minute")


def as_json(value: object) -> None:
    """One JSON document."""
    _out(dumps(value, indent=2))


def as_text(text: str) -> None:
    """As it is."""
    sys.stdout.write(text)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, total: Mapping[str, Any] | None = None) -> None:
    """A row for each mapping, with the columns that are named: `window.resets_at` is the window's.

    A terminal that is too narrow for that gets a line for each value instead.

    :param total: a last row, apart from the others
    """
    made = Table(box=box.SIMPLE_HEAD, show_footer=False, pad_edge=False)
    for column in columns:
        made.add_column(_text(column), justify="right" if column.endswith(_RIGHT) else "left")
    shown = list(rows)
    for row in shown:
        made.add_row(*(_text(cell(_found(row, column))) for column in columns))
    if total is not None:
        made.add_section()
        made.add_row(*(_text(cell(_found(total, column))) for column in columns))
    if _fits(made):
        _print(made)
    else:
        for row in [*shown, *([] if total is None else [total])]:
            _out("")
            facts(row, columns)
    if not shown:
        _out("(none)")


def facts(body: Mapping[str, Any], names: Sequence[str]) -> None:
    """A line for each of one thing's values."""
    made = Table(box=None, show_header=False, pad_edge=False)
    for name in names:
        made.add_row(_text(name), _text(cell(_found(body, name))))
    _print(made)


def lines(body: Mapping[str, Any], *, nested: Sequence[str], hidden: Sequence[str] = ()) -> Iterator[str]:
    """The names of all that the API says of one thing, in its order, for `facts`.

    :param nested: of which each part has a line
    :param hidden: which have none
    """
    for name, value in body.items():
        if name in nested and value is not None:
            yield from (f"{name}.{part}" for part in value)
        elif name not in hidden:
            yield name


def note(text: str) -> None:
    """A line for people, beside what scripts read."""
    sys.stderr.write(_clean(text) + "\n")


def cell(value: Any) -> str:  # noqa: ANN401 - JSON is anything
    """A value in a line: exact, without control characters that a terminal would obey."""
    match value:
        case None | [] | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return format(value, "f")
        case list():
            return ", ".join(map(cell, value))
        case dict():
            return ", ".join(f"{name}={cell(each)}" for name, each in value.items()) or "-"
    return _moment(str(value))


def _moment(text: str) -> str:
    """A time to the second, in its own offset; anything else as it is."""
    if len(text) < len("2026-11-25T09:00:00Z") or text[4:5] != "-":
        return _clean(text)
    try:
        return datetime.fromisoformat(text).isoformat(sep=" ", timespec="seconds")
    except ValueError:
        return _clean(text)


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _found(row: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(text: str) -> Text:
    """Text whose brackets are no markup."""
    return Text(text, overflow="fold")


def _fits(made: Table) -> bool:
    """Whether no cell would be folded."""
    console = _console()
    return console.measure(made, options=console.options.update_width(_PIPED_WIDTH)).maximum <= console.width


def _print(made: Table) -> None:
    _console().print(made)


def _console() -> Console:
    # Into a pipe nothing is folded: a line of the table is a line for grep.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False)


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")
