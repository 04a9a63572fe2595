"""Answers in OpenAI's protocol, whole or streamed, of anything at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.providers.openai_message import finish_reason
from fusewire.ai.providers.openai_response import embeddings_of, whole_response
from fusewire.ai.providers.openai_stream import StreamReader

numbers = st.integers(0, 2**53)


@pytest.mark.parametrize("word", ["stop", "length", "tool_calls", "content_filter", "function_call"])
def test_openais_own_reasons_stay_as_they_are(word: str) -> None:
    assert finish_reason(word, calls=word == "tool_calls") == word
    assert finish_reason(word.upper(), calls=word == "tool_calls") == word


@pytest.mark.parametrize(("word", "calls", "expected"), [("stop", True, "tool_calls"), ("tool_calls", False, "stop")])
def test_the_end_is_by_what_is_there(word: str, calls: bool, expected: str) -> None:
    assert finish_reason(word, calls=calls) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(""),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Each of them, anything in its place, or nothing."""
    return st.fixed_dictionaries({}, optional={name: value | json_values for name, value in fields.items()})


USAGE = some(
    prompt_tokens=numbers,
    completion_tokens=numbers,
    total_tokens=numbers,
    prompt_tokens_details=some(cached_tokens=numbers),
    completion_tokens_details=some(reasoning_tokens=numbers),
)
CALL = some(
    index=st.integers(0, 2),
    id=st.text(max_size=2),
    type=st.just("function"),
    extra_content=json_values,
    function=some(name=st.text(max_size=2), arguments=st.text(max_size=2)),
)
MESSAGE = some(
    role=st.just("assistant"), content=st.text(max_size=3), reasoning=json_values, tool_calls=st.lists(CALL, max_size=3)
)
ANSWER = some(
    id=st.text(max_size=3),
    created=numbers,
    choices=st.lists(
        some(
            index=st.integers(0, 2),
            message=MESSAGE,
            delta=MESSAGE,
            finish_reason=st.text(max_size=3),
            logprobs=json_values,
        ),
        max_size=3,
    ),
    usage=USAGE,
)


@given(ANSWER)
def test_whatever_is_sent_is_an_answer_or_none(answer: dict[str, Any]) -> None:
    try:
        response = whole_response(json.dumps(answer).encode(), "m")
    except ValueError as error:
        assert str(error) == "neither choices nor usage"
        return
    assert response.model_dump_json(exclude_unset=True)
    assert response.id
    assert response.choices


@given(st.lists(ANSWER | json_values, max_size=5), st.integers(1, 2))
def test_whatever_is_streamed_is_chunks_or_nothing(events: list[object], n: int) -> None:
    reader = StreamReader("m", n)
    chunks = [chunk for event in events if (chunk := reader.read(event)) is not None]
    for chunk in (*chunks, *reader.last()):
        assert chunk.id
        assert chunk.model_dump(exclude_unset=True)


def test_an_embeddings_envelope_is_filled_in() -> None:
    raw = {"data": [{"embedding": [0.5]}, {"embedding": [1]}], "usage": {"total_tokens": 3, "prompt_tokens": None}}
    response = embeddings_of(json.dumps(raw).encode(), "asked")
    assert [(item.index, item.embedding) for item in response.data] == [(0, [0.5]), (1, [1.0])]
    assert response.model == "asked"
    assert response.usage is not None
    assert response.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": -1}, {"prompt_tokens": 0, "total_tokens": 0}, {"prompt_tokens": 1.5}]
)
def test_an_embeddings_usage_that_cannot_be_is_none(usage: object) -> None:
    raw = {"data": [{"embedding": [0.5], "index": 0}], "model": "m", "usage": usage}
    assert embeddings_of(json.dumps(raw).encode(), "m").usage is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data": []}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"embedding": ["x"]}]}',
        b'{"data": [{"embedding": [1e999]}]}',
    ],
)
def test_what_has_no_vectors_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        embeddings_of(raw, "m")
