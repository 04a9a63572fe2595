"""Two runs at once would measure each other: the second is refused."""

from pathlib import Path

import pytest

from benchmarks import BenchmarkError, alone


def test_a_second_run_is_refused_until_the_first_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "WORK", tmp_path / "work")
    with alone.alone(), pytest.raises(BenchmarkError, match="Another run is under way"), alone.alone():
        pass
    with alone.alone():
        pass
