"""xAI's models, whoever hosts them: their reasoning isn't under the output cap, and is billed as output.

Sources: xAI's "Consumption and Rate Limits" (reasoning is counted apart from `completion_tokens`, within the total, and
charged at the completion's price) and its models' pages for the context windows; that the cap doesn't hold for it, see
BerriAI/litellm#39426. What does hold is the context window: input, reasoning and answer share it.
"""

import re
from collections.abc import Mapping
from typing import Final

_GROK: Final = re.compile(r"(?<![a-z])grok(?![a-z])[\w.-]*")
_WITHOUT_REASONING: Final = re.compile(r"non-reasoning|^grok-(?:1|2|3)(?!-mini)(?!\d)")
_CONTEXT_WINDOWS: Final[Mapping[str, int]] = {
    r"grok-4-7": 500_000,
    r"grok-4-6": 500_000,
    r"grok-4-5": 500_000,
    r"grok-4-3": 1_000_000,
    r"grok-4-20": 2_000_000,  # 1,000,000 at xAI, 2,000,000 at Vertex
    r"grok-4-1-fast": 2_000_000,
    r"grok-4-fast": 2_000_000,
    r"grok-4(?:-0709|-latest)?$": 262_144,
    r"grok-code-fast": 262_144,
    r"grok-build-0-1": 262_144,
    r"grok-3-mini": 131_072,
}
"""Tokens, by the beginning of the name."""
_SEVERAL_AGENTS: Final = "multi-agent"
"""Each of them has a context window, and nobody says how many they are."""


def reasons_beyond_cap(model: str) -> bool:
    """Whether it is one of xAI's that reason."""
    name = _name(model)
    return bool(name) and not _WITHOUT_REASONING.search(name)


def context_window(model: str) -> int | None:
    """The tokens of input and output together; None for a model whose window isn't known here."""
    name = _name(model)
    if _SEVERAL_AGENTS in name:
        return None
    return next((size for begins, size in _CONTEXT_WINDOWS.items() if re.match(rf"{begins}(?![a-z0-9])", name)), None)


def _name(model: str) -> str:
    """From `grok` on, as Azure writes it: `grok-4-1-fast-reasoning` for `xai/grok-4.1-fast-reasoning`."""
    found = _GROK.search(model.lower())
    return found[0].replace(".", "-").replace("_", "-") if found else ""
