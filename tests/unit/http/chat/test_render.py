"""Server-sent events: usage for those who asked, an error event instead of `[DONE]` when a stream breaks."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from fusewire import logs
from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import StreamChunk
from fusewire.http.chat.render import chat_events

SECRET = "sentinel-prompt-7f3a"  # noqa: S105 - what must not leak


def chunk(content: str, **more: object) -> StreamChunk:
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": None}]
    return StreamChunk.model_validate({"id": "c", "created": 1, "model": "m", "choices": choices, **more})


def usage_chunk() -> StreamChunk:
    made = StreamChunk.model_validate(
        {"id": "c", "created": 1, "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    )
    assert made.usage is not None
    made.usage.cost = Decimal("0.00000012")
    return made


def events(raw: Iterator[bytes]) -> list[Any]:
    result = []
    for piece in raw:
        assert piece.startswith(b"data: ")
        assert piece.endswith(b"\n\n")
        text = piece[6:-2].decode()
        assert "\n" not in text
        result.append(text if text == "[DONE]" else json.loads(text, parse_float=Decimal))
    return result


def test_a_whole_stream_ends_with_done() -> None:
    lines = events(chat_events([chunk("Pa\n"), chunk("ris")], include_usage=False))
    assert [event["choices"][0]["delta"]["content"] for event in lines[:-1]] == ["Pa\n", "ris"]
    assert lines[-1] == "[DONE]"


def test_usage_comes_only_when_asked_for_with_its_exact_cost() -> None:
    chunks = [chunk("x"), usage_chunk()]
    assert len(events(chat_events(chunks, include_usage=False))) == 2
    lines = events(chat_events(chunks, include_usage=True))
    assert lines[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "cost": Decimal("0.00000012")}
    assert lines[-2]["choices"] == []
    assert lines[-1] == "[DONE]"


def test_a_surrogate_pair_that_a_server_cut_in_two_arrives_whole() -> None:
    lines = events(chat_events([chunk("\ud83d"), chunk("\ude00")], include_usage=False))
    halves = "".join(event["choices"][0]["delta"]["content"] for event in lines[:-1])
    assert halves.encode("utf-16", "surrogatepass").decode("utf-16") == "\N{GRINNING FACE}"


def test_an_empty_stream_is_done() -> None:
    assert events(chat_events([], include_usage=True)) == ["[DONE]"]


def broken(error: Exception) -> Iterator[StreamChunk]:
    yield chunk("Pa")
    raise error


def test_a_broken_stream_ends_with_an_error_and_no_done() -> None:
    lines = events(chat_events(broken(StreamBrokenError("openai dropped the connection")), include_usage=True))
    assert len(lines) == 2
    error = lines[-1]["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["code"] == "stream_broken"
    assert "openai dropped the connection" in error["message"]


def test_a_bug_in_mid_stream_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    lines = events(chat_events(broken(ValueError(SECRET)), include_usage=True))
    assert lines[-1]["error"]["code"] == "internal_error"
    [record] = caplog.records
    printed = logs.logger.registered_handler.format(record)
    line = json.loads(printed)
    assert (line["event"], line["error_type"]) == ("function.error", "ValueError")
    assert re.fullmatch(r"test_render\.py:\d+ broken", line["location"]), "as of any other bug"
    assert SECRET not in json.dumps(lines, default=str) + printed


def test_hanging_up_closes_the_chunks() -> None:
    ended = []

    def endless() -> Iterator[StreamChunk]:
        try:
            while True:
                yield chunk("x")
        finally:
            ended.append(True)

    stream = chat_events(endless(), include_usage=False)
    next(stream)
    stream.close()  # type: ignore[attr-defined] # a generator, seen as what it promises
    assert ended == [True]
