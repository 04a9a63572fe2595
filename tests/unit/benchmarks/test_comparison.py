"""What a subject's starts are summed up to."""

from pathlib import Path

from benchmarks.comparison import Installations, _size, _Starts, empty
from benchmarks.node import Packages


def test_the_first_start_stands_alone() -> None:
    starts = _Starts([9.0, 2.0, 4.0, 3.0], [900.0, 20.0, 40.0, 30.0])
    assert starts.as_json() == {
        "first start to ready, s": 9.0,
        "start to ready, s": 3.0,
        "first call after a start, ms": 30.0,
    }


def test_an_empty_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "some" / "old").mkdir(parents=True)
    assert list(empty(tmp_path / "some").iterdir()) == []


def test_portkeys_size_is_its_packages(tmp_path: Path) -> None:
    (tmp_path / ".package-lock.json").write_text('{"packages": {"a": {}}}')
    (tmp_path / "a.js").write_bytes(b"x" * 200_000)
    places = Installations(Path("python"), Path("python"), Packages(Path("node"), tmp_path))
    assert _size("portkey", places) == {"installed, MB": 0.2, "installed, packages": 1}
