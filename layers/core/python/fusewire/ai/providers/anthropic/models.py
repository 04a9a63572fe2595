"""What each Claude model takes, read off its name: Anthropic says so per model, and answers the rest with a 400.

Sources: Anthropic's documentation, "Troubleshooting thinking" (support and defaults by model), "Effort", "What's new in
Claude Opus 5.5" (and Sonnet 5.5, Haiku 5.5, Fable 5.1), "Migrating to API version 2026-10-21".
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from fusewire.ai.counting import ANY_SERVER, Counting
from fusewire.ai.image_tokens import CLAUDE, CLAUDE_BEFORE_4_7

_NAME: Final = re.compile(r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?")
_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})


@dataclass(frozen=True, slots=True)
class Traits:
    """One model's limits. A Claude whose name tells nothing gets the newest ones'."""

    claude: bool = True
    """Others are served by others, who speak Anthropic's API and know no such limits."""
    samples: bool = False
    """Takes `temperature` and `top_p`, under the API version that still has them: models before 4.7."""
    chooses_place: bool = True
    """Takes `inference_geo`: from Opus 4.6 on ("Data residency")."""
    forced_tools: bool = True
    """Takes `tool_choice` `any` and `tool`."""
    efforts: frozenset[str] = _EFFORTS
    adapts: bool = True
    """Takes `thinking` of type `adaptive`: from 4.6 on ("Adaptive thinking")."""
    takes_budget: bool = False
    """Takes `thinking` of type `enabled` with a budget: models before 4.7."""
    system_turns: bool = True
    """Takes the system's messages among the others: from Opus 4.8 on ("Mid-conversation system messages")."""
    thinks_on_request: bool = False
    """Thinks in depth by effort, but only where `thinking` switches that on."""
    without_thinking: Literal["left out", "disabled", "between_tools", "impossible"] = "impossible"
    """The `thinking` that switches it off; left out where it is off by default."""


_OTHERS: Final = Traits(
    claude=False, samples=True, chooses_place=False, takes_budget=True, system_turns=False, without_thinking="disabled"
)


@lru_cache(maxsize=256)
def traits(model: str) -> Traits:
    """By family and version, wherever in the name they stand: Bedrock's ids are read too."""
    found = _NAME.search(model.lower())
    if found is None:
        known = "claude" in model.lower()
        return Traits() if known else _OTHERS
    version = (int(found["major"]), int(found["minor"] or 0))
    family = found["family"]
    return Traits(
        samples=version < (4, 7),
        chooses_place=version >= (4, 6),
        forced_tools=version < (5, 1) or family == "haiku",
        efforts=_efforts(family, version),
        adapts=version >= (4, 6),
        takes_budget=version < (4, 7),
        system_turns=version >= (4, 8),
        thinks_on_request=(4, 6) <= version < (5, 0),
        without_thinking=_without_thinking(family, version),
    )


def _efforts(family: str | None, version: tuple[int, int]) -> frozenset[str]:
    if version >= (4, 7):
        return _EFFORTS
    if version == (4, 6):
        return _EFFORTS - {"xhigh"}
    if version == (4, 5) and family == "opus":
        return _EFFORTS - {"xhigh", "max"}
    return frozenset()


def _without_thinking(
    family: str | None, version: tuple[int, int]
) -> Literal["left out", "disabled", "between_tools", "impossible"]:
    if version < (5, 0):
        return "left out"
    if family == "haiku" or version < (5, 5):
        return "impossible" if family in ("fable", "mythos") else "disabled"
    return "between_tools" if family == "sonnet" else "impossible"


_HIDDEN_TOKENS: Final = 804
_HIDDEN_TOKENS_BEFORE_4_7: Final = 530
"""That come with tools, at most: "Tool use: pricing". Those that come with a schema aren't published."""


@lru_cache(maxsize=256)
def claude_counting(model: str) -> Counting:
    """How this model's input is counted, as far as its name tells of a Claude. No tokenizer of Claude's is published
    since version 3, so that texts count by their bytes."""
    limits = traits(model)
    if not limits.claude:
        return ANY_SERVER
    return replace(
        ANY_SERVER,
        images=CLAUDE_BEFORE_4_7 if limits.samples else CLAUDE,
        hidden_tool_tokens=_HIDDEN_TOKENS_BEFORE_4_7 if limits.samples else _HIDDEN_TOKENS,
        own_template=False,
    )
