"""OpenAI's Agents SDK in Python, over Responses."""

from pathlib import Path

from tests.support.clients import ANSWER, DEAR, RIGHT, TASK, needs_clients, refused, run_python, script_the_fix
from tests.support.formats import Setting

needs_clients()


def test_it_edits_a_file_in_two_turns(setting: Setting, folder: Path) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    result = run_python("openai_agents.py", "openai/m", TASK, folder=folder, setting=setting)
    assert (result.get("text"), result.get("second")) == (ANSWER, ANSWER), result
    assert "run_item_stream_event" in result["events"]
    assert (folder / "calc.py").read_text() == RIGHT
    assert [bool(request.get("stream")) for request in setting.upstream.requests] == [True, True, True, False]
    billed = setting.upstream.billed[first : first + 3]
    assert tuple(result["tokens"]) == tuple(map(sum, zip(*billed, strict=True)))


def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path) -> None:
    before = refused(setting)
    # It takes `openai/` for the name of its own provider, and away.
    result = run_python("openai_agents.py", f"openai/{DEAR}", TASK, folder=folder, setting=setting)
    assert (result["status"], result["code"]) == (402, "budget_exceeded")
    assert "The month's budget can't take this call" in result["error"]
    assert refused(setting) == before + 1
    assert not setting.upstream.requests
