"""`make chaos` in short: what it prints is its verdict, and that is right."""

import os
import re
import subprocess
import sys
from decimal import Decimal

from tests.support.gateway import PROJECT

SHORT = ("--seconds", "8", "--callers", "8", "--workers", "3")


def test_after_everything_went_wrong_every_cent_is_found() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "layers/core/python")}
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "benchmarks.chaos", *SHORT],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("^RIGHT: ", done.stdout, re.MULTILINE)
    assert {"killed Postgres", "reset the budget"} <= set(done.stdout.split("\n"))
    # The last window is the one that was used up, and it was not passed.
    spent = Decimal(re.findall(r"^window .* <= booked ([\d.]+) <= budget 1000", done.stdout, re.MULTILINE)[-1])
    assert 750 < spent <= 1000
