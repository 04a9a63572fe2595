"""How a model's server counts its input, as far as its vendor has published that.

What isn't known stays at the widest that any server may do, so that the defaults here bound every model.
"""

from dataclasses import dataclass
from typing import Final, Literal

from fusewire.ai.image_tokens import ImageTokens, any_image

Encoding = Literal["o200k_base", "cl100k_base"]
"""One of OpenAI's published vocabularies."""

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
