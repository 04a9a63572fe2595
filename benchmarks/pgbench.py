"""The ledger's two statements by hand: pgbench, which comes with the Postgres wheel, in the place of our own client.

Its arguments are those that our `Ledger` sends, to the last letter but for the ids: Postgres makes these as it goes
(`uuidv7()`), so that no round trip is added. Protocol and commits are ours too: extended, unprepared, each statement a
transaction of its own.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import BenchmarkError
from fusewire.json import dumps
from local.backup import binary

SCRIPT: Final = """\
WITH made AS MATERIALIZED (SELECT uuidv7() AS id)
SELECT made.id, ledger_reserve(format(:reserve, made.id)::jsonb) FROM made \\gset
SELECT ledger_settle(format(:end, :id::text)::jsonb);
"""
"""The arguments are variables: within the text, pgbench would take what follows a colon for one."""

GROUPED: Final = """\
WITH made AS MATERIALIZED (SELECT uuidv7() AS id FROM generate_series(1, {calls})),
asked AS (SELECT string_agg(id::text, ',') AS ids, jsonb_agg(format(:reserve, id)::jsonb) AS each FROM made)
SELECT ids, ledger_group(jsonb_build_object('settings', each->0->'settings', 'calls',
    (SELECT jsonb_agg(jsonb_build_object('reserve', one - 'settings')) FROM jsonb_array_elements(each) one)))
FROM asked \\gset
WITH asked AS (SELECT jsonb_agg(format(:end, id)::jsonb) AS each FROM string_to_table(:ids, ',') id)
SELECT ledger_group(jsonb_build_object('settings', each->0->'settings', 'calls',
    (SELECT jsonb_agg(jsonb_build_object('settle', one - 'settings')) FROM jsonb_array_elements(each) one)))
FROM asked;
"""
"""The same for several calls at a time, each statement of all of them one transaction (`functions/groups.sql`)."""

_RATE: Final = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)$", re.MULTILINE)
_FAILED: Final = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


def template(argument: Mapping[str, object], entry_id: str) -> str:
    """An argument of the ledger's functions as Postgres' `format` takes it, with its place for the id.

    :param entry_id: the id in it; it stands for the request's id as well
    :raises BenchmarkError: when it isn't there
    """
    text = dumps(argument)
    if entry_id not in text:
        raise BenchmarkError("The argument to be repeated doesn't hold its id.")
    return text.replace("%", "%%").replace(entry_id, "%1$s")


def calls_per_second(
    url: str,
    templates: Mapping[str, str],
    *,
    sessions: int,
    seconds: float,
    folder: Path,
    commits: bool = True,
    together: int = 1,
) -> float:
    """What so many sessions get done, each one call (both statements) at a time.

    :param templates: `reserve` and `end`
    :param commits: False: without waiting for the disk, to tell what that takes
    :param together: or so many calls
    :raises BenchmarkError: when pgbench fails, or any of its calls
    """
    script = folder / "calls.sql"
    script.write_text(SCRIPT if together == 1 else GROUPED.replace("{calls}", str(together)), encoding="utf-8")
    command = [str(binary("pgbench")), "--no-vacuum", "--protocol=extended", f"--client={sessions}"]
    command += [f"--jobs={min(sessions, os.cpu_count() or 1)}", f"--time={seconds:g}", f"--file={script}"]
    command += [f"--define={name}={text}" for name, text in templates.items()]
    waits = {} if commits else {"PGOPTIONS": "-c synchronous_commit=off"}
    done = subprocess.run(  # noqa: S603 - our own arguments
        [*command, url], env=os.environ | waits, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"pgbench failed: {done.stderr.strip()[-500:]}")
    return rate(done.stdout) * together


def rate(output: str) -> float:
    """The transactions a second in what pgbench prints. :raises BenchmarkError: when there are none, or some failed"""
    found, failed = _RATE.search(output), _FAILED.search(output)
    if found is None or (failed is not None and int(failed[1])):
        raise BenchmarkError(f"pgbench printed no clean rate:\n{output}")
    return float(found[1])
