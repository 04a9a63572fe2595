"""`make logs`: the saved queries of infra/template.yaml, answered from a log on this machine."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from local.insights import Row, parse
from local.template import saved_queries

_TEMPLATE: Final = Path(__file__).resolve().parents[1] / "infra" / "template.yaml"
_PLACE: Final = "REQUEST_ID"


def main(arguments: Sequence[str]) -> int:
    """`[name [log [request id]]]`; without a log, or with "-", standard input.

    :return: the exit status
    """
    name, log, request_id = (*arguments, "", "", "")[:3]
    queries = saved_queries(_TEMPLATE)
    if name not in queries:
        if name:
            sys.stderr.write(f"There is no question called {name}. Those that there are:\n")
        _print((each, text.partition("\n")[0].removeprefix("# ")) for each, text in queries.items())
        return 2 if name else 0
    text = queries[name]
    if _PLACE in text.partition("\n")[2] and not request_id:
        sys.stderr.write(f"Which request? make -s logs Q={name} LOG=fusewire.log ID=<its x-request-id>\n")
        return 2
    query = parse(text.replace(f'"{_PLACE}"', f'"{request_id}"'))
    try:
        with nullcontext(sys.stdin) if log in ("", "-") else open(log, encoding="utf-8", errors="replace") as lines:
            answer = query.run(lines)
    except OSError as error:
        sys.stderr.write(f"The log {log} can't be read ({error.strerror}).\n")
        return 1
    columns = query.columns or ("@message",)
    _print([columns, *([_shown(row, column) for column in columns] for row in answer)])
    return 0


def _shown(row: Row, column: str) -> str:
    value: Any = row.get(column)
    return "-" if value is None else format(value, "f") if hasattr(value, "as_tuple") else str(value)


def _print(rows: Iterable[Sequence[str]]) -> None:
    """In columns, each as wide as its widest cell."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        sys.stdout.write("  ".join(map(str.ljust, row, widths)).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
