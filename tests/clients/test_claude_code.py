"""Claude Code, with its own tools: several turns that edit a file, a subagent, a search, a PDF, and its bill."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.anthropic_vendor import says
from tests.support.claude_code import CLAUDE, DEAR_CLAUDE, Claude, at_a_terminal, claude_gateway, pdf, run_claude
from tests.support.clients import RIGHT, TASK, needs_clients, refused
from tests.support.formats import calls

needs_clients()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, postgres: str, template: str) -> Iterator[Claude]:
    with claude_gateway(tmp_path_factory.mktemp("claude"), postgres, template) as claude:
        yield claude


@pytest.fixture
def claude(kept: Claude) -> Iterator[Claude]:
    for server in (kept.vendor, kept.setting.upstream):
        server.requests.clear()
    kept.vendor.paths.clear()
    yield kept
    for server in (kept.vendor, kept.setting.upstream):
        server.script.clear()
    kept.settle()
    kept.setting.books.forget_health()


def tool(name: str, number: int, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given}


def thought(said: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": said, "signature": signature}


def results(request: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = [block for turn in request["messages"] for block in turn["content"]]
    return [block for block in blocks if block["type"] == "tool_result"]


@pytest.mark.parametrize("model", ["sota", CLAUDE])
def test_it_edits_a_file_over_several_turns(claude: Claude, folder: Path, model: str) -> None:
    file = str(folder / "calc.py")
    redacted = {"type": "redacted_thinking", "data": "RXF6"}
    looks = [thought("I look first.", "c2lnbmVk"), {"type": "text", "text": "I look."}, tool("Read", 1, file_path=file)]
    edits = [
        redacted,
        thought("", "b21pdHRlZA=="),
        tool("Edit", 2, file_path=file, old_string="a - b", new_string="a + b"),
    ]
    claude.vendor.script.extend([says(*looks), says(*edits), says({"type": "text", "text": "Corrected."})])
    assert "Corrected." in run_claude(TASK, folder=folder, claude=claude, model=model)
    assert (folder / "calc.py").read_text() == RIGHT

    first, second, third = claude.vendor.requests
    assert {request["model"] for request in (first, second, third)} == {CLAUDE}
    assert all(request["stream"] for request in (first, second, third))
    # What Claude thought comes back as it was, and so does all that stood before it.
    assert third["messages"][-4]["content"] == looks
    assert third["messages"][-2]["content"] == [
        *edits[:2],
        edits[2] | {"input": edits[2]["input"] | {"replace_all": False}},
    ]
    for earlier, later in ((first, second), (second, third)):
        assert _unmarked(later["messages"])[: len(earlier["messages"])] == _unmarked(earlier["messages"])
        assert (later["system"], later["tools"]) == (earlier["system"], earlier["tools"])
    # Effort and thinking are what Claude Code asked for, and nothing else.
    assert (third["thinking"], "effort" in third["output_config"]) == ({"type": "adaptive", "display": "omitted"}, True)
    dropped = claude.setting.gateway.events("router.success")[-1]["dropped"]
    assert dropped == "context_management, system.x-anthropic-billing-header, anthropic-beta"


def _unmarked(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Without the marks of where a cache ends, which move on."""
    if isinstance(value, dict):
        return {name: _unmarked(each) for name, each in value.items() if name != "cache_control"}
    return [_unmarked(each) for each in value] if isinstance(value, list) else value


def test_another_vendors_model_edits_the_file(claude: Claude, folder: Path) -> None:
    file = str(folder / "calc.py")
    edit = json.dumps({"file_path": file, "old_string": "a - b", "new_string": "a + b"})
    claude.setting.upstream.script.extend(
        [calls(("call_1", "Read", json.dumps({"file_path": file})), text="I look."), calls(("call_2", "Edit", edit))]
    )
    assert "Paris." in run_claude(TASK, folder=folder, claude=claude, model="openai/m")
    assert (folder / "calc.py").read_text() == RIGHT
    assert len(claude.setting.upstream.requests) == 3
    assert not claude.vendor.requests


def test_a_conversation_goes_on_with_another_vendor_and_comes_back(claude: Claude, folder: Path) -> None:
    file = str(folder / "calc.py")
    looks = [thought("I look.", "c2lnbmVk"), tool("Read", 1, file_path=file)]
    claude.vendor.script.extend([says(*looks), says({"type": "text", "text": "Seen."})])
    run_claude(TASK, folder=folder, claude=claude, model=CLAUDE)
    run_claude("And now?", "--continue", folder=folder, claude=claude, model="openai/m")
    claude.vendor.script.append(says({"type": "text", "text": "Back."}))
    assert "Back." in run_claude("Really?", "--continue", folder=folder, claude=claude, model=CLAUDE)
    assert looks in [turn["content"] for turn in claude.vendor.requests[-1]["messages"]]


