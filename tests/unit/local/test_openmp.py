"""llama.cpp's runtime: the machine's own, else the wheel's, said to that process alone."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.openmp import with_openmp


@pytest.fixture
def without_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no libgomp.so.1."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)


@pytest.mark.usefixtures("without_its_own")
def test_without_one_the_wheels_is_found_by_the_loader() -> None:
    variables = with_openmp(os.environ)
    folder = Path(variables["LD_LIBRARY_PATH"].rpartition(":")[2])
    assert (folder / "libgomp.so.1").is_file()
    # What llama.cpp calls, under the names and versions that it was linked with.
    program = """if True:
        import ctypes, pathlib
        ctypes.CDLL("libgomp.so.1").GOMP_parallel
        import xllamacpp
        maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
        print({line.split()[-1] for line in maps if "gomp" in line})
    """
    output = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)  # noqa: S603
    assert output.stdout == f"{ {str((folder / 'libgomp.so.1').resolve())} }\n"


@pytest.mark.usefixtures("without_its_own")
def test_a_users_own_folders_come_first() -> None:
    assert with_openmp({"LD_LIBRARY_PATH": "/opt/lib"})["LD_LIBRARY_PATH"].startswith("/opt/lib:/")


def test_a_machine_that_has_one_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert with_openmp({"PATH": "/bin"}) == {"PATH": "/bin"}
