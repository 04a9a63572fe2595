"""The tokens of a text in one of OpenAI's published vocabularies, so that they bound it wherever it stands in a prompt.

OpenAI's tokenizer first splits a text into pieces by a regular expression, from left to right, and then each piece into
tokens. What stands before or behind a text can change how its ends are split, and so their tokens: not by any constant,
for in a run of digits every group of three would be another. But no piece reaches from a letter or a digit over the
space or punctuation that follows it, whatever stands around them. Between the first such place and the last one the
tokens are exactly the tokenizer's; what is outside of them counts by its bytes, which are never fewer than its tokens.

The tokenizer is OpenAI's own (tiktoken), with the vocabulary that is shipped here, since tiktoken would fetch it from
the network. It is loaded for the first prompt that is worth it. Where it can't be, bytes count.
See docs/decisions/0020-tight-bounds.md.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from fusewire.ai.counting import Encoding
from fusewire.ai.text_bounds import plain_bytes

MAX_CHARACTERS: Final = 2 * 1024 * 1024
"""Of a text that is counted: longer ones are over every context window."""

_CUT: Final = re.compile(
    "[A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0391-\u03a1\u03a3-\u03a9\u03b1-\u03c9\u0410-\u044f"
    "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3]"
    r"""(?=[\s!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~"""
    "\u3001\u3002\uff0c\uff0e\uff01\uff1f\uff1b\uff1a\u300c\u300d\u300e\u300f\uff08\uff09\u2026\u2014\u2013])"
)
"""The last character before a place where two pieces always part: letters and digits that every edition of Unicode has
as such, and what is neither a letter, a mark, a digit nor the apostrophe of `it's`."""
_STRETCH: Final = 8192
"""Characters that are counted at once. A longer one without such a place counts by its bytes: tiktoken aborts on a
million spaces, and takes long for a million letters."""
_NEAR: Final = 256
"""Characters at a stretch's end in which its last such place is looked for first."""


class _Published(NamedTuple):
    size: int
    pattern: str


_O200K: Final = "|".join((
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
))  # fmt: skip
_CL100K: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
_PUBLISHED: Final[Mapping[Encoding, _Published]] = {
    "o200k_base": _Published(199_998, _O200K),
    "cl100k_base": _Published(100_256, _CL100K),
}
"""As tiktoken's `tiktoken_ext/openai_public.py` has them (MIT licence, Copyright (c) 2022 OpenAI, Shantanu Jain)."""


def text_tokens(text: str, encoding: Encoding) -> int:
    """The most tokens of this text, whatever stands before and behind it."""
    count = _tokenizer(encoding)
    if count is None or len(text) > MAX_CHARACTERS or (first := _CUT.search(text)) is None:
        return plain_bytes(text)
    place = first.end()
    tokens = plain_bytes(text[:place])
    while place < len(text):
        if (end := _last_cut(text, place, place + _STRETCH)) is not None:
            tokens += count(text[place:end])
        else:
            following = _CUT.search(text, place + _STRETCH)
            end = len(text) if following is None else following.end()
            tokens += plain_bytes(text[place:end])
        place = end
    return tokens


def _last_cut(text: str, start: int, stop: int) -> int | None:
    """The last place after `start` and not beyond `stop` where two pieces part for sure."""
    for begin in (max(start, stop - _NEAR), start):
        ends = [found.end() for found in _CUT.finditer(text, begin, stop + 1)]
        if ends:
            return ends[-1]
    return None


@cache
def _tokenizer(encoding: Encoding) -> Callable[[str], int] | None:
    try:
        module = import_module("tiktoken._tiktoken")
    except ImportError:
        return None
    core: Any = module.CoreBPE(token_ranks(encoding), {}, _PUBLISHED[encoding].pattern)

    def count(text: str) -> int:
        try:
            return len(core.encode_ordinary(text))
        except UnicodeEncodeError:  # half a surrogate pair
            return plain_bytes(text)

    return count


def token_ranks(encoding: Encoding) -> dict[bytes, int]:
    """Each token's bytes with its id, which is its rank."""
    size = _PUBLISHED[encoding].size
    data = zlib.decompress(Path(__file__).with_name(f"{encoding}.bin").read_bytes())
    starts = tuple(accumulate(data[:size], initial=size))
    return {data[start:end]: id for id, (start, end) in enumerate(pairwise(starts))}
