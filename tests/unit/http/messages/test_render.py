"""Answers and streams in Anthropic's format; Anthropic's own SDK reads them back."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from anthropic.types import Message

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import ChatResponse, StreamChunk
from fusewire.http.messages.render import MessageWriter, message
from fusewire.http.typed_events import typed_events

COST = Decimal("0.00000012")
SECRET = "sentinel-prompt-51c2"  # noqa: S105 - what must not leak


def answer(message_body: dict[str, Any], finish: str = "stop", **more: object) -> dict[str, Any]:
    response = ChatResponse.model_validate(
        {
            "id": "chatcmpl-1",
            "created": 1,
            "model": "gpt",
            "choices": [{"index": 0, "message": {"role": "assistant", **message_body}, "finish_reason": finish}],
            **more,
        }
    )
    return {**message("msg_1", response, COST)}


def tool_call(arguments: str, **more: object) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


def test_a_whole_answer() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "cache_write_1h_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    result = answer({"content": "Paris.", "reasoning_content": "hm"}, usage=usage)
    assert result == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "Paris."},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 3},
            "cost": COST,
        },
    }
    assert Message.model_validate(result | {"usage": result["usage"] | {"cost": float(COST)}}).usage.input_tokens == 10


def test_usage_that_nobody_told_is_zero_and_the_cost_is_what_was_booked() -> None:
    assert answer({"content": "x"})["usage"] == {"input_tokens": 0, "output_tokens": 0, "cost": COST}


CALL = {"content": None, "tool_calls": [tool_call("{}")]}


@pytest.mark.parametrize(
    ("row", "finish", "reason"),
    [
        ({"content": "x"}, "stop", "end_turn"),
        ({"content": "x"}, "length", "max_tokens"),
        ({"content": "x"}, "content_filter", "refusal"),
        (CALL, "tool_calls", "tool_use"),
        (CALL, "function_call", "tool_use"),
        (CALL, "stop", "tool_use"),
        (CALL, "length", "max_tokens"),
        ({"content": None, "refusal": "I can't."}, "stop", "refusal"),
    ],
)
def test_the_reason_for_stopping(row: dict[str, Any], finish: str, reason: str) -> None:
    made = answer(row, finish)
    assert made["stop_reason"] == reason
    assert (made["stop_details"] is not None) == (reason == "refusal")


def test_a_refusal_is_told_with_its_explanation_and_no_text() -> None:
    result = answer({"content": None, "refusal": "I can't."})
    assert result["content"] == []
    assert result["stop_details"] == {"type": "refusal", "category": None, "explanation": "I can't."}


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"city": "Zürich", "n": 1.5}', {"city": "Zürich", "n": 1.5}),
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ('{"city": "Pa', {"INVALID_JSON": '{"city": "Pa'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('{"n": NaN}', {"INVALID_JSON": '{"n": NaN}'}),
        ('{"s": "\\ud83d"}', {"INVALID_JSON": '{"s": "\\ud83d"}'}),
    ],
)
def test_a_tools_input_is_always_an_object(arguments: str, given: dict[str, Any]) -> None:
    result = answer({"content": "I look.", "tool_calls": [tool_call(arguments)]}, "tool_calls")
    assert result["content"][1] == {"type": "tool_use", "id": "call_1", "name": "weather", "input": given}
    json.dumps(result["content"], allow_nan=False)


def test_what_a_vendor_wants_back_goes_out_with_the_call() -> None:
    call = tool_call("{}", extra_content={"google": {"thought_signature": "x"}})
    result = answer({"tool_calls": [call]}, "tool_calls")
    assert result["content"][0]["extra_content"] == {"google": {"thought_signature": "x"}}


# --- streams ---


def chunk(delta: dict[str, Any], finish: str | None = None) -> StreamChunk:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return StreamChunk.model_validate({"id": "c", "created": 1, "model": "gpt", "choices": choices})


def usage_chunk() -> StreamChunk:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    made = StreamChunk.model_validate({"id": "c", "created": 1, "model": "gpt", "choices": [], "usage": usage})
    assert made.usage is not None
    made.usage.cost = COST
    return made


def events(chunks: Iterator[StreamChunk] | list[StreamChunk]) -> list[dict[str, Any]]:
    result = []
    for piece in typed_events(chunks, MessageWriter("msg_1", "req-1")):
        name, data, rest = piece.decode().split("\n", 2)
        assert rest == "\n"
        result.append(json.loads(data.removeprefix("data: "), parse_float=Decimal))
        assert name == f"event: {result[-1]['type']}"
    return result


def test_a_stream_in_anthropics_order() -> None:
    lines = events(
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "hm"}),
            chunk({"content": "Pa"}),
            chunk({"content": "ris"}),
            chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ""}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
            chunk({"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "time", "arguments": "{}"}}]}),
            chunk({}, "tool_calls"),
            usage_chunk(),
        ]
    )

    def delta(index: int, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": fields}

    def start(index: int, **fields: object) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": fields}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    assert lines == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "gpt",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            },
        },
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        stop(0),
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="Pa"),
        delta(1, type="text_delta", text="ris"),
        stop(1),
        start(2, type="tool_use", id="call_1", name="weather", input={}),
        delta(2, type="input_json_delta", partial_json='{"a":'),
        delta(2, type="input_json_delta", partial_json="1}"),
        stop(2),
        start(3, type="tool_use", id="call_2", name="time", input={}),
        delta(3, type="input_json_delta", partial_json="{}"),
        stop(3),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None, "stop_details": None},
            "usage": {
                "input_tokens": 2,
                "cache_read_input_tokens": 1,
                "cache_creation_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 2,
                "cost": COST,
            },
        },
        {"type": "message_stop"},
    ]


def test_a_refusal_in_a_stream_is_told_at_its_end() -> None:
    lines = events([chunk({"refusal": "I "}), chunk({"refusal": "can't."}), chunk({}, "stop")])
    assert [event["type"] for event in lines] == ["message_start", "message_delta", "message_stop"]
    assert lines[1]["delta"]["stop_reason"] == "refusal"
    assert lines[1]["delta"]["stop_details"]["explanation"] == "I can't."
    assert lines[1]["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_an_empty_stream_is_an_empty_message() -> None:
    assert [event["type"] for event in events([])] == ["message_start", "message_delta", "message_stop"]


def test_a_surrogate_pair_that_a_server_cut_in_two_arrives_whole() -> None:
    lines = events([chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}), chunk({}, "stop")])
    halves = "".join(event["delta"]["text"] for event in lines if event["type"] == "content_block_delta")
    assert halves.encode("utf-16", "surrogatepass").decode("utf-16") == "\N{GRINNING FACE}"


def broken(error: Exception) -> Iterator[StreamChunk]:
    yield chunk({"content": "Pa"})
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [(StreamBrokenError("openai dropped the connection"), "stream_broken"), (ValueError(SECRET), "internal_error")],
)
def test_a_stream_that_breaks_ends_with_an_error(error: Exception, code: str) -> None:
    lines = events(broken(error))
    assert [event["type"] for event in lines] == [
        "message_start", "content_block_start", "content_block_delta", "error",
    ]  # fmt: skip
    assert lines[-1]["error"]["type"] == "api_error"
    assert lines[-1]["error"]["details"] == {"error_code": code}
    assert lines[-1]["request_id"] == "req-1"
    assert SECRET not in json.dumps(lines, default=str)


def test_hanging_up_closes_the_chunks() -> None:
    ended = []

    def endless() -> Iterator[StreamChunk]:
        try:
            while True:
                yield chunk({"content": "x"})
        finally:
            ended.append(True)

    stream = typed_events(endless(), MessageWriter("msg_1", "req-1"))
    next(stream)
    stream.close()  # type: ignore[attr-defined] # a generator, seen as what it promises
    assert ended == [True]
