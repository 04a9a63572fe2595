"""OpenAI's SDK in TypeScript, Vercel's AI SDK over both of OpenAI's APIs, and Anthropic's SDK with its tool runner."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.clients import (
    ANSWER,
    DEAR,
    RIGHT,
    TASK,
    clients_gateway,
    needs_clients,
    refused,
    run_node,
    script_the_fix,
)
from tests.support.formats import Setting

needs_clients()

AI_SDK = ("responses", "chat", "compatible")
PROGRAMS = [("openai_responses.mjs", ""), ("openai_chat.mjs", ""), *(("ai_sdk.mjs", api) for api in AI_SDK)]


@pytest.mark.parametrize("program", ["openai_responses.mjs", "openai_chat.mjs"])
def test_openais_sdk_edits_a_file(setting: Setting, folder: Path, program: str) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    result = run_node(program, "openai/m", TASK, folder=folder, setting=setting)
    assert result.get("text") == ANSWER, result
    assert (folder / "calc.py").read_text() == RIGHT
    assert [request["stream"] for request in setting.upstream.requests] == [True] * 3
    billed = setting.upstream.billed[first:]
    if program == "openai_responses.mjs":
        assert Decimal(str(result["cost"])).quantize(Decimal("1e-6")) == setting.cost_of(first, first + 1, first + 2)
        assert "response.function_call_arguments.done" in result["events"]
    else:
        assert result["usage"]["prompt_tokens"] == sum(into for into, _ in billed)
        assert result["pieces"] > 1


@pytest.mark.parametrize("api", AI_SDK)
def test_vercels_sdk_edits_a_file_in_two_turns(setting: Setting, folder: Path, api: str) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    result = run_node("ai_sdk.mjs", "openai/m", TASK, api, folder=folder, setting=setting)
    assert (result.get("second"), result.get("object")) == (ANSWER, {"city": "Paris"}), result
    assert result["text"].endswith(ANSWER)
    assert (folder / "calc.py").read_text() == RIGHT
    *turns, last = setting.upstream.requests
    assert [bool(request.get("stream")) for request in turns] == [True, True, True, False]
    assert [message["role"] for message in turns[-1]["messages"]] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert last["response_format"]["type"] == "json_schema"
    billed = setting.upstream.billed[first : first + 3]
    assert (result["inputTokens"], result["outputTokens"]) == tuple(map(sum, zip(*billed, strict=True)))


def test_vercels_sdk_is_told_the_cure_for_references(setting: Setting, folder: Path) -> None:
    # By its default the second turn names what OpenAI would have stored.
    result = run_node("ai_sdk.mjs", "openai/m", TASK, "responses", "default", folder=folder, setting=setting)
    assert result["status"] == 400, result
    assert "store: false" in result["error"]
    assert len(setting.upstream.requests) == 1


def test_vercels_sdk_goes_on_from_kept_answers_by_its_default(
    tmp_path: Path, postgres: str, template: str, folder: Path
) -> None:
    kept = {"AI_RESPONSES_RETENTION_HOURS": "1", "AI_RESPONSES_KEY": "kept-for-the-second-turn"}
    with clients_gateway(tmp_path / "kept", postgres, template, **kept) as setting:
        script_the_fix(setting)
        result = run_node("ai_sdk.mjs", "openai/m", TASK, "responses", "default", folder=folder, setting=setting)
        assert (result.get("second"), result.get("object")) == (ANSWER, {"city": "Paris"}), result
        *turns, _ = setting.upstream.requests
        assert [message["role"] for message in turns[-1]["messages"]] == [
            "user", "assistant", "tool", "assistant", "tool", "assistant", "user",
        ]  # fmt: skip
        setting.settle()


def test_anthropics_sdks_tool_runner_edits_a_file(setting: Setting, folder: Path) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    result = run_node("anthropic_tools.mjs", "openai/m", TASK, folder=folder, setting=setting, **_of_anthropic(setting))
    assert result.get("text") == ANSWER, result
    assert (folder / "calc.py").read_text() == RIGHT
    assert {"content_block_start", "content_block_delta", "message_delta", "message_stop"} <= {*result["events"]}
    assert [tuple(used[:2]) for used in result["usage"]] == setting.upstream.billed[first:]
    assert result["counted"] > len(TASK)


def test_a_used_up_budget_ends_anthropics_sdk_at_once(setting: Setting, folder: Path) -> None:
    before = refused(setting)
    result = run_node("anthropic_tools.mjs", DEAR, TASK, folder=folder, setting=setting, **_of_anthropic(setting))
    assert result["status"] == 402, result
    assert "The month's budget can't take this call" in result["error"]
    assert refused(setting) == before + 1


@pytest.mark.parametrize(("program", "api"), PROGRAMS)
def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path, program: str, api: str) -> None:
    before = refused(setting)
    result = run_node(program, DEAR, TASK, api, folder=folder, setting=setting)
    assert result["status"] == 402, result
    assert "The month's budget can't take this call" in result["error"]
    assert refused(setting) == before + 1
    assert not setting.upstream.requests


def _of_anthropic(setting: Setting) -> dict[str, str]:
    return {"ANTHROPIC_BASE_URL": setting.gateway.base.removesuffix("/v1"), "ANTHROPIC_API_KEY": "none"}
