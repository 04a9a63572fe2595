"""What `make docs` writes is what it would write now."""

from pathlib import Path
from typing import Final

import pytest

from scripts.docs.documents import made
from scripts.docs.samples import EVENTS

MADE: Final = made()


@pytest.mark.parametrize("file", MADE, ids=lambda file: file.name)
def test_what_is_made_is_up_to_date(file: Path) -> None:
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    assert MADE[file] == found, f"{file.name} is out of date: run `make docs`"


def test_every_sample_is_made_but_those_of_other_triggers() -> None:
    assert {*EVENTS.iterdir()} - {*MADE} == {
        EVENTS / f"{name}.json" for name in ("authorizer", "migrate", "monthly_reset")
    }
