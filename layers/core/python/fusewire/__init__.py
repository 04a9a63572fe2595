"""fusewire: a serverless AI gateway whose budget cannot be overrun."""

from typing import Final

VERSION: Final = "0.1.0"
