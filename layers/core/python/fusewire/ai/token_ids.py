"""Token ids of OpenAI's encoding `cl100k_base` as the texts that they stand for.

LangChain's OpenAIEmbeddings sends a text as these ids by default, whatever the model. To another model they are other
words, so that they are turned back where `AI_EMBEDDING_ENCODING` says that a caller's ids are of this encoding.
To turn ids back needs no tokenizer, only the bytes of each token: `cl100k_base.bin`, which
`scripts/snapshot_encoding.py` makes of OpenAI's file.
"""

import zlib
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Final

from fusewire.ai.provider import Target
from fusewire.ai.schema import EmbeddingRequest, holds_token_ids
from fusewire.errors import InvalidRequestError

_FILE: Final = Path(__file__).with_name("cl100k_base.bin")
SIZE: Final = 100_256
"""How many tokens there are. Ids from here on are marks that no text becomes, or another encoding's."""
_MAX_CHARACTER: Final = 4
"""Bytes of a character in UTF-8."""


def as_taken(request: EmbeddingRequest, targets: Sequence[Target]) -> EmbeddingRequest:
    """The request with texts in place of token ids that none of the models takes.

    :raises InvalidRequestError: for ids that aren't of this encoding
    """
    ids = request.input
    if not holds_token_ids(ids) or any("token_ids" in provider.supports(model) for provider, model in targets):
        return request
    if isinstance(ids[0], int):
        return request.model_copy(update={"input": text_of([id for id in ids if isinstance(id, int)], "input")})
    texts = [text_of(each, f"input[{n}]") for n, each in enumerate(ids) if isinstance(each, list)]
    return request.model_copy(update={"input": texts})


def text_of(ids: Sequence[int], param: str) -> str:
    """The text that these ids stand for.

    A client that cuts a long text between tokens may cut a character in two: a part of one at either end is left out.

    :raises InvalidRequestError: naming `param`, where it isn't one of this encoding
    """
    tokens, starts = _tokens()
    if (unknown := next((id for id in ids if id >= SIZE), None)) is not None:
        raise InvalidRequestError(f"{param}: {unknown} is no token of cl100k_base ({_OTHERS}).", param=param)
    data = b"".join(tokens[starts[id] : starts[id + 1]] for id in ids)
    try:
        text = _whole_characters(data).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{param}: these ids are no text in cl100k_base ({_OTHERS}).", param=param) from None
    if not text:
        raise InvalidRequestError(f"{param}: these ids stand for no whole character.", param=param)
    return text


_OTHERS: Final = "AI_EMBEDDING_ENCODING says that this gateway's callers send its ids; send text instead"


def _whole_characters(data: bytes) -> bytes:
    start = 0
    while start < min(_MAX_CHARACTER - 1, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    for back in range(1, min(_MAX_CHARACTER, len(data) - start) + 1):
        lead = data[-back]
        if lead & 0xC0 != 0x80:
            length = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
            return data[start : len(data) - back] if length > back else data[start:]
    return data[start:]


@cache
def _tokens() -> tuple[bytes, Sequence[int]]:
    """All tokens in a row, and where each begins; the last one's end comes last."""
    data = zlib.decompress(_FILE.read_bytes())
    return data[SIZE:], tuple(accumulate(data[:SIZE], initial=0))
