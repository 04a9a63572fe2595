"""A text's tokens in OpenAI's vocabularies bound it wherever it stands.

Where tiktoken isn't installed the gateway counts bytes, and what is compared with it is skipped.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusewire.ai import exact_tokens
from fusewire.ai.counting import Encoding
from fusewire.ai.exact_tokens import text_tokens, token_ranks
from fusewire.ai.text_bounds import plain_bytes
from scripts.snapshot_encoding import PUBLISHED, packed, published_form, snapshot, tokens_in

ENCODINGS: Final[tuple[Encoding, ...]] = get_args(Encoding)


def tokens_of(encoding: Encoding) -> Callable[[str], int]:
    """OpenAI's own count of a text that stands alone."""
    core = pytest.importorskip("tiktoken._tiktoken")
    pattern = exact_tokens._PUBLISHED[encoding].pattern
    counter: Any = _counters.get(encoding) or core.CoreBPE(token_ranks(encoding), {}, pattern)
    _counters[encoding] = counter
    return lambda text: len(counter.encode_ordinary(text))


_counters: dict[Encoding, object] = {}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_vocabulary_is_the_one_that_openai_publishes(encoding: Encoding) -> None:
    tokens = list(token_ranks(encoding))
    published = published_form(tokens)
    assert hashlib.sha256(published).hexdigest() == PUBLISHED[encoding]
    assert packed(tokens_in(published, encoding)) == snapshot(encoding).read_bytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_pattern_is_the_one_that_openai_publishes(encoding: Encoding) -> None:
    published = pytest.importorskip("tiktoken_ext.openai_public")
    made: dict[str, object] = {}
    published.load_tiktoken_bpe = lambda *_, **__: made
    assert getattr(published, encoding)()["pat_str"] == exact_tokens._PUBLISHED[encoding].pattern


# Whatever a tokenizer may take apart in another way at a seam.
PIECES = [
    "it's", "'s", "'", "I'LL", " ", "  ", "\n", "\r\n", "\t", "1", "12", "123", "1234567", "a", "Word", "HTTPServer",
    "wordword", "é", "e\u0301", "\u0301", "日本", "語", "。", "東京は日本の首都です。", "ひらがな", "カタカナー", "・",
    "한국어", "٠١٢٣", "²", "½", "Ⅷ", "...", "!!", "//", "/\n", "}\n", "_", "-", "\u00a0", "\u2028", "\ufdfa", "🙂",
    "👩\u200d👩\u200d👧", "\x00", "\x1c", "กขค", "ab\u0327c", "ǅ", "ß", "\U0001d400",
]  # fmt: skip
words = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=14).map("".join)


@settings(max_examples=400, deadline=None)
@given(words, words, words, st.sampled_from(ENCODINGS))
def test_no_neighbour_makes_more_tokens_of_a_text(before: str, text: str, after: str, encoding: Encoding) -> None:
    whole = tokens_of(encoding)(before + text + after)
    assert whole <= plain_bytes(before) + text_tokens(text, encoding) + plain_bytes(after)


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=6), st.sampled_from(["", " ", "\n", "\n\n"]), st.sampled_from(ENCODINGS))
def test_no_join_of_texts_has_more_tokens_than_they_have(texts: list[str], joint: str, encoding: Encoding) -> None:
    bound = sum(text_tokens(text, encoding) for text in texts) + len(joint) * max(len(texts) - 1, 0)
    assert tokens_of(encoding)(joint.join(texts)) <= bound


@settings(max_examples=200, deadline=None)
@given(words, st.sampled_from(ENCODINGS))
def test_what_is_counted_is_close_to_the_count(text: str, encoding: Encoding) -> None:
    assert tokens_of(encoding)(text) <= text_tokens(text, encoding) <= plain_bytes(text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_prose_costs_its_tokens_and_a_word_at_either_end(encoding: Encoding) -> None:
    prose = "The quick brown fox jumps over the lazy dog. " * 2000
    assert text_tokens(prose, encoding) <= tokens_of(encoding)(prose) + 12


RUNS = {
    "letters": "a",
    "spaces": " ",
    "line ends": "\n",
    "digits": "7",
    "punctuation": "!",
    "marks": "\u0301",
    "kanji": "漢",
    "letters in turn": "aB",
    "white space in turn": " \t\n",
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("length", [8000, 1_000_000])
def test_a_run_without_a_break_neither_aborts_nor_takes_long(run: str, length: int) -> None:
    """tiktoken aborts on a million spaces, and takes a second for a million letters."""
    tokens_of("o200k_base")
    text_tokens("loaded, first.", "o200k_base")
    text = "It is, so, " + run * (length // len(run)) + " and, ends."
    started = time.thread_time()
    bound = text_tokens(text, "o200k_base")
    assert time.thread_time() - started < 2
    assert bound <= plain_bytes(text)


def test_without_a_tokenizer_bytes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(exact_tokens, "import_module", missing)
    exact_tokens._tokenizer.cache_clear()
    try:
        assert text_tokens("Hello, 世界. " * 50, "o200k_base") == len(("Hello, 世界. " * 50).encode())
    finally:
        exact_tokens._tokenizer.cache_clear()


def test_half_a_surrogate_pair_is_bounded() -> None:
    text = "One, two, \ud800 three, four."
    assert text_tokens(text, "o200k_base") <= plain_bytes(text)
