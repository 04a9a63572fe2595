"""How OpenAI's own models count their input, at OpenAI and at Azure.

Source of the vocabularies: `model.py` of OpenAI's tiktoken.
How tools are written into the prompt isn't published. They have been seen as declarations in TypeScript, and beside
them a text about parallel calls (openai/tiktoken#160, hmarr/openai-chat-tokens, Ironclad/rivet#237).
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from fusewire.ai.counting import ANY_SERVER, Counting, Encoding
from fusewire.ai.image_tokens import openai_image_tokens

_O200K: Final = re.compile(r"(?:chatgpt-4o|gpt-4o|gpt-4\.[15]|gpt-5(?:\.\d+)?|o[134])(?![a-z0-9.])")
_CL100K: Final = re.compile(r"gpt-(?:4|3\.5|35)(?![a-z0-9.])")
_OWN: Final = re.compile(r"gpt-(?!oss|image|realtime|audio)\d|chatgpt-|o\d(?![a-z0-9])|codex-mini|computer-use")

HIDDEN_TOKENS: Final = 256
"""Around the declarations of tools, or around a schema: some 20, and about 150 for the text about parallel calls."""


@lru_cache(maxsize=256)
def openai_counting(model: str) -> Counting:
    """:param model: its name at OpenAI, in small letters, whatever stands before it"""
    name = model.rpartition("/")[2].removeprefix("ft:")
    if not _OWN.match(name):
        return ANY_SERVER
    encoding: Encoding | None = "o200k_base" if _O200K.match(name) else "cl100k_base" if _CL100K.match(name) else None
    return replace(
        ANY_SERVER,
        images=openai_image_tokens(name),
        hidden_tool_tokens=HIDDEN_TOKENS,
        hidden_schema_tokens=HIDDEN_TOKENS,
        own_template=False,
        encoding=encoding,
    )