def test_a_subagent_works_for_it(claude: Claude, folder: Path) -> None:
    asks = tool("Agent", 1, description="check", prompt="Check calc.py", subagent_type="general-purpose")
    reads = tool("Read", 2, file_path=str(folder / "calc.py"))
    done = {"type": "text", "text": "Checked."}
    claude.vendor.script.extend([says(asks), says(reads), *[says(done)] * 4])
    assert "Checked." in run_claude("Have it checked", folder=folder, claude=claude, model="sota")
    of_agent = [r for r in claude.vendor.requests if "agent for Claude Code" in json.dumps(r["system"])]
    assert len(of_agent) >= 1
    assert claude.setting.gateway.events("router.all_failed") == []


def test_a_search_says_that_there_is_none(claude: Claude, folder: Path) -> None:
    """Claude Code has Anthropic's server search in a call of its own."""
    claude.vendor.script.extend(
        [
            says(tool("ToolSearch", 1, query="select:WebSearch", max_results=5)),
            says(tool("WebSearch", 2, query="the weather in Paris")),
            says({"type": "text", "text": "There is no search here."}),
            says({"type": "text", "text": "I can't search."}),
        ]
    )
    assert "I can't search." in run_claude("Search", folder=folder, claude=claude, model="sota")
    first, second, search, last = claude.vendor.requests
    names = [{each["name"] for each in request["tools"]} for request in (first, second)]
    assert names[1] - names[0] == {"WebSearch"}, "a tool is shown once it was asked for"
    assert "tools" not in search
    assert "Not available here: web_search." in json.dumps(search["system"])
    assert "There is no search here." in json.dumps(results(last)[-1])
    dropped = claude.setting.gateway.events("router.success")[-2]["dropped"]
    assert "tools.web_search" in dropped


def test_a_pdf_is_read_by_claude(claude: Claude, folder: Path) -> None:
    (folder / "a.pdf").write_bytes(pdf(2))
    claude.vendor.script.extend(
        [says(tool("Read", 1, file_path=str(folder / "a.pdf"))), says({"type": "text", "text": "Two pages."})]
    )
    assert "Two pages." in run_claude("Read a.pdf", folder=folder, claude=claude, model="sota")
    shown = claude.vendor.requests[-1]["messages"][-1]["content"]
    assert [block["type"] for block in shown if block["type"] != "text"] == ["tool_result", "document"]


def test_another_model_goes_on_where_it_cannot_read_a_pdf(claude: Claude, folder: Path) -> None:
    (folder / "a.pdf").write_bytes(pdf(2))
    read = json.dumps({"file_path": str(folder / "a.pdf")})
    claude.setting.upstream.script.append(calls(("call_1", "Read", read)))
    assert "Paris." in run_claude("Read a.pdf", folder=folder, claude=claude, model="openai/m")
    assert "can't read PDFs" in json.dumps(claude.setting.upstream.requests[-1]["messages"][-1])
    assert "Paris." in run_claude("And now?", "--continue", folder=folder, claude=claude, model="openai/m")
    assert "files" in claude.setting.gateway.events("router.success")[-1]["dropped"]


def test_what_fills_the_context_is_counted_for_free(claude: Claude, folder: Path) -> None:
    booked = claude.setting.books.one("SELECT count(*) FROM ledger")
    assert "Context Usage" in run_claude("/context", folder=folder, claude=claude, model="sota")
    assert claude.vendor.paths["/v1/messages/count_tokens"] > 5
    assert claude.vendor.paths["/v1/messages"] == 0
    assert claude.setting.books.one("SELECT count(*) FROM ledger") == booked


def test_at_a_terminal_it_names_its_session(claude: Claude, folder: Path) -> None:
    claude.vendor.words = ['{"title": "Sums"}']
    before = len(claude.vendor.billed)
    typed = ["calc.py adds wrong, why?", "\r"]
    try:
        at_a_terminal(
            typed, lambda: len(claude.vendor.billed) >= before + 2, folder=folder, claude=claude, model="sota"
        )
    finally:
        claude.vendor.words = ["Pa", "ris", "."]
    titles = [r for r in claude.vendor.requests if "format" in r.get("output_config", {})]
    assert "title" in titles[0]["output_config"]["format"]["schema"]["properties"]
    assert "thinking" not in titles[0], "it asked for effort alone"


def test_a_used_up_budget_ends_it_at_once(claude: Claude, folder: Path) -> None:
    before = refused(claude.setting)
    printed = run_claude(TASK, folder=folder, claude=claude, model=DEAR_CLAUDE, status=1)
    assert "The month's budget can't take this call" in printed
    assert refused(claude.setting) == before + 1
    assert not claude.vendor.requests
