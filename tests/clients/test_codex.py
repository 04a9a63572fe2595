"""OpenAI's Codex, `codex exec`, with its default tools: several turns that edit a file, and whatever goes wrong."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import upstream as vendor
from tests.support.clients import ANSWER, DEAR, RIGHT, TASK, needs_clients, refused, run_codex
from tests.support.formats import Setting, calls

needs_clients()

_PATCH: Final = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"
_LOOK: Final = ("call_1", "exec_command", '{"cmd": "cat calc.py"}')
MODELS: dict[str, list[tuple[str, str, str]]] = {
    # A model that Codex doesn't know has functions only, and those of agents in a namespace.
    "openai/m": [_LOOK, ("call_2", "exec_command", '{"cmd": "sed -i s/-/+/ calc.py"}')],
    # Codex knows a model by how its name begins. These have no price of OpenAI's, so that the gateway's is one.
    # Here apply_patch is a custom tool with a grammar.
    "openai/gpt-5.5-scripted": [_LOOK, ("call_2", "apply_patch", json.dumps({"input": _PATCH}))],
    # Codex sends its tools among the input, and one of them runs JavaScript that calls the others.
    "openai/gpt-5.6-sol-scripted": [
        ("call_1", "exec", json.dumps({"input": 'text(await tools.exec_command({cmd: "cat calc.py"}));'})),
        ("call_2", "exec", json.dumps({"input": f"text(await tools.apply_patch({json.dumps(_PATCH)}));"})),
        ("call_3", "collaboration__list_agents", "{}"),
    ],
}
_DICTIONARY: Final = Path(__file__).parent / "programs" / "dictionary.py"


@pytest.mark.parametrize("model", MODELS)
def test_it_edits_a_file_over_several_turns(setting: Setting, folder: Path, model: str) -> None:
    turns = MODELS[model]
    setting.upstream.script.extend(calls(turn) for turn in turns)
    answers = len(setting.gateway.events("router.success"))
    assert ANSWER in run_codex(TASK, folder=folder, setting=setting, model=model)
    assert (folder / "calc.py").read_text() == RIGHT

    requests = setting.upstream.requests
    assert len(requests) == len(turns) + 1
    assert all(request["stream"] for request in requests)
    # Each call is there again as the vendor made it, and its result after it.
    for call_id, name, arguments in turns:
        [called] = [call for call in _calls(requests[-1]) if call["id"] == call_id]
        assert called["function"]["name"] == name
        assert json.loads(called["function"]["arguments"]) == json.loads(arguments)
        [result] = [message for message in requests[-1]["messages"] if message.get("tool_call_id") == call_id]
        assert "return a - b" in str(result["content"]) or call_id != "call_1"
    for line in setting.gateway.events("router.success")[answers:]:
        assert "client_metadata" in line["dropped"]


def test_it_goes_on_with_an_earlier_conversation(setting: Setting, folder: Path) -> None:
    setting.upstream.script.append(calls(_LOOK))
    run_codex(TASK, folder=folder, setting=setting, model="openai/gpt-5.5-scripted")
    run_codex("And now?", "resume", "--last", folder=folder, setting=setting, model="openai/gpt-5.5-scripted")
    last = setting.upstream.requests[-1]["messages"]
    assert [message["role"] for message in last[-5:]] == ["user", "assistant", "tool", "assistant", "user"]
    assert last[-1]["content"] == "And now?"


def test_it_finds_a_tool_and_calls_it(setting: Setting, folder: Path) -> None:
    setting.upstream.script.extend(
        [
            calls(("call_1", "tool_search", '{"query": "look up a word"}')),
            calls(("call_2", "mcp__words__look_up", '{"word": "cat"}')),
        ]
    )
    server = f'mcp_servers.words={{command="{sys.executable}",args=["{_DICTIONARY}"]}}'
    run_codex("What is a cat?", "-c", server, folder=folder, setting=setting, model="openai/gpt-5.5-scripted")
    first, second, third = setting.upstream.requests
    assert "mcp__words__look_up" not in _names(first)
    assert "mcp__words__look_up" in _names(second)
    assert "cat: a small animal" in str(third["messages"][-1]["content"])


def test_an_image_that_a_tool_shows(setting: Setting, folder: Path) -> None:
    pixel = (
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100"
        "18dd8db00000000049454e44ae426082"
    )
    (folder / "a.png").write_bytes(bytes.fromhex(pixel))
    setting.upstream.script.append(calls(("call_1", "view_image", '{"path": "a.png"}')))
    run_codex("Look at a.png", folder=folder, setting=setting, model="openai/gpt-5.5-scripted")
    [image] = setting.upstream.requests[-1]["messages"][-1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")


def test_it_compacts_a_long_conversation(setting: Setting, folder: Path) -> None:
    setting.upstream.script.append(calls(_LOOK))
    limit = ("-c", "model_auto_compact_token_limit=1000")
    assert ANSWER in run_codex(TASK, *limit, folder=folder, setting=setting, model="openai/m")
    assert not _names(setting.upstream.requests[1])
    assert len(setting.upstream.requests) == 3


def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path) -> None:
    before = refused(setting)
    printed = run_codex(TASK, folder=folder, setting=setting, model=DEAR, status=1)
    assert refused(setting) == before + 1
    assert "The month's budget can't take this call" in printed
    assert not setting.upstream.requests


def test_a_stream_that_breaks_is_asked_for_again(setting: Setting, folder: Path) -> None:
    setting.upstream.script.append(vendor.cut_stream(1))
    assert ANSWER in run_codex(TASK, folder=folder, setting=setting, model="openai/m")
    assert len(setting.upstream.requests) == 2


def _calls(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for message in request["messages"] for call in message.get("tool_calls") or ()]


def _names(request: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in request.get("tools") or ()]
