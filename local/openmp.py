"""The OpenMP runtime that llama.cpp's wheel needs and doesn't bring: the machine's own, else LLVM's from a wheel."""

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LIBRARY: Final = "libgomp.so.1"
_PLACE: Final = "cmeel.prefix/lib"
_SEARCHED: Final = "LD_LIBRARY_PATH"


def with_openmp(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that loads llama.cpp: the loader finds the wheel's runtime if there is no other."""
    variables = dict(environ)
    folder = _folder_of_the_wheel()
    if folder is not None and not _on_this_machine():
        before = variables.get(_SEARCHED)
        variables[_SEARCHED] = f"{before}:{folder}" if before else str(folder)
    return variables


def _on_this_machine() -> bool:
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _folder_of_the_wheel() -> Path | None:
    for entry in sys.path:
        if (folder := Path(entry, _PLACE)).joinpath(_LIBRARY).is_file():
            return folder.absolute()
    return None
