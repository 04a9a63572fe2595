"""Streams in OpenAI's protocol: calls however they are numbered, and which counts are totals."""

from typing import Any

import pytest

from fusewire.ai.providers.openai_stream import StreamReader
from fusewire.ai.schema import StreamChunk


def read(*events: object, n: int = 1) -> tuple[StreamReader, list[StreamChunk]]:
    reader = StreamReader("m", n)
    return reader, [chunk for event in events if (chunk := reader.read(event)) is not None]


def delta(finish: str | None = None, index: int = 0, **said: object) -> dict[str, Any]:
    return {
        "id": "c",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": said, "finish_reason": finish}],
    }


def parts_of(chunks: list[StreamChunk]) -> dict[int, tuple[str, str]]:
    """Each call's name and arguments, put together by index as every client does."""
    calls: dict[int, tuple[str, str]] = {}
    for part in (part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()):
        name, arguments = calls.get(part.index, ("", ""))
        function = part.function
        calls[part.index] = (
            name + ((function and function.name) or ""),
            arguments + ((function and function.arguments) or ""),
        )
    return calls


def part(name: str | None, arguments: str | None, **more: object) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


# (source, the parts as they come, each in a chunk)
NUMBERED: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "OpenAI",
        [
            part("a", "", index=0, id="1"),
            part(None, "{1}", index=0),
            part("b", "", index=1, id="2"),
            part(None, "{2}", index=1),
        ],
    ),
    ("ollama/ollama#15457", [part("a", "{1}", index=0, id="1"), part("b", "{2}", index=0, id="2")]),
    (
        "apache/maka#1976, in parts",
        [
            part("a", "{", index=0, id="1"),
            part(None, "1}", index=0),
            part("b", "{", index=0, id="2"),
            part(None, "2}", index=0),
        ],
    ),
    (
        "QwenLM/Qwen-Agent#943, in turn",
        [
            part("a", "{", index=0, id="1"),
            part("b", "{", index=1, id="2"),
            part(None, "1}", index=0),
            part(None, "2}", index=1),
        ],
    ),
    ("openai/openai-python#2806", [part("a", "{1}"), part("b", "{2}")]),
    (
        "open-webui/computer#224",
        [part("a", "{", id="1"), part(None, "1}"), part("b", "{", id="2"), part("", "2}", id="")],
    ),
    (
        "oracle/langchain-oracle#254, by id",
        [part("a", "{", id="1"), part("b", "{", id="2"), part(None, "1}", id="1"), part(None, "2}", id="2")],
    ),
    (
        "anomalyco/opencode#37841",
        [part("a", "{", index=0, id="1"), part("", "1}", index=0, id=""), part("b", "{2}", index=1, id="2")],
    ),
    (
        "vercel/ai#16507, the name later",
        [part("", "", index=0, id="1"), part("a", "{1}", index=0), part("b", "{2}", index=1, id="2")],
    ),
    (
        "another id with each part",
        [part("a", "{", index=0, id="1"), part(None, "1}", index=0, id="7"), part("b", "{2}", index=1, id="2")],
    ),
]


@pytest.mark.parametrize("parts", [row[1] for row in NUMBERED], ids=[row[0] for row in NUMBERED])
def test_calls_are_told_apart_however_they_are_numbered(parts: list[dict[str, Any]]) -> None:
    reader, chunks = read(*(delta(tool_calls=[each]) for each in parts), delta("tool_calls"))
    assert parts_of(chunks) == {0: ("a", "{1}"), 1: ("b", "{2}")}
    assert reader.called == {"a", "b"}
    begun = [part for chunk in chunks for c in chunk.choices for part in c.delta.tool_calls or () if part.id]
    assert [(part.index, part.type) for part in begun] == [(0, "function"), (1, "function")]
    assert len({part.id for part in begun}) == 2


def test_parts_of_no_call_are_passed_over() -> None:
    _, chunks = read(delta(tool_calls=[part(None, "{}", index=3), "x", None, {}]), delta(tool_calls={"index": 0}))
    assert chunks == []


@pytest.mark.parametrize("event", [None, [], "x", 7, {}, {"choices": "x"}, {"choices": [None, 3]}, {"usage": []}])
def test_events_that_say_nothing_are_passed_over(event: object) -> None:
    reader, chunks = read(event, delta(content="x"), event, delta("stop"), event)
    assert len(chunks) == 2
    assert reader.is_complete


COUNTED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


# (the events after the content, whether the answer is complete)
ENDS: list[tuple[str, list[dict[str, Any]], bool]] = [
    ("a reason", [delta("stop")], True),
    ("nothing", [], False),
    ("usage beside content is no end", [delta(content="x") | {"usage": COUNTED}], False),
    ("usage alone", [{"choices": [], "usage": COUNTED}], True),
    ("usage alone, and then more", [{"choices": [], "usage": COUNTED}, delta(content="x")], False),
    ("an empty reason where null came before", [delta("")], True),
    ("an empty reason where null is said so", [delta("", content="x"), delta("")], False),
]


@pytest.mark.parametrize(("events", "complete"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_a_stream_is_whole_only_by_the_vendors_word(events: list[dict[str, Any]], complete: bool) -> None:
    reader, _ = read(delta(content="Pa"), *events)
    assert reader.is_complete is complete


def test_each_of_several_choices_has_to_end() -> None:
    reader, _ = read(delta("stop", content="x"), delta(index=1, content="y"), n=2)
    assert not reader.is_complete
    reader, _ = read(delta("stop", content="x"), delta("stop", index=1, content="y"), n=2)
    assert reader.is_complete
    assert list(reader.last()) == []


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [delta(content="a") | {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}, delta("stop", content="b")],
            (9, None),
        ),
        (
            [
                delta(content="a") | {"usage": {"prompt_tokens": 9, "completion_tokens": 1}},
                delta("stop") | {"usage": {}},
            ],
            (9, 1),
        ),
        (
            [delta(content="a") | {"usage": COUNTED}, delta("stop", content="b") | {"usage": {"completion_tokens": 7}}],
            (9, 7),
        ),
        ([delta("stop", content="a") | {"usage": COUNTED}, {"choices": [], "usage": {"prompt_tokens": "x"}}], (9, 4)),
        ([delta("stop", content="a"), {"choices": None, "usage": COUNTED}], (9, 4)),
    ],
    ids=[
        "a count before the last content is no total",
        "no content since",
        "the last counts",
        "a worse one after it",
        "beside null",
    ],
)
def test_which_of_a_streams_counts_are_totals(events: list[dict[str, Any]], expected: tuple[int, int | None]) -> None:
    reader, chunks = read(*events)
    assert not any(chunk.usage for chunk in chunks)
    (last,) = reader.last()
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens if last.usage.has_output else None) == expected
