"""Frameworks in Python: each has a loop of tools of its own, over one API or several."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import (
    ANSWER,
    DEAR,
    EMBEDDING,
    KNOWN,
    RIGHT,
    TASK,
    answer_or_object,
    needs_clients,
    openai_tokenizers,
    refused,
    run_python,
    script_the_fix,
)
from tests.support.formats import Setting, calls
from tests.support.upstream import Handler

needs_clients()


@dataclass(frozen=True)
class Program:
    """A program of `tests/clients/programs`."""

    file: str
    api: str
    environment: str = "openai-3"
    model: str = "openai/m"
    dear: str = DEAR
    tells_usage: bool = True

    def __str__(self) -> str:
        return f"{self.file}-{self.api}"

    def run(self, setting: Setting, folder: Path, model: str) -> dict[str, Any]:
        return run_python(
            self.file, model, TASK, self.api, folder=folder, setting=setting, environment=self.environment
        )


LOOPS = [
    Program("langchain_agent.py", "chat"),
    Program("langchain_agent.py", "responses"),
    Program("langchain_agent.py", "messages"),
    Program("pydantic_agent.py", "chat"),
    Program("pydantic_agent.py", "responses"),
    Program("pydantic_agent.py", "messages"),
    Program("litellm_agent.py", "chat"),
    Program("litellm_agent.py", "messages"),
    # LlamaIndex takes the names of OpenAI's models alone: the gateway has an alias.
    Program("llamaindex_agent.py", "chat", "openai-2", *KNOWN, tells_usage=False),
    Program("llamaindex_agent.py", "responses", "openai-2", *KNOWN, tells_usage=False),
    Program("strands_agent.py", "chat", "openai-2"),
    Program("strands_agent.py", "responses", "openai-2"),
    Program("strands_agent.py", "messages", "openai-2"),
]


@pytest.mark.parametrize("program", LOOPS, ids=str)
def test_it_edits_a_file_in_two_turns(setting: Setting, folder: Path, program: Program) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    result = program.run(setting, folder, program.model)
    assert (result.get("text"), result.get("second")) == (ANSWER, ANSWER), result
    assert result["pieces"] > 1
    assert (folder / "calc.py").read_text() == RIGHT
    *turns, last = setting.upstream.requests
    assert [bool(request.get("stream")) for request in turns[:3]] == [True] * 3
    # Both calls and their results are there again in the second turn.
    roles = [message["role"] for message in turns[3]["messages"]]
    assert roles[-6:] == ["assistant", "tool", "assistant", "tool", "assistant", "user"]
    assert result["object"] == {"city": "Paris"}
    assert "response_format" in last or last["tool_choice"] not in ("auto", "none")
    billed = setting.upstream.billed[first : first + 3]
    assert not program.tells_usage or tuple(result["tokens"]) == tuple(map(sum, zip(*billed, strict=True)))


@pytest.mark.parametrize("program", LOOPS, ids=str)
def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path, program: Program) -> None:
    before = refused(setting)
    result = program.run(setting, folder, program.dear)
    assert result["status"] == 402, result
    # LiteLLM quotes Anthropic's body as Python writes bytes.
    assert "The month's budget can't take this call" in result["error"].replace("\\", "")
    assert refused(setting) == before + 1
    assert not setting.upstream.requests


STEPS = ({"do": "read", "path": "calc.py"}, {"do": "write", "path": "calc.py", "text": RIGHT}, {"do": "stop"})


def test_instructor_edits_a_file_by_objects(setting: Setting, folder: Path) -> None:
    steps = iter(STEPS)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if not any("do" in tool["function"]["parameters"]["properties"] for tool in body.get("tools") or ()):
            answer_or_object(handler, body)
            return
        calls((f"call_{len(body['messages'])}", "Step", json.dumps(next(steps))))(handler, body)

    setting.upstream.otherwise = reply
    result = run_python(
        "instructor_objects.py", "openai/m", TASK, folder=folder, setting=setting, environment="openai-2"
    )
    assert result.get("cities") == ["Paris"] * 4, result
    assert (result["last"], result["steps"]) == ("Paris", ["read", "write", "stop"])
    assert result["pieces"] > 1
    assert (folder / "calc.py").read_text() == RIGHT
    assert [bool(request.get("stream")) for request in setting.upstream.requests] == [False] * 4 + [True] + [False] * 3


def test_a_used_up_budget_ends_instructor_at_once(setting: Setting, folder: Path) -> None:
    before = refused(setting)
    result = run_python("instructor_objects.py", DEAR, TASK, folder=folder, setting=setting, environment="openai-2")
    assert "The month's budget can't take this call" in result["error"].replace("\\", "")
    assert refused(setting) == before + 1
    assert not setting.upstream.requests


def test_llamaindexs_embeddings(setting: Setting, folder: Path) -> None:
    result = run_python("llamaindex_embeddings.py", EMBEDDING, folder=folder, setting=setting, environment="openai-2")
    assert result == {"vectors": [[0.5, -0.25]] * 2, "query": [0.5, -0.25]}
    assert [request["input"] for request in setting.upstream.requests] == [["Hello", "World"], ["Hello"]]


def test_langchains_embeddings_send_ids_of_tokens(setting: Setting, folder: Path) -> None:
    result = run_python(
        "langchain_embeddings.py",
        EMBEDDING,
        "default",
        folder=folder,
        setting=setting,
        TIKTOKEN_CACHE_DIR=str(openai_tokenizers()),
    )
    assert result == {"vectors": [[0.5, -0.25]] * 2, "query": [0.5, -0.25]}
    assert [request["input"] for request in setting.upstream.requests] == [[[9906], [10343]], [[9906]]]


def test_langchains_embeddings_are_told_how_to_send_text(setting: Setting, folder: Path) -> None:
    other = {"TIKTOKEN_CACHE_DIR": str(openai_tokenizers())}
    result = run_python("langchain_embeddings.py", "openai/bge-m3", "default", folder=folder, setting=setting, **other)
    assert result["status"] == 400, result
    assert "check_embedding_ctx_length=False" in result["error"]
    assert not setting.upstream.requests
    result = run_python("langchain_embeddings.py", "openai/bge-m3", "off", folder=folder, setting=setting, **other)
    assert result["vectors"] == [[0.5, -0.25]] * 2
    assert [request["input"] for request in setting.upstream.requests] == [["Hello", "World"], ["Hello"]]
