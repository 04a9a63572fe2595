"""`python -m benchmarks.imports`: what a cold start imports, beside LiteLLM, all in one run.

Each subject is imported in fresh processes, one after the other in turn, so that the machine's noise hits all alike.
Counted are processor time, which others on the machine disturb little, and modules. Results go to
`benchmarks/results/imports.json` and, to be read, `imports.md`; LiteLLM's environment is kept in `.fusewire-bench/`.

`--beside CHECKOUT` prints the functions beside those of another checkout instead, on the same packages, with nothing
configured but what every function on AWS has.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import BenchmarkError, machine
from benchmarks.environment import ready_environment, site_packages, version
from benchmarks.peers import ROOT

_WORK: Final = ROOT / ".fusewire-bench"
_RESULTS: Final = ROOT / "benchmarks" / "results"
_REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements" / "litellm.txt"
_PROGRAM: Final = """
import sys, time
before, began = len(sys.modules), time.process_time()
exec(sys.argv[1])
print(round((time.process_time() - began) * 1000, 1), len(sys.modules) - before)
"""
_FUNCTION: Final = "import runpy; runpy.run_path({path!r})"
# The settings of a function on AWS; nothing that they name is called.
_VARIABLES: Final = {
    "AUTH_MODE": "open",
    "DATABASE_URL": "postgresql://127.0.0.1:1/nowhere",
    "OPENAI_API_KEY": "k",
    "OPENAI_SOTA_MODEL": "gpt-4o",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its price list from the wheel: an import that asks nobody
}
_ON_AWS: Final = {
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_FUNCTION_NAME": "fusewire",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_REGION": "eu-central-1",
    "LAMBDA_TASK_ROOT": "/var/task",
}
"""What Lambda itself sets."""
_PAUSED: Final = "import gc; gc.disable(); "
"""As `fusewire.runtime` imports a function."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to import."""

    name: str
    python: Path
    statement: str
    bytecode: bool = True
    """False: every module is compiled as it is imported, as in a layer without `.pyc` files."""
    layer: Path = ROOT / "layers" / "core" / "python"
    variables: Mapping[str, str] = field(default_factory=lambda: _VARIABLES)


@dataclass(frozen=True, slots=True)
class Sample:
    """One import: processor time in milliseconds, and the modules that it brought."""

    milliseconds: float
    modules: int


def subjects(litellm: Path) -> list[Subject]:
    """Each function, one of them with less and with more, and LiteLLM by its own `python`."""
    ours = Path(sys.executable)
    functions = {file.parent.name: file for file in sorted((ROOT / "functions").glob("*/app.py"))}
    complete = _FUNCTION.format(path=str(functions["complete"]))
    return [
        *(Subject(name, ours, _FUNCTION.format(path=str(file))) for name, file in functions.items()),
        Subject("complete, without bytecode", ours, complete, bytecode=False),
        Subject("complete and openai", ours, f"{complete}; import openai"),
        Subject("complete and anthropic", ours, f"{complete}; import anthropic"),
        Subject("complete and boto3", ours, f"{complete}; import boto3; boto3.client('bedrock-runtime', 'us-east-1')"),
        Subject("complete and all three", ours, f"{complete}; import openai, anthropic, boto3"),
        Subject("litellm", litellm, "import litellm"),
        Subject("litellm's proxy", litellm, "import litellm.proxy.proxy_server"),
    ]


def beside(before: Path) -> list[Subject]:
    """Of each function that this checkout has, named alike: that of the checkout `before`, ours, and ours as
    `fusewire.runtime` imports it.

    :raises BenchmarkError: when `before` lacks one
    """
    found = []
    for file in sorted((ROOT / "functions").glob("*/app.py")):
        there = before / file.relative_to(ROOT)
        if not there.is_file():
            raise BenchmarkError(f"{before} has no {file.relative_to(ROOT)}.")
        for root, path, first in ((before, there, ""), (ROOT, file, ""), (ROOT, file, _PAUSED)):
            statement = first + _FUNCTION.format(path=str(path))
            layer = root / "layers" / "core" / "python"
            found.append(Subject(file.parent.name, Path(sys.executable), statement, layer=layer, variables=_ON_AWS))
    return found


