"""A pytest plugin that breaks one rule for the whole run, and notes how each test went.

`FUSEWIRE_MUTATION` names the mutation, and is empty for a run with nothing broken; `FUSEWIRE_MUTATION_REPORT` is the
file for a JSON list of [test, phase, the exception's type or null]. Loaded with `-p`, so before any test is imported.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusewire.store import migrate as migrations
from tests.support.mutations import Mutation, break_function, break_module
from tests.support.mutations.catalogue import MUTATIONS

_phases: list[tuple[str, str, str | None]] = []


def _break(mutation: Mutation) -> None:
    if not mutation.in_database:
        break_module(mutation)
        return
    migrate = migrations.migrate

    def migrate_and_break(database_url: str) -> list[str]:
        applied = migrate(database_url)
        break_function(mutation, database_url)
        return applied

    migrations.migrate = migrate_and_break


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    _phases.append((item.nodeid, call.when, type(call.excinfo.value).__name__ if call.excinfo else None))
    return (yield)


def pytest_sessionfinish() -> None:
    Path(os.environ["FUSEWIRE_MUTATION_REPORT"]).write_text(json.dumps(_phases), encoding="utf-8")


if name := os.environ["FUSEWIRE_MUTATION"]:
    _break(next(mutation for mutation in MUTATIONS if mutation.name == name))
