"""Statements of a test's own, through the product's connection."""

from collections.abc import Mapping
from typing import Any, LiteralString

from fusewire.store.db import Database, Statement


def ask(database: Database, sql: LiteralString, argument: Mapping[str, object]) -> Any:  # noqa: ANN401 - jsonb is anything
    """What `sql` returns for `$1::jsonb`, as `Database.call`."""
    return database.call(Statement[Mapping[str, object], Any](sql), argument)
