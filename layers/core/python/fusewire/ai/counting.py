"""How a model's server counts its input, as far as its vendor has published that.

What isn't known stays at the widest that any server may do, so that the defaults here bound every model.
"""

from dataclasses import dataclass
from typing import Final, Literal

from fusewire.ai.image_tokens import ImageTokens, any_image

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
