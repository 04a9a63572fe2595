"""How a model's server counts its input, as far as its vendor has published that.

What isn't known stays at the widest that any server may do, so that the defaults here bound every model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Encoding = Literal["o200k_base", "cl100k_base"]
"""One of OpenAI's published vocabularies."""

TOKENS_PER_REQUEST: Final = 96
"""What a vendor's own server adds once: the answer's priming and a default system text (Harmony's is the longest one
known, about 70 tokens)."""

TEMPLATE_TOKENS: Final = 1024
"""What a server adds once that renders a model's own chat template: the default of `<PROVIDER>_TEMPLATE_TOKENS`. The
default system text takes 20 to 30 tokens in SmolLM2's and Llama 3's, 200 in Mistral Small 3's under llama.cpp, and
about 600, the most that is known, in Mistral Small 3.2's (kekzl/imp#78)."""

TOKENS_FOR_TOOLS: Final = 1024
"""The hidden text that comes with tools, of any server. Qwen's and Hermes' templates add about 150."""

MAX_IMAGE_TOKENS: Final = 49_152
"""The most that one image is billed at: gpt-4o-mini counts 2,833 + 5,667 for each of up to 8 tiles, 48,169 tokens
(OpenAI, "Images and vision: calculating costs"); every other documented model stays below 20,000."""


class ImageSize(NamedTuple):
    """In pixels, each at least 1."""

    width: int
    height: int


ImageTokens = Callable[[ImageSize | None, str], int]
"""The bound of an image of this size, None where it isn't known, at this `detail`: `auto`, `low` or `high`."""


def any_image(size: ImageSize | None, detail: str) -> int:
    """Of a model that isn't documented."""
    return MAX_IMAGE_TOKENS


@dataclass(frozen=True, slots=True)
class Counting:
    """What is known of how a model's input is counted."""

    images: ImageTokens = any_image
    hidden_tool_tokens: int = TOKENS_FOR_TOOLS
    hidden_schema_tokens: int = TOKENS_FOR_TOOLS
    """The hidden text that comes with tools, and with a schema."""
    own_template: bool = True
    """Whether JSON may be written by a chat template of the model's own: indented, its letters escaped."""
    encoding: Encoding | None = None
    """In which every text is counted, as it is and without any normalisation; None where none is published."""
    refuses_over_window: bool = False
    """Whether an input over the context window that the price list has is refused before anything is billed."""


ANY_SERVER: Final = Counting()
