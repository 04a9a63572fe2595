"""Token ids as the texts that they stand for."""

import hashlib
from itertools import pairwise

import pytest

from fusewire.ai import token_ids
from fusewire.ai.token_ids import text_of
from fusewire.errors import InvalidRequestError
from scripts.snapshot_encoding import PUBLISHED, packed, published_form, snapshot, tokens_in


def tokens() -> list[bytes]:
    tokens, starts = token_ids._tokens()
    return [tokens[start:end] for start, end in pairwise(starts)]


def test_the_vocabulary_is_the_one_that_openai_publishes() -> None:
    published = published_form(tokens())
    assert hashlib.sha256(published).hexdigest() == PUBLISHED["cl100k_base"]
    assert packed(tokens_in(published, "cl100k_base")) == snapshot("cl100k_base").read_bytes()
    assert len(tokens()) == token_ids.SIZE
    with pytest.raises(ValueError, match="isn't the file"):
        tokens_in(published[:-1], "cl100k_base")


# What tiktoken 0.14 makes of these texts.
TEXTS = [
    ([9906, 1917], "Hello world"),
    ([15339, 1917, 0], "hello world!"),
    ([83, 1609, 5963, 374, 2294, 0], "tiktoken is great!"),
    ([9468, 99, 243, 9468, 234, 235], "\N{SAUROPOD}\N{EARTH GLOBE EUROPE-AFRICA}"),
    ([220], " "),
]


@pytest.mark.parametrize(("ids", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_ids_are_a_text(ids: list[int], text: str) -> None:
    assert text_of(ids, "input") == text


def id_of(token: bytes) -> int:
    return tokens().index(token)


def test_a_character_that_was_cut_in_two_is_left_out_at_either_end() -> None:
    first, second, third = (id_of(bytes([byte])) for byte in "\u20ac".encode())
    a = id_of(b"a")
    assert text_of([a, first, second], "input") == "a"
    assert text_of([second, third, a], "input") == "a"
    assert text_of([first, second, third], "input") == "\u20ac"
    for ids in ([second], [first, second], [third, first]):
        with pytest.raises(InvalidRequestError, match="no whole character"):
            text_of(ids, "input")


@pytest.mark.parametrize("id", [100_256, 100_257, 100_276, 199_999, 2**70])
def test_another_vocabularys_id_is_refused_by_its_place(id: int) -> None:
    with pytest.raises(InvalidRequestError, match="cl100k_base") as refused:
        text_of([9906, id], "input[3]")
    assert refused.value.param == "input[3]"


def test_what_is_no_text_is_refused() -> None:
    lead, a = id_of(b"\xe2"), id_of(b"a")
    with pytest.raises(InvalidRequestError, match="no text in cl100k_base"):
        text_of([a, lead, a], "input")
