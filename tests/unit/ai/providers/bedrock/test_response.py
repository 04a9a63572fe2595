"""Converse's answers, whole and in events, in the vocabulary: content, finish reasons, and usage to the token."""

from typing import Any

import pytest

from fusewire.ai.providers.bedrock.response import ResponseStream, response_of
from fusewire.ai.schema import ChatResponse, StreamChunk, Usage
from fusewire.ai.usage_cost import token_counts
from fusewire.budget.price import TokenCounts
from tests.support.bedrock_vendor import whole

PLAIN = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
TEXT = [{"text": "Paris."}]
TOOL = {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Paris", "days": 2}}}


def answered(
    content: list[dict[str, Any]], stop: str = "end_turn", usage: dict[str, Any] | None = PLAIN
) -> ChatResponse:
    return response_of({**whole(content, stop, usage), "ResponseMetadata": {"RequestId": "r-1"}}, "a-model")


def test_a_text() -> None:
    response = answered(TEXT)
    choice = response.choices[0]
    assert (response.id, response.model, response.object) == ("chatcmpl-r-1", "a-model", "chat.completion")
    assert (choice.message.content, choice.finish_reason, choice.index) == ("Paris.", "stop", 0)
    assert choice.message.tool_calls is None


def test_every_kind_of_block() -> None:
    choice = answered(
        [
            {"reasoningContent": {"reasoningText": {"text": "Hm. ", "signature": "s"}}},
            {"reasoningContent": {"redactedContent": b"secret"}},
            {"text": "It is "},
            {"citationsContent": {"content": [{"text": "sunny"}], "citations": [{"title": "x"}]}},
            {"text": "."},
            TOOL,
            {"SDK_UNKNOWN_MEMBER": {"name": "of tomorrow"}},
        ],
        "tool_use",
    ).choices[0]
    assert choice.message.content == "It is sunny."
    assert choice.message.reasoning_content == "Hm. "
    call = (choice.message.tool_calls or [])[0]
    assert (call.id, call.function.name, call.function.arguments) == ("t1", "weather", '{"city":"Paris","days":2}')
    assert choice.finish_reason == "tool_calls"


def test_an_empty_answer_is_an_empty_text_and_a_call_alone_has_none() -> None:
    assert answered([]).choices[0].message.content == ""
    assert answered([TOOL], "tool_use").choices[0].message.content is None


FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


@pytest.mark.parametrize(("theirs", "ours"), FINISHES.items())
def test_finish_reasons(theirs: str, ours: str) -> None:
    assert answered(TEXT, theirs).choices[0].finish_reason == ours
    assert finishes([{"messageStop": {"stopReason": theirs}}]) == [ours]


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use", "of_tomorrow"])
def test_what_is_not_known_to_be_whole_is_told_to_be_cut(reason: str) -> None:
    assert answered(TEXT, reason).choices[0].finish_reason == "length"
    assert finishes([{"messageStop": {"stopReason": reason}}]) == ["length"]


def test_every_reason_of_the_service_model_has_a_meaning() -> None:
    import botocore.session  # type: ignore[import-untyped]

    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    known = set(FINISHES) | {"malformed_model_output", "malformed_tool_use"}
    assert set(model.shape_for("StopReason").enum) == known


# (what Bedrock says, prompt, cached, written, completion)
USAGES: list[tuple[dict[str, Any], tuple[int, int, int, int]]] = [
    (PLAIN, (9, 0, 0, 4)),
    ({**PLAIN, "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}, (9, 0, 0, 4)),
    ({**PLAIN, "cacheReadInputTokens": 100}, (109, 100, 0, 4)),
    ({**PLAIN, "cacheWriteInputTokens": 50}, (59, 0, 50, 4)),
    ({**PLAIN, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 50}, (159, 100, 50, 4)),
    (
        {**PLAIN, "cacheWriteInputTokens": 50, "cacheDetails": [{"ttl": "5m", "inputTokens": 50}]},
        (59, 0, 50, 4),
    ),
]


def test_writes_for_an_hour_are_told_apart() -> None:
    details = [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 20}]
    usage = answered(TEXT, usage={**PLAIN, "cacheWriteInputTokens": 50, "cacheDetails": details}).usage
    assert usage is not None
    assert token_counts(usage) == TokenCounts(59, 4, 0, 50, 30)


@pytest.mark.parametrize(("row", "expected"), USAGES)
def test_cached_and_written_tokens_are_within_the_prompt(
    row: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    streamed = [chunk.usage for chunk in chunks([STOP, {"metadata": {"usage": row}}]) if chunk.usage]
    for usage in (answered(TEXT, usage=row).usage, *streamed):
        assert isinstance(usage, Usage)
        counts = token_counts(usage)
        assert (
            counts.input_tokens,
            counts.cached_input_tokens,
            counts.cache_write_tokens,
            counts.output_tokens,
        ) == expected
        assert usage.total_tokens == expected[0] + expected[3]


# (what Bedrock says, input and output as far as they are told)
COUNTED: list[tuple[dict[str, Any] | None, tuple[int | None, int | None]]] = [
    (None, (None, None)),
    ({}, (None, None)),
    ({"input_tokens": 9, "output_tokens": 4}, (None, None)),
    ({"inputTokens": 9}, (9, None)),
    ({"outputTokens": 4}, (None, 4)),
    ({**PLAIN, "inputTokens": -1}, (None, 4)),
    ({**PLAIN, "outputTokens": 1e40}, (9, None)),
    ({**PLAIN, "inputTokens": "x"}, (None, 4)),
    ({**PLAIN, "cacheReadInputTokens": "x"}, (None, 4)),
    ({"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}, (None, None)),
]


def counted(usage: Usage | None) -> tuple[int | None, int | None]:
    if usage is None:
        return None, None
    return (usage.prompt_tokens if usage.has_input else None, usage.completion_tokens if usage.has_output else None)


@pytest.mark.parametrize(("row", "expected"), COUNTED)
def test_what_a_usage_tells(row: dict[str, Any] | None, expected: tuple[int | None, int | None]) -> None:
    assert counted(answered(TEXT, usage=row).usage) == expected
    read = ResponseStream({}, "m")
    metadata: dict[str, Any] = {} if row is None else {"usage": row}
    seen = [chunk for event in (delta(0, text="x"), STOP, {"metadata": metadata}) for chunk in read.chunks(event)]
    assert read.is_complete
    assert counted(seen[-1].usage) == expected


def test_nothing_said_may_have_cost_nothing() -> None:
    nothing = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    assert counted(answered([], usage=nothing).usage) == (0, 0)


@pytest.mark.parametrize("row", [{}, {"output": None}, {"output": {"message": {"content": 3}}}, {"usage": []}])
def test_what_is_no_answer(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        response_of(row, "m")


@pytest.mark.parametrize(
    ("row", "content"),
    [
        ({"output": {"message": {"content": "Paris."}}, "stopReason": "end_turn"}, "Paris."),
        ({"output": {"message": {"content": [None, {"text": "Paris."}, {"text": 3}]}}}, "Paris."),
        ({"output": {"message": {"content": [{"toolUse": {"toolUseId": "t"}}]}}}, ""),
        ({"stopReason": "end_turn"}, ""),
        ({"usage": PLAIN}, ""),
    ],
)
def test_what_is_there_is_taken(row: dict[str, Any], content: str) -> None:
    assert response_of(row, "m").choices[0].message.content == content


# --- streams ---

START = {"messageStart": {"role": "assistant"}}
STOP = {"messageStop": {"stopReason": "end_turn"}}


def begin(index: int, id_: str = "t1", name: str = "weather") -> dict[str, Any]:
    return {"contentBlockStart": {"start": {"toolUse": {"toolUseId": id_, "name": name}}, "contentBlockIndex": index}}


def delta(index: int, **row: object) -> dict[str, Any]:
    return {"contentBlockDelta": {"delta": row, "contentBlockIndex": index}}


def end(index: int) -> dict[str, Any]:
    return {"contentBlockStop": {"contentBlockIndex": index}}


def chunks(events: list[dict[str, Any]]) -> list[StreamChunk]:
    read = ResponseStream({"ResponseMetadata": {"RequestId": "r-2"}}, "a-model")
    return [chunk for event in events for chunk in read.chunks(event)]


def finishes(events: list[dict[str, Any]]) -> list[str]:
    return [c.finish_reason for chunk in chunks(events) for c in chunk.choices if c.finish_reason]


def test_a_stream_of_text() -> None:
    events = [
        START,
        delta(0, text="Pa"),
        delta(0, text=""),
        delta(0, text="ris"),
        end(0),
        STOP,
        {"metadata": {"usage": PLAIN}},
    ]
    result = chunks(events)
    assert {(chunk.id, chunk.model) for chunk in result} == {("chatcmpl-r-2", "a-model")}
    assert [c.delta.content for chunk in result for c in chunk.choices] == ["", "Pa", "ris", None]
    assert result[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in result for c in chunk.choices][-1] == "stop"
    assert result[-1].choices == []
    assert result[-1].usage is not None


def test_reasoning_and_tool_calls_in_a_stream() -> None:
    result = chunks(
        [
            START,
            delta(0, reasoningContent={"text": "Hm."}),
            delta(0, reasoningContent={"signature": "sig"}),
            delta(0, reasoningContent={"redactedContent": b"x"}),
            end(0),
            begin(1),
            delta(1, toolUse={"input": ""}),
            delta(1, toolUse={"input": '{"city"'}),
            delta(1, toolUse={"input": ':"Paris"}'}),
            end(1),
            begin(2, "t2", "now"),
            end(2),
            {"messageStop": {"stopReason": "tool_use"}},
        ]
    )
    deltas = [c.delta for chunk in result for c in chunk.choices]
    assert [d.reasoning_content for d in deltas if d.reasoning_content] == ["Hm."]
    calls = [call for d in deltas for call in d.tool_calls or ()]
    assert [(call.index, call.id, call.type, call.function and call.function.name) for call in calls] == [
        (0, "t1", "function", "weather"),
        (0, None, None, None),
        (0, None, None, None),
        (1, "t2", "function", "now"),
        (1, None, None, None),
    ]
    arguments = ["".join(c.function.arguments or "" for c in calls if c.index == i and c.function) for i in (0, 1)]
    assert arguments == ['{"city":"Paris"}', "{}"], "a call without arguments is a call with an empty object"


def test_a_stream_is_complete_after_its_end_and_its_usage() -> None:
    read = ResponseStream({}, "m")
    for event, complete in ((START, False), (STOP, False), ({"metadata": {"usage": PLAIN}}, True)):
        list(read.chunks(event))
        assert read.is_complete is complete
    unended = ResponseStream({}, "m")
    list(unended.chunks({"metadata": {"usage": PLAIN}}))
    assert not unended.is_complete


def test_a_block_without_its_index_is_the_last_one() -> None:
    events = [
        begin(0),
        delta(0, toolUse={"input": "{"}),
        delta(0, toolUse={"input": "}"}),
        end(0),
        begin(1, "t2", "now"),
    ]
    for event in events:
        (payload,) = event.values()
        del payload["contentBlockIndex"]
    calls = [call for chunk in chunks(events) for c in chunk.choices for call in c.delta.tool_calls or ()]
    assert [(call.index, call.id) for call in calls] == [(0, "t1"), (0, None), (0, None), (1, "t2")]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"SDK_UNKNOWN_MEMBER": {"name": "of tomorrow"}},
        delta(0, citation={"title": "x"}),
        delta(3, toolUse={"input": "{}"}),
        {"contentBlockStart": "x"},
        {"contentBlockDelta": {"delta": []}},
    ],
)
def test_events_that_say_nothing_to_an_application(event: dict[str, Any]) -> None:
    assert chunks([event]) == []
