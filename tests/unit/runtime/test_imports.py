"""The runtime is the first thing that a cold start imports: nothing but the standard library may come with it."""

import json
import subprocess
import sys
from pathlib import Path

_PYTHON = Path(__file__).resolve().parents[3] / "layers" / "core" / "python"
_PROGRAM = """
import json, sys
before = set(sys.modules)
import fusewire.runtime.__main__
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def test_it_needs_the_standard_library_only() -> None:
    output = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", _PROGRAM], env={"PYTHONPATH": str(_PYTHON)}, capture_output=True, text=True, check=True
    )
    assert set(json.loads(output.stdout)) - sys.stdlib_module_names == {"fusewire"}


def test_the_collector_is_paused_while_a_function_is_imported_and_skips_what_that_made(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import gc\npaused = not gc.isenabled()\ndef handler(event, context): ...\n")
    program = """
import gc
from fusewire.runtime.__main__ import _handler
handler = _handler("app.handler")
print(handler.__globals__["paused"], gc.isenabled(), gc.get_freeze_count() > 0)
"""
    output = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(_PYTHON), "LAMBDA_TASK_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.split() == ["True", "True", "True"]
