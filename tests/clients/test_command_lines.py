"""Agents on the command line: each reads and edits a file over several turns, by its own tools."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import ANSWER, DEAR, RIGHT, TASK, by_turns, needs_clients, refused, says
from tests.support.command_lines import (
    OPENCODE_WITHOUT_TITLES,
    Run,
    run_aider,
    run_cline,
    run_llm,
    run_opencode,
    run_pi,
)
from tests.support.formats import Setting, calls
from tests.support.upstream import Reply

needs_clients()

_OLD, _NEW = "return a - b", "return a + b"


@dataclass(frozen=True)
class Agent:
    """One of them, and how it reads and edits `calc.py`."""

    run: Run
    look: tuple[str, Callable[[str], dict[str, Any]]]
    edit: tuple[str, Callable[[str], dict[str, Any]]]
    refused: int = 1
    """Its requests that a used-up budget refuses."""

    def turns(self, path: str) -> list[Reply]:
        made = [(name, json.dumps(arguments(path))) for name, arguments in (self.look, self.edit)]
        return [calls((f"call_{n}", *call), text="I look.") for n, call in enumerate(made, 1)]


_OF_LLM = (
    ("read_file", lambda path: {"path": path}),
    ("write_file", lambda path: {"path": path, "text": RIGHT}),
)
_OF_OPENCODE = (
    ("read", lambda path: {"filePath": path}),
    ("edit", lambda path: {"filePath": path, "oldString": _OLD, "newString": _NEW}),
)
_OF_CLINE = (
    ("read_files", lambda path: {"files": [{"path": path}]}),
    ("editor", lambda path: {"path": path, "old_text": _OLD, "new_text": _NEW}),
)
_OF_PI = (
    ("read", lambda path: {"path": path}),
    ("edit", lambda path: {"path": path, "edits": [{"oldText": _OLD, "newText": _NEW}]}),
)
AGENTS = {
    "llm": Agent(run_llm, *_OF_LLM),
    "llm over Responses": Agent(partial(run_llm, more=", responses: true"), *_OF_LLM),
    # It asks for a title at the same time, whatever becomes of the other request.
    "opencode": Agent(run_opencode, *_OF_OPENCODE, refused=2),
    "opencode over Responses": Agent(partial(run_opencode, sdk="openai"), *_OF_OPENCODE, refused=2),
    "opencode over Messages": Agent(partial(run_opencode, sdk="anthropic"), *_OF_OPENCODE, refused=2),
    "cline": Agent(run_cline, *_OF_CLINE),
    "pi": Agent(run_pi, *_OF_PI),
    "pi over Responses": Agent(partial(run_pi, api="openai-responses"), *_OF_PI),
    "pi over Messages": Agent(partial(run_pi, api="anthropic-messages"), *_OF_PI),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_it_edits_a_file_over_several_turns(setting: Setting, folder: Path, agent: str) -> None:
    turns = AGENTS[agent].turns(str(folder / "calc.py"))
    setting.upstream.otherwise = by_turns(*turns)
    assert ANSWER in AGENTS[agent].run(TASK, folder, setting, "openai/m", 0)
    assert (folder / "calc.py").read_text() == RIGHT
    requests = [request for request in setting.upstream.requests if request.get("tools")]
    assert [request["stream"] for request in requests] == [True] * 3
    # Each call is there again as the vendor made it, and its result after it.
    last = requests[-1]["messages"]
    assert [message["role"] for message in last[-4:]] == ["assistant", "tool", "assistant", "tool"]
    assert [call["id"] for message in last for call in message.get("tool_calls") or ()] == ["call_1", "call_2"]
    assert _OLD in str(last[-3]["content"])


@pytest.mark.parametrize("agent", AGENTS)
def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path, agent: str) -> None:
    before = refused(setting)
    printed = AGENTS[agent].run(TASK, folder, setting, DEAR, 1)
    assert "The month's budget can't take this call" in printed
    assert refused(setting) == before + AGENTS[agent].refused
    assert not setting.upstream.requests


@pytest.mark.parametrize(
    "run", [partial(run_opencode, more=OPENCODE_WITHOUT_TITLES), partial(run_opencode, arguments=("--title", "Fix"))],
    ids=["by its settings", "by its argument"],
)  # fmt: skip
def test_opencode_without_titles_asks_once(setting: Setting, folder: Path, run: Run) -> None:
    before = refused(setting)
    assert "The month's budget can't take this call" in run(TASK, folder, setting, DEAR, 1)
    assert refused(setting) == before + 1


def _block(old: str) -> Reply:
    return says("calc.py\n```python\n<<<<<<< SEARCH\n", f"    {old}\n=======\n    {_NEW}\n>>>>>>> REPLACE\n```\n")


def test_aider_edits_a_file_at_its_second_try(setting: Setting, folder: Path) -> None:
    setting.upstream.script.extend([_block("return b - a"), _block(_OLD)])
    printed = run_aider(TASK, folder, setting, "openai/m")
    assert "Applied edit to calc.py" in printed
    assert (folder / "calc.py").read_text() == RIGHT
    assert [request["stream"] for request in setting.upstream.requests] == [True, True]
    assert "failed to match" in setting.upstream.requests[-1]["messages"][-1]["content"]


def test_a_used_up_budget_ends_aider_at_once(setting: Setting, folder: Path) -> None:
    before = refused(setting)
    printed = " ".join(run_aider(TASK, folder, setting, DEAR).split())
    assert "The month's budget can't take this call" in printed
    assert "Retrying in" not in printed
    assert refused(setting) == before + 1
    assert not setting.upstream.requests
