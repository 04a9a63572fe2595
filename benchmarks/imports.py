"""`python -m benchmarks.imports`: what a cold start imports, beside LiteLLM, all in one run.

Each subject is imported in fresh processes, one after the other in turn, so that the machine's noise hits all alike.
Counted are processor time, which others on the machine disturb little, and modules. Results go to
`benchmarks/results/imports.json` and, to be read, `imports.md`; LiteLLM's environment is kept in `.fusewire-bench/`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to import."""

    name: str
    python: Path
    statement: str
    bytecode: bool = True
    """False: every module is compiled as it is imported, as in a layer without `.pyc` files."""


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


def sample(subject: Subject) -> Sample:
    """Import it in a process of its own.

    :raises BenchmarkError: when it can't be
    """
    with tempfile.TemporaryDirectory() as empty:
        flags = [] if subject.bytecode else ["-B", "-X", f"pycache_prefix={empty}"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        run = subprocess.run(  # noqa: S603 - our own arguments
            [str(subject.python), *flags, "-c", _PROGRAM, subject.statement],
            env=kept | _VARIABLES | {"PYTHONPATH": str(ROOT / "layers" / "core" / "python")},
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


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description="What a cold start imports.")
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes of each (default: 7)")
    rounds = parser.parse_args().rounds
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
