"""Anthropic's answers read: what blocks become, finish reasons, and streams however they are cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.providers.anthropic.response import StreamReader
from tests.unit.ai.providers.anthropic.messages import COUNTS, answered, begun, ended, message, read

FINISHES = [
    ("end_turn", "stop"),
    ("stop_sequence", "stop"),
    ("tool_use", "tool_calls"),
    ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"),
    ("refusal", "content_filter"),
    ("pause_turn", "length"),
    ("something_new", "length"),
]


@pytest.mark.parametrize(("reason", "finish"), FINISHES)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert answered(message(stop_reason=reason)).choices[0].finish_reason == finish
    chunks = read(begun(COUNTS), *ended(COUNTS, reason))
    assert [c.finish_reason for chunk in chunks for c in chunk.choices] == [None, finish]


@pytest.mark.parametrize("explanation", ["It could do harm.", None])
def test_a_refusal_says_why_where_the_vendor_does(explanation: str | None) -> None:
    details = {"type": "refusal", "category": None, "explanation": explanation}
    result = answered(message(content=[], stop_reason="refusal", stop_details=details)).choices[0].message
    assert (result.content, result.refusal) == ("", explanation)
    chunks = read(begun(COUNTS), *ended(COUNTS, "refusal", stop_details=details))
    assert chunks[1].choices[0].delta.refusal == explanation


def test_what_blocks_become() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm, ", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "yes.", "signature": "s"},
        {"type": "text", "text": "Let me "},
        {"type": "a_block_of_tomorrow", "text": "!", "odd": [1]},
        {"type": "text", "text": "look."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich", "n": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
    ]
    result = answered(message(content=content, stop_reason="tool_use")).choices[0].message
    assert (result.content, result.reasoning_content) == ("Let me look.", "Hm, yes.")
    assert [(c.id, c.function.name, c.function.arguments) for c in result.tool_calls or ()] == [
        ("toolu_1", "weather", '{"city":"Zürich","n":1}'),
        ("toolu_2", "time", "{}"),
    ]


def test_only_calls_means_no_content_and_nothing_at_all_means_empty_content() -> None:
    calls = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]
    assert answered(message(content=calls)).choices[0].message.content is None
    assert answered(message(content=[])).choices[0].message.content == ""


def test_callers_see_the_fields_that_openai_sends() -> None:
    result = answered(message()).model_dump(exclude_unset=True)
    assert result.keys() == {"id", "object", "created", "model", "choices", "usage"}
    assert result["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    chunk = read(begun(COUNTS))[0].model_dump(exclude_unset=True)
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        message()[:-30],
        message(type="error"),
        message(content=None, stop_reason=None, usage=None),
        b'{"type":"message","id":"msg_1","content":[]}',
    ],
)
def test_what_is_no_message_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        answered(raw)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": None}, ("", None, [])),
        ({"content": "Paris."}, ("Paris.", None, [])),
        ({"content": [{"text": "Pa"}, None, 3, {"type": "text", "text": ["x"]}]}, ("Pa", None, [])),
        ({"content": [{"type": "tool_use", "id": "t", "name": "f"}]}, (None, None, [("f", "{}")])),
        ({"content": [{"type": "tool_use", "id": "t", "name": "f", "input": "{1}"}]}, (None, None, [("f", "{1}")])),
        ({"content": [{"type": "tool_use", "id": "t", "input": {}}]}, ("", None, [])),
        (
            {"content": [{"type": "tool_use", "name": "f", "input": {"x": float("nan")}}]},
            (None, None, [("f", '{"x": NaN}')]),
        ),
    ],
)
def test_what_is_there_is_taken(
    fields: dict[str, Any], expected: tuple[str | None, str | None, list[tuple[str, str]]]
) -> None:
    said = answered(message(**fields)).choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in said.tool_calls or ()]
    assert (said.content, said.reasoning_content, calls) == expected
    assert all(0 < len(call.id) <= 40 for call in said.tool_calls or ())


# --- streams ---


@pytest.mark.parametrize("event", [{"index": 0}, {"type": "content_block_delta", "index": "zero"}, "[DONE]", None])
def test_what_is_no_event_is_passed_over(event: object) -> None:
    assert list(StreamReader("asked").read(event)) == []


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}},
        {"type": "content_block_delta", "delta": {"text": "x"}},
    ],
)
def test_content_without_the_messages_start_has_a_frame_all_the_same(event: dict[str, Any]) -> None:
    reader = StreamReader("asked")
    chunks = [chunk for each in (event, *ended(COUNTS)) for chunk in reader.read(each)]
    assert reader.begun
    assert chunks[0].choices[0].delta.content == "x"
    assert {chunk.model for chunk in chunks} == {"asked"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ping"},
        {"type": "an_event_of_tomorrow", "delta": {"type": "x"}},
        {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}},
    ],
)
def test_events_that_say_nothing_to_a_caller_are_passed_over(event: dict[str, Any]) -> None:
    assert len(read(begun(COUNTS), event)) == 1


def test_a_stream_is_whole_only_after_its_last_event_and_a_reason() -> None:
    reader = StreamReader("asked")
    delta, stop = ended(COUNTS)
    for event, done in ((begun(COUNTS), False), (stop, False), (delta, False), (stop, True)):
        list(reader.read(event))
        assert reader.done is done


def test_a_stream_that_says_it_is_over_is_whole_without_a_reason() -> None:
    reader = StreamReader("asked")
    word = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
    chunks = [chunk for event in (begun(COUNTS), word, {"type": "message_stop"}) for chunk in reader.read(event)]
    assert reader.done
    assert [c.finish_reason for chunk in chunks for c in chunk.choices] == [None, None, "stop"]


PIECE = st.text(max_size=4)


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    texts = st.lists(PIECE, min_size=1, max_size=4)
    inputs = st.dictionaries(PIECE, st.integers() | PIECE, max_size=3)
    block = (
        st.builds(lambda pieces: {"type": "text", "pieces": pieces}, texts)
        | st.builds(lambda pieces: {"type": "thinking", "pieces": pieces}, texts)
        | st.builds(lambda given: {"type": "tool_use", "name": "f", "input": given}, inputs)
    )
    return draw(st.lists(block, max_size=5))


def cut(text: str, at: int) -> list[str]:
    return [text[:at], text[at:]]


@given(blocks=answers(), at=st.integers(0, 20))
def test_a_streams_pieces_make_the_whole_answer(blocks: list[dict[str, Any]], at: int) -> None:
    whole: list[dict[str, Any]] = []
    events = [begun(COUNTS)]
    for index, block in enumerate(blocks):
        kind = block["type"]
        if kind == "tool_use":
            result: dict[str, Any] = {"type": kind, "id": f"toolu_{index}", "name": "f"}
            deltas = [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in (cut(json.dumps(block["input"]), at) if block["input"] else ())
            ]
            start, done = result | {"input": {}}, result | {"input": block["input"]}
        else:
            name = "text" if kind == "text" else "thinking"
            deltas = [{"type": f"{kind}_delta", name: piece} for piece in block["pieces"]]
            start, done = {"type": kind, name: ""}, {"type": kind, name: "".join(block["pieces"])}
        whole.append(done)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    chunks = read(*events, *ended(COUNTS))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    said = answered(message(content=whole)).choices[0].message
    assert "".join(c.delta.content or "" for c in choices) == (said.content or "")
    assert "".join(c.delta.reasoning_content or "" for c in choices) == (said.reasoning_content or "")
    calls: dict[int, list[str]] = {}
    for delta in (call for c in choices for call in c.delta.tool_calls or ()):
        assert delta.function is not None
        if delta.id is not None:
            assert (delta.index, delta.function.name, delta.type) == (len(calls), "f", "function")
            calls[delta.index] = [delta.id, ""]
        calls[delta.index][1] += delta.function.arguments or ""
    assert [(name, json.loads(arguments)) for name, arguments in calls.values()] == [
        (call.id, json.loads(call.function.arguments)) for call in said.tool_calls or ()
    ]
    assert chunks[-1].usage == answered(message()).usage
