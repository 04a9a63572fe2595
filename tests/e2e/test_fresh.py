"""README on a machine that has just been made: minimal Debian 12, as an ordinary user. `make fresh` does all four."""

import pytest

from scripts import fresh


def test_readme_works_on_a_fresh_machine() -> None:
    if lacking := fresh.missing("12"):
        pytest.skip(lacking)
    outcome = fresh.tried("12", "user")
    assert outcome.trouble == []
    assert outcome.seconds > 0
    assert outcome.megabytes > 100
