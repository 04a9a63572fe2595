"""Make `fusewire/budget/largest_outputs.json`: how long the answers of the price list's models can be.

    python -m scripts.snapshot_outputs FILE     from LiteLLM's wheel, or the JSON in it (scripts/compare_prices.py says
                                                which wheel is pinned, and downloads it)

genai-prices doesn't say it; LiteLLM's list does (MIT licence). Here it is by the price list's own name of a model. A
name that LiteLLM knows with another value than its entry has is listed beside: an older version of the model as a rule.
Of names that differ and of which none is the entry's own, the smallest counts: a larger cap than a model's is refused.
"""

import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fusewire.budget.largest_outputs import SNAPSHOT
from fusewire.budget.model_names import name_of
from fusewire.budget.price_list import entry_id
from scripts.compare_prices import IN_WHEEL, target_of

_PROVIDERS: Final = ("anthropic", "aws", "azure", "gcp", "openai")

_VERTEX_EXCLUSIVE: Final = 65_536
"""Vertex takes caps below this, and answers this with a 400 (aaif-goose/goose#11364)."""

Values = list[int]


def values_of(provider: str, entry: Mapping[str, Any]) -> Values | None:
    """[largest output, context window (0: unknown), 1 where it reasons]; None for a model without them."""
    largest, window = entry.get("max_output_tokens"), entry.get("max_input_tokens")
    if entry.get("mode") not in ("chat", "responses") or not isinstance(largest, int) or largest < 1:
        return None
    if provider == "gcp" and largest == _VERTEX_EXCLUSIVE:
        largest -= 1
    return [largest, window if isinstance(window, int) else 0, int(bool(entry.get("supports_reasoning")))]


def snapshot(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Values]]:
    """By provider, each entry of the price list and each name that differs from its entry."""
    named: dict[str, dict[str, dict[str, Values]]] = {provider: {} for provider in _PROVIDERS}
    for name, entry in entries.items():
        target = target_of(name, entry)
        if target is None or target.provider not in named or (values := values_of(target.provider, entry)) is None:
            continue
        model = name_of(target.provider, target.model)
        if (known := entry_id(target.provider, model)) is not None:
            named[target.provider].setdefault(known, {})[model] = values
    found: dict[str, dict[str, Values]] = {}
    for provider, by_entry in named.items():
        rows: dict[str, Values] = {}
        for known, names in by_entry.items():
            rows[known] = names.get(known) or min(names.values())
            rows |= {model: values for model, values in names.items() if values != rows[known]}
        found[provider] = dict(sorted(rows.items()))
    return found


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return dict(json.loads(wheel.read(IN_WHEEL)))
    return dict(json.loads(path.read_bytes()))


def main() -> int:
    """:return: the exit status"""
    path = Path(sys.argv[1])
    providers = ",\n".join(
        f"{json.dumps(provider)}: {{\n"
        + ",\n".join(f"{json.dumps(name)}:{json.dumps(values, separators=(',', ':'))}" for name, values in rows.items())
        + "\n}"
        for provider, rows in snapshot(_read(path)).items()
    )
    SNAPSHOT.write_text(
        "{\n"
        f'"source": "LiteLLM {path.name.split("-")[1] if path.suffix == ".whl" else ""}'
        ' (https://github.com/BerriAI/litellm)",\n'
        '"licence": "MIT",\n'
        '"unit": "tokens: the largest output, the context window (0: unknown), and 1 for a model that reasons",\n'
        '"made_by": "python -m scripts.snapshot_outputs",\n'
        f'"providers": {{\n{providers}\n}}\n}}\n',
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