def compared(each: Sequence[Subject], found: Sequence[Sequence[Sample]]) -> str:
    """What `beside` found, a row a function. Of the rounds the least counts: others only add to processor time."""
    rows = [
        "| | modules before | now | ms before | now | now, with the collector paused |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for place in range(0, len(each), 3):
        least = [min(one.milliseconds for one in samples) for samples in found[place : place + 3]]
        before, now = found[place][0].modules, found[place + 1][0].modules
        rows.append(f"| `{each[place].name}` | {before} | {now} | {' | '.join(f'{ms:.0f}' for ms in least)} |")
    return "\n".join(rows)


def sample(subject: Subject) -> Sample:
    """Import it in a process of its own.

    :raises BenchmarkError: when it can't be
    """
    with tempfile.TemporaryDirectory() as empty:
        flags = [] if subject.bytecode else ["-B", "-X", f"pycache_prefix={empty}"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        run = subprocess.run(  # noqa: S603 - our own arguments
            [str(subject.python), *flags, "-c", _PROGRAM, subject.statement],
            env=kept | dict(subject.variables) | {"PYTHONPATH": str(subject.layer)},
            cwd=empty, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if run.returncode:
        raise BenchmarkError(f"{subject.name} can't be imported: {run.stderr.strip().splitlines()[-1:]}")
    milliseconds, modules = run.stdout.split()[-2:]
    return Sample(float(milliseconds), int(modules))


def medians(found: Sequence[Sample]) -> Sample:
    """Of the rounds of one subject."""
    return Sample(round(statistics.median(one.milliseconds for one in found)), found[0].modules)


def page(run: dict[str, Any]) -> str:
    """The run to be read; `run` is what `main` writes."""
    samples = {name: Sample(**one) for name, one in run["imports"].items()}
    base, peer = samples["complete"], samples["litellm's proxy"]
    head = ("", "ms of processor", "of complete's", "modules")
    rows = [head, ("---", *["---:"] * (len(head) - 1))]
    rows += [
        (name, f"{one.milliseconds:.0f}", f"{one.milliseconds / base.milliseconds:.2f}", str(one.modules))
        for name, one in samples.items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    where = run["machine"]
    return "\n".join(
        [
            "# Imports of a cold start",
            "",
            f"{run['date']}, commit {run['commit']}. {where['cores']} cores ({where['processor']}), {where['system']}; "
            f"{versions}. The median of {run['rounds']} fresh processes each, in turn, with warm files.",
            "",
            f"complete takes {100 * base.milliseconds / peer.milliseconds:.0f} % of the processor time that LiteLLM's "
            f"proxy takes to be imported, and {base.modules} modules to its {peer.modules}.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


def _print_beside(before: Path, rounds: int) -> int:
    try:
        each = beside(before)
        for subject in each:
            sample(subject)  # as below
        turns = [[sample(subject) for subject in each] for _ in range(rounds)]
    except BenchmarkError as error:
        sys.stderr.write(f"The benchmark is void. {error}\n")
        return 1
    sys.stdout.write(f"{compared(each, list(zip(*turns, strict=True)))}\n")
    return 0


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description="What a cold start imports.")
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes of each (default: 7)")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="compare the functions with its")
    options = parser.parse_args()
    rounds = options.rounds
    if options.beside is not None:
        return _print_beside(options.beside.resolve(), rounds)
    _WORK.mkdir(exist_ok=True)
    try:
        litellm = ready_environment(_REQUIREMENTS, _WORK)
        each = subjects(litellm)
        found: dict[str, list[Sample]] = {subject.name: [] for subject in each}
        for subject in each:
            sample(subject)  # reads the files, and writes bytecode where there is none yet
        for _ in range(rounds):
            for subject in each:
                found[subject.name].append(sample(subject))
    except BenchmarkError as error:
        sys.stderr.write(f"The benchmark is void. {error}\n")
        return 1
    run = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": machine.commit(),
        "machine": machine.described(),
        "versions": {
            "Python": platform.python_version(),
            "litellm": version(site_packages(litellm), "litellm"),
        },
        "rounds": rounds,
        "imports": {name: asdict(medians(samples)) for name, samples in found.items()},
    }
    text = page(run)
    (_RESULTS / "imports.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    (_RESULTS / "imports.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
