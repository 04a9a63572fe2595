"""How long a model's answers can be: `largest_outputs.json`, made by `scripts/snapshot_outputs.py`.

By the entry of the price list that a model's price is from, so that a name means the same model in both.
"""

import json
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from fusewire.budget.model_names import name_of
from fusewire.budget.price_list import entry_id

SNAPSHOT: Final = Path(__file__).with_name("largest_outputs.json")


class ModelOutput(NamedTuple):
    """What is known of a model's output, in tokens; None where it isn't."""

    tokens: int | None = None
    """The most that an answer can have: the largest output cap that the vendor takes."""
    window: int | None = None
    """Of the context, where an output cap that passes it together with the input is refused."""
    reasons: bool = False
    """Whether it can reason before it answers."""


@cache
def _snapshot() -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = json.loads(SNAPSHOT.read_bytes())["providers"]
    return found


@cache
def largest_output(provider: str, model: str) -> ModelOutput:
    """Of a provider's model, or of another's where the name says `provider/model`."""
    vendor, slash, elsewhere = name_of(provider, model).partition("/")
    if slash and vendor in _snapshot():
        provider, model = vendor, elsewhere
    if provider not in _snapshot():
        return ModelOutput()
    rows = _snapshot()[provider]
    found = rows.get(name_of(provider, model)) or rows.get(entry_id(provider, model) or "")
    return ModelOutput() if found is None else ModelOutput(found[0], found[1] or None, bool(found[2]))
