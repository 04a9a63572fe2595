"""What a caller can ask for: tiers with who serves them in order, models with prices, nobody whom the mode forbids."""

from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest

from fusewire.ai.catalogue import Listed, ListedModel, ListedTier, catalogue, find
from fusewire.ai.permissions import EVERYTHING, Permissions
from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Tiers
from fusewire.budget.pricing import PriceBook
from fusewire.config import load_settings
from fusewire.errors import PermissionDeniedError

VARIABLES = {
    "OPENAI_API_KEY": "k",
    "OPENAI_SOTA_MODEL": "gpt-4o",
    "OPENAI_COST_EFFECTIVE_MODEL": "made-up-model",
    "OPENAI_EMBEDDING_MODEL": "text-embedding-3-small",
    "OLLAMA_BASE_URL": "http://o.invalid",
    "OLLAMA_SOTA_MODEL": "smol",
    "OLLAMA_EMBEDDING_MODEL": "smol",
}


def listed(permissions: Permissions = EVERYTHING, /, **variables: str) -> dict[str, Any]:
    """By its name each tier and each model."""
    settings = load_settings(VARIABLES | variables)
    registry = Registry(settings)
    prices = PriceBook(overrides={}, aliases={}, local_providers={"ollama", "vllm"})
    return {name_of(each): each for each in catalogue(registry, Tiers(settings, registry), prices, permissions)}


def name_of(listed: Listed) -> str:
    if isinstance(listed, ListedModel):
        return f"{listed.provider}/{listed.model}"
    return listed.tier if isinstance(listed, ListedTier) else listed.name


def test_tiers_come_first_with_their_providers_in_order() -> None:
    found = listed(AI_MODE="hybrid", AI_DEFAULT_PROVIDER="openai")
    assert list(found)[:2] == ["sota", "cost_effective"]
    assert found["sota"].served_by == ("openai/gpt-4o", "ollama/smol")
    assert found["cost_effective"].served_by == ("openai/made-up-model",)


def test_a_model_shows_its_price_or_that_it_has_none() -> None:
    found = listed(AI_MODE="hybrid")
    assert found["openai/gpt-4o"].price["input_mtok"] > Decimal(0)
    assert found["openai/made-up-model"].price is None
    assert found["ollama/smol"].price["input_mtok"] == 0
    assert found["openai/text-embedding-3-small"].kind == "embedding"
    assert found["ollama/smol"].kind == "chat, embedding"


def test_what_the_mode_forbids_is_not_listed() -> None:
    assert set(listed(AI_MODE="local")) == {"sota", "ollama/smol"}
    assert not any(name.startswith("ollama") for name in listed(AI_MODE="cloud"))


def test_a_tier_that_nobody_serves_is_not_listed() -> None:
    assert "cost_effective" not in listed(AI_MODE="local")


@pytest.mark.parametrize(
    ("allowed", "shown"),
    [
        (("sota",), {"sota"}),
        (("gpt-4o",), {"sota", "openai/gpt-4o"}),
        (("openai/gpt-4o",), {"sota", "openai/gpt-4o"}),
        (("ollama/*",), {"sota", "ollama/smol"}),
        (("cost_effective", "text-embedding-3-small"), {"cost_effective", "openai/text-embedding-3-small"}),
        (("openai/somebody-elses",), set()),
    ],
)
def test_a_key_is_shown_what_it_may_ask_for(allowed: tuple[str, ...], shown: set[str]) -> None:
    assert set(listed(Permissions(allowed), AI_MODE="hybrid")) == shown
    settings = load_settings(VARIABLES | {"AI_MODE": "hybrid"})
    tiers = Tiers(settings, Registry(settings))
    for name in listed(AI_MODE="hybrid"):
        with nullcontext() if name in shown else pytest.raises(PermissionDeniedError):
            tiers.chat(name, "internal", Permissions(allowed))


def test_a_tier_is_served_to_a_key_by_the_models_that_it_may_use() -> None:
    everything = listed(AI_MODE="hybrid")["sota"].served_by
    assert set(everything) == {"openai/gpt-4o", "ollama/smol"}
    assert listed(Permissions(("ollama/*",)), AI_MODE="hybrid")["sota"].served_by == ("ollama/smol",)
    assert listed(Permissions(("sota", "gpt-4o")), AI_MODE="hybrid")["sota"].served_by == everything


def test_a_key_for_confidential_data_alone_is_shown_who_may_see_it() -> None:
    only = Permissions(classifications=("confidential",))
    assert set(listed(only, AI_MODE="hybrid")) == {"sota", "ollama/smol"}
    assert set(listed(only, AI_MODE="cloud")) == set()
    both = Permissions(classifications=("internal", "confidential"))
    assert set(listed(both, AI_MODE="hybrid")) == set(listed(AI_MODE="hybrid"))


def test_an_alias_is_listed_where_what_it_stands_for_is() -> None:
    aliases = '{"gpt-4.1": "sota", "gone": "openai/nowhere", "mine": "smol"}'
    found = listed(AI_MODE="hybrid", AI_MODEL_ALIASES=aliases)
    assert {name: each.stands_for for name, each in found.items() if name in ("gpt-4.1", "gone", "mine")} == {
        "gpt-4.1": "sota",
        "mine": "smol",
    }
    assert "gpt-4.1" not in listed(
        Permissions(("ollama/*",)), AI_MODE="hybrid", AI_MODEL_ALIASES='{"gpt-4.1": "cost_effective"}'
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [("sota", "sota"), ("smol", "ollama/smol"), ("openai/gpt-4o", "openai/gpt-4o"), ("gpt", None), ("openai", None)],
)
def test_one_is_found_by_its_name_or_its_models(name: str, found: str | None) -> None:
    each = find(listed(AI_MODE="hybrid").values(), name)
    assert (None if each is None else name_of(each)) == found
