"""The table of docs/prices-compared.md is in step with the price list, without LiteLLM's wheel at hand."""

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from fusewire.budget.price_list import SNAPSHOT
from scripts import compare_prices
from scripts.compare_prices import Difference, Target, UnexplainedError, differences, ours_of, pinned_version

TEXT = compare_prices.TABLE.read_text(encoding="utf-8")
ROW = re.compile(r"\| `(\w+)/([^`]+)`(?: \(([\w-]+)\))? \| ([\w ]+) \| ([\d.]+|none) \| ([\d.]+|none) \| (.+) \|")
ON = date(2026, 11, 30)


def rows() -> list[tuple[Difference, str, date]]:
    found = re.search(r"as of (\d{4}-\d\d-\d\d)", TEXT)
    assert found is not None
    on = date.fromisoformat(found[1])
    result = []
    for line in TEXT.splitlines():
        if match := ROW.fullmatch(line):
            provider, model, place, kind, ours, theirs, why = match.groups()
            prices = [None if price == "none" else Decimal(price) for price in (ours, theirs)]
            result.append((Difference(Target(provider, model, place), kind, *prices), why, on))
    return result


def test_it_is_made_from_this_price_list_and_the_pinned_litellm() -> None:
    version = json.loads(SNAPSHOT.read_bytes())["version"]
    assert f"genai-prices {version} and" in TEXT
    assert f"LiteLLM {pinned_version()}'s" in TEXT


def test_each_row_says_our_price_as_it_is_and_the_reason_that_the_rules_give() -> None:
    assert len(rows()) > 100
    for row, why, on in rows():
        ours = ours_of(row.target, on)
        assert ours is not None, row
        assert ours.get(row.kind) == row.ours, row
        assert row.ours != row.theirs
        assert row.why() == why


def test_what_only_litellm_prices_has_none_here() -> None:
    lists = re.findall(r"^- \*\*(\w+)\*\* \((\d+)\): (.+)$", TEXT, re.MULTILINE)
    assert lists
    for provider, count, names in lists:
        models = re.findall(r"`([^`]+)`", names)
        assert len(models) == int(count)
        place = {"gcp": "global"}.get(provider)
        if provider != "aws":  # whose rows are a region's each
            assert [model for model in models if ours_of(Target(provider, model, place), ON)] == []


ENTRIES = {
    "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": Decimal("0.0000025"),
               "output_cost_per_token": Decimal("0.00002"), "cache_read_input_token_cost": Decimal("0.00000125")},
    "azure_ai/grok-9": {"litellm_provider": "azure_ai", "mode": "chat", "input_cost_per_token": Decimal(1)},
    "gpt-image-1": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": Decimal(1)},
    "groq/x": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": Decimal(1)},
}  # fmt: skip


def test_a_difference_that_nobody_explained_stops_it(tmp_path: Path) -> None:
    found, alone, same = differences(ENTRIES, ON)
    assert found == [Difference(Target("openai", "gpt-4o", None), "output", Decimal(10), Decimal(20))]
    assert (alone, same) == ({"azure": ["grok-9"]}, 2)
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(ENTRIES, default=str))
    with pytest.raises(UnexplainedError, match="openai/gpt-4o output: 10, LiteLLM 20"):
        compare_prices.main([str(file)], table=tmp_path / "table.md")
    assert not (tmp_path / "table.md").exists()
