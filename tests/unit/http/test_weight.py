"""How many values a body may hold, told apart from the commas of a prompt."""

import json
import time

import pytest

from fusewire.http.weight import MOST_VALUES, is_heavier

MANY = MOST_VALUES + 10


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * MANY + b"0]",
        b'{"messages":[' + b"{}," * MANY + b"{}]}",
        b"[" * MANY,
        b'{"a":' * MANY,
        b"[" + (b"[" * 90 + b"]" * 90 + b",") * (MANY // 80) + b"0]",
        b'["\\"",' + b'"a",' * MANY + b'"\\\\"]',
        b'["never closed\\",' + b'"' + b"0," * MANY,
    ],
)
def test_many_values_are_heavy(body: bytes) -> None:
    assert is_heavier(body)


@pytest.mark.parametrize(
    "text",
    ["1,2,3;" * MANY, '{"a": [1, 2]}' * MANY, '"' * MANY + "," * MANY, "\\" * MANY + "[" * MANY, "\n,\u65e5" * MANY],
)
def test_a_prompt_may_hold_what_it_likes(text: str) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only).encode()
        assert not is_heavier(body)


def test_the_limit_is_the_callers() -> None:
    body = b"[" + b"0," * 150_000 + b"0]"
    assert is_heavier(body)
    assert not is_heavier(body, 400_000)


@pytest.mark.parametrize("piece", [b'"', b'\\"', b"\\", b'",', b'"\\",'])
def test_no_body_takes_long(piece: bytes) -> None:
    body = b"," * MANY + b'"' + piece * (5_000_000 // len(piece))
    begun = time.process_time()
    is_heavier(body)
    assert time.process_time() - begun < 3
