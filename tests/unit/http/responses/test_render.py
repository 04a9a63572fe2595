"""Answers, streams and errors in the format of OpenAI's Responses; OpenAI's own SDK reads them back."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai.types.responses import (
    Response,
    ResponseCustomToolCall,
    ResponseFunctionToolCall,
    ResponseToolSearchCall,
)

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import ChatResponse, StreamChunk
from fusewire.errors import BudgetExceededError, FusewireError, UnsupportedParameterError
from fusewire.http import errors
from fusewire.http.responses.codex import usage_limit
from fusewire.http.responses.render import ResponseShape, ResponseWriter, render_error
from fusewire.http.responses.request import ResponsesRequest
from fusewire.http.responses.tools import FunctionTable
from fusewire.http.typed_events import typed_events
from tests.unit.http.messages.test_errors import RESETS, ROWS
from tests.unit.http.messages.test_render import SECRET

COST = Decimal("0.00000012")


def shape(**fields: object) -> ResponseShape:
    body = ResponsesRequest.model_validate_json(json.dumps({"model": "sota", "input": "hi"} | fields))
    return ResponseShape(body, FunctionTable(body), "1")


def answer(message: dict[str, Any], finish: str = "stop", usage: object = None, **fields: object) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    result = {"id": "chatcmpl-1", "created": 7, "model": "gpt", "choices": [choice], "usage": usage}
    response = ChatResponse.model_validate(result)
    if response.usage is not None:
        response.usage.cost = COST
    return {**shape(**fields).whole(response, COST)}


def test_a_whole_answer_is_complete() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    call = {"id": "call_1", "function": {"name": "weather", "arguments": "{}"}, "extra_content": {"google": 1}}
    result = answer({"content": "Paris.", "reasoning_content": "hm", "tool_calls": [call]}, usage=usage)
    assert result.pop("completed_at") > 0
    assert result == {
        "id": "resp_1",
        "object": "response",
        "created_at": 7,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "gpt",
        "output": [
            {
                "id": "rs_1_0",
                "type": "reasoning",
                "status": "completed",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
            },
            {
                "id": "msg_1_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Paris.", "annotations": [], "logprobs": []}],
            },
            {
                "id": "fc_1_2",
                "type": "function_call",
                "status": "completed",
                "call_id": "call_1",
                "name": "weather",
                "arguments": "{}",
                "extra_content": {"google": 1},
            },
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 3},
            "total_tokens": 107,
            "cost": COST,
        },
        "user": None,
    }
    read = Response.model_validate(json.loads(json.dumps(result, default=float)))
    assert read.output_text == "Paris."


def test_what_was_asked_for_comes_back() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    tool = {"type": "function", "name": "weather", "parameters": {}, "strict": True}
    fields: dict[str, Any] = {
        "instructions": "be brief",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "tools": [tool],
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"format": schema, "verbosity": "low"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }
    result = answer({"content": "x"}, **fields, parallel_tool_calls=False, reasoning={"effort": "low"})
    assert {name: result[name] for name in fields} == fields
    assert result["parallel_tool_calls"] is False
    assert result["reasoning"] == {"effort": "low", "summary": None}
    assert result["usage"] is None


@pytest.mark.parametrize(
    ("finish", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_it_ended(finish: str, status: str, details: object) -> None:
    result = answer({"content": "x"}, finish)
    assert (result["status"], result["incomplete_details"]) == (status, details)
    assert result["output"][-1]["status"] == status
    assert (result["completed_at"] is None) == (status == "incomplete")
    assert answer({"content": None}, finish)["output"] == []


def test_a_refusal_is_content_of_its_own() -> None:
    result = answer({"content": None, "refusal": "I can't."})
    assert result["output"][0]["content"] == [{"type": "refusal", "refusal": "I can't."}]


# --- streams ---


def chunk(delta: dict[str, Any], finish: str | None = None) -> StreamChunk:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return StreamChunk.model_validate({"id": "c", "created": 7, "model": "gpt", "choices": choices})


def usage_chunk() -> StreamChunk:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    made = StreamChunk.model_validate({"id": "c", "created": 7, "model": "gpt", "choices": [], "usage": usage})
    assert made.usage is not None
    made.usage.cost = COST
    return made


def events(chunks: Iterator[StreamChunk] | list[StreamChunk], **fields: object) -> list[dict[str, Any]]:
    result = []
    for piece in typed_events(chunks, ResponseWriter(shape(**fields))):
        name, data, rest = piece.decode().split("\n", 2)
        assert rest == "\n"
        result.append(json.loads(data.removeprefix("data: "), parse_float=Decimal))
        assert name == f"event: {result[-1]['type']}"
    assert [event["sequence_number"] for event in result] == list(range(len(result)))
    return result


def call(index: int, arguments: str, **more: object) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}, "id": f"call_{index}"}]}


STREAM = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "hm"}),
    chunk({"content": "Pa"}),
    chunk({"content": "ris"}),
    chunk({"refusal": "no"}),
    chunk(call(0, '{"a":', name="weather")),
    chunk(call(0, "1}")),
    chunk(call(1, "{}", name="time")),
    chunk({}, "tool_calls"),
    usage_chunk(),
]


def test_a_stream_in_openais_order() -> None:
    lines = events(STREAM)
    text = ["output_item.added", "content_part.added"]
    done = ["content_part.done", "output_item.done"]
    arguments = "function_call_arguments"
    assert [event["type"].removeprefix("response.") for event in lines] == [
        "created", "in_progress",
        *text, "reasoning_text.delta", "reasoning_text.done", *done,
        *text, "output_text.delta", "output_text.delta", "output_text.done", *done,
        *text, "refusal.delta", "refusal.done", *done,
        "output_item.added", f"{arguments}.delta", f"{arguments}.delta", f"{arguments}.done", "output_item.done",
        "output_item.added", f"{arguments}.delta", f"{arguments}.done", "output_item.done",
        "completed",
    ]  # fmt: skip


def test_a_streams_events_agree_with_its_end() -> None:
    lines = events(STREAM)
    completed = lines[-1]["response"]
    assert completed["usage"]["cost"] == COST
    for event in lines[:2]:
        assert (event["response"]["status"], event["response"]["output"]) == ("in_progress", [])
        assert event["response"]["id"] == completed["id"]
    for number, item in enumerate(completed["output"]):
        of_item = [event for event in lines if event.get("output_index") == number]
        added, finished = of_item[0]["item"], of_item[-1]["item"]
        assert finished == item
        assert (added["id"], added["status"]) == (item["id"], "in_progress")
        assert all(event["item_id"] == item["id"] for event in of_item if "item_id" in event)
        deltas = "".join(event.get("delta", "") for event in of_item)
        assert deltas in json.dumps(item).replace('\\"', '"')
        assert {event["content_index"] for event in of_item if "content_index" in event} <= {0}
    [part] = [event["part"] for event in lines if event["type"] == "response.content_part.done"][1:2]
    assert part == {"type": "output_text", "text": "Paris", "annotations": [], "logprobs": []}
    assert all("logprobs" in event for event in lines if event["type"].startswith("response.output_text"))
    [first, _] = [event for event in lines if event["type"].endswith("arguments.done")]
    assert (first["name"], first["arguments"]) == ("weather", '{"a":1}')


CODEX = {
    "tools": [
        {"type": "namespace", "name": "functions", "description": "", "tools": [{"type": "custom", "name": "exec"}]},
        {"type": "namespace", "name": "agents", "description": "", "tools": [{"type": "function", "name": "spawn"}]},
        {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
    ]
}
CODEX_CALLS = [
    chunk(call(0, '{"inp', name="exec")),
    chunk(call(0, 'ut": "a\\')),
    chunk(call(0, 'nb"}')),
    chunk(call(1, "{}", name="agents__spawn")),
    chunk(call(2, '{"query":', name="tool_search")),
    chunk(call(2, '"x"}')),
    chunk({}, "tool_calls"),
    usage_chunk(),
]


def test_calls_of_the_callers_own_kinds_of_tools() -> None:
    message = {
        "content": None,
        "tool_calls": [
            {"id": "call_0", "function": {"name": "exec", "arguments": '{"input": "a\\nb"}'}},
            {"id": "call_1", "function": {"name": "agents__spawn", "arguments": "{}"}},
            {"id": "call_2", "function": {"name": "tool_search", "arguments": '{"query":"x"}'}},
        ],
    }
    result = answer(message, "tool_calls", **CODEX)
    read = Response.model_validate(json.loads(json.dumps(result, default=float)))
    custom, spawn, search = read.output
    assert isinstance(custom, ResponseCustomToolCall)
    assert (custom.name, custom.namespace, custom.input) == ("exec", "functions", "a\nb")
    assert isinstance(spawn, ResponseFunctionToolCall)
    assert (spawn.name, spawn.namespace, spawn.arguments) == ("spawn", "agents", "{}")
    assert isinstance(search, ResponseToolSearchCall)
    assert (search.execution, search.arguments) == ("client", {"query": "x"})
    assert [custom.id, spawn.id, search.id] == ["ctc_1_0", "fc_1_1", "tsc_1_2"]
    assert events(CODEX_CALLS, **CODEX)[-1]["response"]["output"] == result["output"]


def test_a_stream_of_the_callers_own_kinds_of_calls() -> None:
    lines = events(CODEX_CALLS, **CODEX)
    custom, arguments = "custom_tool_call_input", "function_call_arguments"
    assert [event["type"].removeprefix("response.") for event in lines] == [
        "created", "in_progress",
        "output_item.added", f"{custom}.delta", f"{custom}.delta", f"{custom}.done", "output_item.done",
        "output_item.added", f"{arguments}.delta", f"{arguments}.done", "output_item.done",
        "output_item.added", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [event["delta"] for event in lines if event["type"] == f"response.{custom}.delta"] == ["a", "\nb"]
    [done] = [event for event in lines if event["type"] == f"response.{custom}.done"]
    assert (done["input"], done["item_id"], done["output_index"]) == ("a\nb", "ctc_1_0", 0)
    added = [event["item"] for event in lines if event["type"] == "response.output_item.added"]
    assert (added[0]["name"], added[0]["namespace"], added[0]["input"]) == ("exec", "functions", "")
    assert (added[1]["name"], added[1]["namespace"], added[1]["arguments"]) == ("spawn", "agents", "")
    assert added[2]["arguments"] == {}


def test_a_custom_call_that_is_no_json_comes_whole_at_its_end() -> None:
    lines = events([chunk(call(0, "*** Begin", name="exec")), chunk(call(0, " Patch")), chunk({}, "stop")], **CODEX)
    assert [event["delta"] for event in lines if "delta" in event] == ["*** Begin Patch"]
    assert lines[-1]["response"]["output"][0]["input"] == "*** Begin Patch"


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_stream_that_is_cut_is_incomplete(finish: str, reason: str) -> None:
    lines = events([chunk({"content": "Pa"}), chunk({}, finish), usage_chunk()])
    assert lines[-1]["type"] == "response.incomplete"
    assert lines[-1]["response"]["incomplete_details"] == {"reason": reason}
    assert lines[-2]["item"]["status"] == lines[-1]["response"]["output"][-1]["status"] == "incomplete"


def test_an_empty_stream_is_an_empty_response() -> None:
    assert [event["type"] for event in events([])] == ["response.created", "response.in_progress", "response.completed"]


def broken(error: Exception) -> Iterator[StreamChunk]:
    yield chunk({"content": "Pa"})
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [(StreamBrokenError("openai dropped the connection"), "stream_broken"), (ValueError(SECRET), "internal_error")],
)
def test_a_stream_that_breaks_ends_as_failed(error: Exception, code: str) -> None:
    lines = events(broken(error))
    assert lines[-1]["type"] == "response.failed"
    failed = lines[-1]["response"]
    assert failed["status"] == "failed"
    assert (failed["error"]["code"], failed["error"]["type"]) == ("server_error", code)
    assert failed["output"][0]["content"][0]["text"] == "Pa"
    assert failed["output"][0]["status"] == "incomplete"
    assert SECRET not in json.dumps(lines, default=str)
    assert not any(event["type"] == "response.output_item.done" for event in lines)


# --- errors ---


@pytest.mark.parametrize("error", [row[0] for row in ROWS], ids=lambda error: type(error).__name__)
def test_errors_are_those_of_chat_completions(error: FusewireError) -> None:
    assert render_error(error, "r") == errors.render_error(error, "r")


def test_a_field_is_told_by_its_name_here() -> None:
    error = UnsupportedParameterError("Nobody can honour response_format.", param="response_format")
    body: Any = render_error(error, "r")[0]
    assert body["error"]["param"] == "text.format"
    assert body["error"]["message"] == "Nobody can honour response_format. Here response_format is text.format."


def test_codex_is_told_of_a_used_up_budget_as_of_a_usage_limit() -> None:
    error = BudgetExceededError("The month's budget is used up.", budget="global", resets_at=RESETS)
    status, body, headers = usage_limit(error, "r")
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "usage_limit_reached", "budget_exceeded")
    assert body["error"]["resets_at"] == RESETS.timestamp()
    assert headers == {"x-should-retry": "false", "x-codex-promo-message": "The month's budget is used up"}


def test_a_used_up_budget_keeps_its_details() -> None:
    body: Any = render_error(BudgetExceededError("?", budget="global", resets_at=RESETS), "r")[0]
    assert (body["error"]["budget"], body["error"]["code"]) == ("global", "budget_exceeded")
