"""Converse's answers, whole and in events, in the vocabulary: content, finish reasons, and usage to the token."""

from typing import Any

import pytest
from pydantic import ValidationError

from fusewire.ai.attempts import token_counts
from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.aws_answers import AnswerStream, answer_of
from fusewire.ai.vocabulary import ChatResponse, StreamChunk, Usage
from fusewire.budget.pricing import TokenCounts
from tests.support.bedrock_vendor import whole

PLAIN = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
TEXT = [{"text": "Paris."}]
TOOL = {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Paris", "days": 2}}}


def answered(
    content: list[dict[str, Any]], stop: str = "end_turn", usage: dict[str, Any] | None = PLAIN
) -> ChatResponse:
    return answer_of({**whole(content, stop, usage), "ResponseMetadata": {"RequestId": "r-1"}}, "a-model")


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
def test_a_reason_that_tells_of_no_usable_answer_is_a_failure(reason: str) -> None:
    for read in (lambda: answered(TEXT, reason), lambda: finishes([{"messageStop": {"stopReason": reason}}])):
        with pytest.raises(ProviderFailure) as caught:
            read()
        assert caught.value.kind is FailureKind.MALFORMED_ANSWER


def test_every_reason_of_the_service_model_has_a_meaning() -> None:
    import botocore.session  # type: ignore[import-untyped]

    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    known = set(FINISHES) | {"malformed_model_output", "malformed_tool_use"}
    assert set(model.shape_for("StopReason").enum) == known


# (what Bedrock says, prompt, cached, written, completion)
USAGES: list[tuple[dict[str, Any], tuple[int, int, int, int]]] = [
    (PLAIN, (9, 0, 0, 4)),
    ({"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}, (0, 0, 0, 0)),
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


@pytest.mark.parametrize(("told", "expected"), USAGES)
def test_cached_and_written_tokens_are_within_the_prompt(
    told: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    streamed = [chunk.usage for chunk in chunks([STOP, {"metadata": {"usage": told}}]) if chunk.usage]
    for usage in (answered(TEXT, usage=told).usage, *streamed):
        assert isinstance(usage, Usage)
        counts = token_counts(usage)
        assert (
            counts.input_tokens,
            counts.cached_input_tokens,
            counts.cache_write_tokens,
            counts.output_tokens,
        ) == expected
        assert usage.total_tokens == expected[0] + expected[3]


@pytest.mark.parametrize(
    "told", [None, {}, {"inputTokens": 9}, {"outputTokens": 4}, {"input_tokens": 9, "output_tokens": 4}]
)
def test_half_a_usage_is_none(told: dict[str, Any] | None) -> None:
    assert answered(TEXT, usage=told).usage is None
    read = AnswerStream({}, "m")
    metadata: dict[str, Any] = {} if told is None else {"usage": told}
    seen = [chunk for event in (STOP, {"metadata": metadata}) for chunk in read.chunks(event)]
    assert read.is_complete
    assert not any(chunk.usage for chunk in seen)


@pytest.mark.parametrize(
    "told", [{**PLAIN, "inputTokens": -1}, {**PLAIN, "outputTokens": 1e40}, {**PLAIN, "inputTokens": "x"}]
)
def test_a_usage_that_cannot_be_is_no_answer(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        answered(TEXT, usage=told)


@pytest.mark.parametrize(
    "told", [{}, {"output": None}, {"output": {"message": {"content": "x"}}, "stopReason": "end_turn"}]
)
def test_what_is_no_answer(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        answer_of(told, "m")


# --- streams ---

START = {"messageStart": {"role": "assistant"}}
STOP = {"messageStop": {"stopReason": "end_turn"}}


def begin(index: int, id_: str = "t1", name: str = "weather") -> dict[str, Any]:
    return {"contentBlockStart": {"start": {"toolUse": {"toolUseId": id_, "name": name}}, "contentBlockIndex": index}}


def delta(index: int, **told: object) -> dict[str, Any]:
    return {"contentBlockDelta": {"delta": told, "contentBlockIndex": index}}


def end(index: int) -> dict[str, Any]:
    return {"contentBlockStop": {"contentBlockIndex": index}}


def chunks(events: list[dict[str, Any]]) -> list[StreamChunk]:
    read = AnswerStream({"ResponseMetadata": {"RequestId": "r-2"}}, "a-model")
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
    told = chunks(events)
    assert {(chunk.id, chunk.model) for chunk in told} == {("chatcmpl-r-2", "a-model")}
    assert [c.delta.content for chunk in told for c in chunk.choices] == ["", "Pa", "ris", None]
    assert told[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in told for c in chunk.choices][-1] == "stop"
    assert told[-1].choices == []
    assert told[-1].usage is not None


def test_reasoning_and_tool_calls_in_a_stream() -> None:
    told = chunks(
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
    deltas = [c.delta for chunk in told for c in chunk.choices]
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
    read = AnswerStream({}, "m")
    for event, complete in ((START, False), (STOP, False), ({"metadata": {"usage": PLAIN}}, True)):
        list(read.chunks(event))
        assert read.is_complete is complete
    unended = AnswerStream({}, "m")
    list(unended.chunks({"metadata": {"usage": PLAIN}}))
    assert not unended.is_complete


def test_arguments_of_a_call_that_never_began() -> None:
    with pytest.raises(ProviderFailure) as caught:
        chunks([delta(3, toolUse={"input": "{}"})])
    assert caught.value.kind is FailureKind.MALFORMED_ANSWER


@pytest.mark.parametrize(
    "event", [{"contentBlockDelta": {"delta": {"text": "x"}}}, {"messageStop": {}}, {"contentBlockStart": "x"}]
)
def test_what_is_no_event(event: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chunks([event])


@pytest.mark.parametrize(
    "event", [{}, {"SDK_UNKNOWN_MEMBER": {"name": "of tomorrow"}}, delta(0, citation={"title": "x"})]
)
def test_events_that_say_nothing_to_an_application(event: dict[str, Any]) -> None:
    assert chunks([event]) == []
