"""Reports of streams that a client couldn't read: what a vendor's chunks lack, and what Responses' events need."""

import json
from typing import Any

import pytest

from tests.field.conftest import LLAMA, OWN, QWEN, Field
from tests.integration.functions.conftest import sample
from tests.support import upstream

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
ARGUMENTS = '{"path": "a.txt"}'


def chunks(*deltas: tuple[dict[str, Any], str | None], done: bool = True) -> upstream.Reply:
    """A stream of these deltas, each with its finish reason, and its usage."""

    def reply(handler: upstream.Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for delta, finish in deltas:
            handler.event(upstream.chunk(body["model"], delta, finish))
        handler.event(upstream.chunk(body["model"], {}) | {"choices": [], "usage": USAGE})
        if done:
            handler.event("[DONE]")
        handler.end_events()

    return reply


def call(arguments: str | None = None, **more: object) -> dict[str, Any]:
    function = {} if arguments is None else {"arguments": arguments}
    return {"tool_calls": [more | {"function": function | ({"name": "read"} if "id" in more else {})}]}


BEGUN: dict[str, Any] = {"index": 0, "id": "call_1", "type": "function"}

# (source, what the vendor's chunks are)
CALLS: list[tuple[str, upstream.Reply]] = [
    # A call that isn't the first of its blocks (LiteLLM over Anthropic and Bedrock): no call 0 ever comes.
    (
        "cline/cline#13123",
        chunks(
            ({"content": "Let me see."}, None),
            (call("", **BEGUN | {"index": 1}), None),
            (call(ARGUMENTS, index=1), None),
            ({}, "tool_calls"),
        ),
    ),
    # No index at all.
    (
        "AstrBotDevs/AstrBot#6662",
        chunks((call(ARGUMENTS, id="call_1", type="function"), None), ({}, "tool_calls")),
    ),
    # An id that is empty in every chunk but the first.
    (
        "lmstudio-ai/lmstudio-bug-tracker#830",
        chunks(
            (call("", **BEGUN), None),
            (call(ARGUMENTS[:5], index=0), None),
            (call(ARGUMENTS[5:], index=0), None),
            ({}, "tool_calls"),
        ),
    ),
    # Arguments that begin with nothing, and pieces of nothing in between.
    (
        "BerriAI/litellm#40207",
        chunks(
            (call("", **BEGUN), None),
            (call("", index=0), None),
            (call(ARGUMENTS, index=0), None),
            (call("", index=0), None),
            ({}, "tool_calls"),
        ),
    ),
    # An empty finish reason before the real one.
    ("farion1231/cc-switch#5093", chunks((call(ARGUMENTS, **BEGUN), ""), ({}, ""), ({}, "tool_calls"))),
    # `stop` where tools are called.
    ("router-for-me/CLIProxyAPI#5851", chunks((call(ARGUMENTS, **BEGUN), None), ({}, "stop"))),
    ("anomalyco/opencode#14972", chunks((call(ARGUMENTS, **BEGUN), "stop"))),
    (
        "vercel/workflow#1387",
        chunks(({"content": "Let me see."}, None), (call(ARGUMENTS, **BEGUN), None), ({}, "stop")),
    ),
]


def events(body: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("model", [OWN, QWEN, LLAMA])
@pytest.mark.parametrize(("source", "reply"), CALLS, ids=[row[0] for row in CALLS])
def test_a_streamed_call_arrives_whole(field: Field, source: str, reply: upstream.Reply, model: str) -> None:
    field.heal()
    field.servers[model.partition("/")[0]].script.append(reply)  # type: ignore[arg-type]
    found = events(field.chat(model, stream=True, tools=[TOOL])["body"])
    pieces = [
        piece for chunk in found for choice in chunk["choices"] for piece in choice["delta"].get("tool_calls") or ()
    ]
    assert pieces, (source, found)
    assert {piece["index"] for piece in pieces} == {0}, source
    assert pieces[0]["id"] and pieces[0]["function"]["name"] == "read"
    assert "".join(piece["function"].get("arguments") or "" for piece in pieces) == ARGUMENTS
    assert [choice["finish_reason"] for chunk in found for choice in chunk["choices"]][-1] == "tool_calls"


@pytest.mark.parametrize(("source", "reply"), CALLS, ids=[row[0] for row in CALLS])
def test_and_as_an_item_of_responses(field: Field, source: str, reply: upstream.Reply) -> None:
    """FMXExpress/PasClaw#62, BigPizzaV3/CodexPlusPlus#1908: what Codex and OpenAI's SDKs need of every event."""
    field.heal()
    field.servers["vllm"].script.append(reply)  # type: ignore[arg-type]
    tool = {"type": "function", "name": "read", "parameters": {"type": "object"}}
    body = {"model": QWEN, "input": "Hello", "stream": True, "tools": [tool]}
    found = events(field.call("complete", sample("complete_responses", body))["body"])
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    last = found[-1]
    assert last["type"] == "response.completed", source
    [item] = [item for item in last["response"]["output"] if item["type"] == "function_call"]
    assert (item["name"], item["arguments"], item["status"]) == ("read", ARGUMENTS, "completed")
    assert last["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}
    assert last["response"]["usage"]["input_tokens_details"]["cached_tokens"] == 0
    deltas = [event for event in found if event["type"].endswith("output_text.delta")]
    assert all(event["logprobs"] == [] for event in deltas)


def whole(message: dict[str, Any], finish: str) -> upstream.Reply:
    def reply(handler: upstream.Handler, body: dict[str, Any]) -> None:
        choices = [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}]
        handler.reply(200, {"id": "x", "created": 1, "model": body["model"], "choices": choices, "usage": USAGE})

    return reply


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_that_arent_there_are_no_reason(field: Field, streamed: bool) -> None:
    """mastra-ai/mastra#14187: `tool_calls` without any, and an agent that asks for ever."""
    field.heal()
    reply = (
        chunks(({"content": "No."}, None), ({}, "tool_calls")) if streamed else whole({"content": "No."}, "tool_calls")
    )
    field.servers["vllm"].script.append(reply)  # type: ignore[arg-type]
    body = field.chat(QWEN, stream=streamed, tools=[TOOL])["body"]
    last = events(body)[-1] if streamed else json.loads(body)
    assert last["choices"][0]["finish_reason"] == "stop"


def test_calls_are_a_reason_whatever_the_server_says(field: Field) -> None:
    """anomalyco/opencode#20719: Ollama behind a proxy, and an agent that stops after one call."""
    field.heal()
    calls = [{"id": "call_1", "type": "function", "function": {"name": "read", "arguments": ARGUMENTS}}]
    field.servers["ollama"].script.append(whole({"content": None, "tool_calls": calls}, "stop"))  # type: ignore[arg-type]
    choice = json.loads(field.chat(LLAMA, tools=[TOOL])["body"])["choices"][0]
    assert (choice["finish_reason"], choice["message"]["tool_calls"][0]["id"]) == ("tool_calls", "call_1")


def test_a_stream_that_breaks_ends_with_a_numbered_failure(field: Field) -> None:
    """Soju06/codex-lb#1479, mnfst/llm-gateway#2539: a strict client takes an unnumbered one for a clean end."""
    field.heal()
    field.servers["vllm"].script.append(upstream.cut_stream(2))  # type: ignore[arg-type]
    body = {"model": QWEN, "input": "Hello", "stream": True}
    found = events(field.call("complete", sample("complete_responses", body))["body"])
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[-1]["type"] == "response.failed"
    assert found[-1]["response"]["error"]["code"] == "server_error"
    field.heal()


@pytest.mark.parametrize("model", [OWN, QWEN])
def test_a_stream_without_its_last_word_is_whole_where_its_reason_came(field: Field, model: str) -> None:
    """router-for-me/CLIProxyAPI#5028: an upstream that says why it ends, and no `[DONE]`."""
    field.heal()
    reply = chunks(({"content": "Paris."}, None), ({}, "stop"), done=False)
    field.servers[model.partition("/")[0]].script.append(reply)  # type: ignore[arg-type]
    answer = field.chat(model, stream=True)
    assert answer["body"].rstrip().endswith("data: [DONE]")
    assert "error" not in events(answer["body"])[-1]
