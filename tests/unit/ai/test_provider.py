"""What a provider says of itself: what is missing, which models, what it can't do and what it drops."""

import json
from collections.abc import Callable
from typing import get_args

import pytest
from anthropic.types import Model as AnthropicModel
from openai.types import ChatModel, EmbeddingModel

from fusewire.ai.provider import TIERS, AIProvider
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.providers.ollama import OllamaProvider
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.ai.providers.vllm import VllmProvider
from fusewire.ai.schema import ChatRequest, EmbeddingRequest
from fusewire.budget import price_list
from fusewire.budget.pricing import PriceBook
from fusewire.config import Settings, load_settings

Maker = Callable[[Settings], AIProvider]


def request(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("make", "variables", "missing"),
    [
        (OpenAIProvider, {}, ["OPENAI_API_KEY"]),
        (OpenAIProvider, {"OPENAI_API_KEY": "k"}, []),
        (OpenAIProvider, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x"}, ["OPENAI_SOTA_MODEL"]),
        (OpenAIProvider, {"OPENAI_BASE_URL": "http://x"}, ["OPENAI_SOTA_MODEL"]),
        (OpenAIProvider, {"OPENAI_BASE_URL": "https://api.openai.com/v1"}, ["OPENAI_API_KEY"]),
        (OpenAIProvider, {"OPENAI_BASE_URL": "http://x", "OPENAI_EMBEDDING_MODEL": "m"}, []),
        (OpenAIProvider, {"OPENAI_API_KEY": "  ", "OPENAI_SOTA_MODEL": "m"}, ["OPENAI_API_KEY"]),
        (OpenAIProvider, {"OPENAI_API_KEY": "k", "OPENAI_COST_EFFECTIVE_MODEL": "m"}, []),
        (AzureProvider, {}, ["AZURE_AI_ENDPOINT", "AZURE_AI_API_KEY", "AZURE_SOTA_DEPLOYMENT"]),
        (AzureProvider, {"AZURE_AI_ENDPOINT": "http://x", "AZURE_SOTA_DEPLOYMENT": "m"}, ["AZURE_AI_API_KEY"]),
        (OllamaProvider, {"OLLAMA_BASE_URL": "http://x"}, ["OLLAMA_SOTA_MODEL"]),
        (OllamaProvider, {"OLLAMA_SOTA_MODEL": "m"}, ["OLLAMA_BASE_URL"]),
        (OllamaProvider, {"OLLAMA_BASE_URL": "http://x", "OLLAMA_EMBEDDING_MODEL": "m"}, []),
        (VllmProvider, {"VLLM_API_KEY": "k", "VLLM_MODEL": "m"}, ["VLLM_BASE_URL"]),
        (VllmProvider, {"VLLM_BASE_URL": "http://x", "VLLM_MODEL": "m"}, []),
    ],
)
def test_missing_variables_are_named(make: Maker, variables: dict[str, str], missing: list[str]) -> None:
    assert list(make(load_settings(variables)).missing()) == missing


def _listed(models: object) -> set[str]:
    """The names in an SDK's type of models, however deep its literals stand."""
    return {each for part in get_args(models) for each in ({part} if isinstance(part, str) else _listed(part))}


@pytest.mark.parametrize(
    ("make", "key", "chat", "embedding"),
    [
        (OpenAIProvider, "OPENAI_API_KEY", ChatModel, EmbeddingModel),
        (AnthropicProvider, "ANTHROPIC_API_KEY", AnthropicModel, None),
    ],
)
def test_the_usual_models_are_the_vendors_and_priced(make: Maker, key: str, chat: object, embedding: object) -> None:
    provider = make(load_settings({key: "k"}))
    prices = PriceBook(overrides={}, aliases={}, local_providers=())
    models = [provider.tier_model(tier) for tier in TIERS]
    assert len(set(models)) == 2
    assert set(models) <= _listed(chat)
    assert (provider.embedding_model() in _listed(embedding)) if embedding else provider.embedding_model() is None
    for model in filter(None, (*models, provider.embedding_model())):
        prices.price(provider.id, model)
        assert f'"={model}"' in price_list.SNAPSHOT.read_text(encoding="utf-8"), f"{model} has another one's price"
    sota, small = (prices.price(provider.id, model or "").bound(1000, 1000) for model in models)
    assert small < sota / 2


def test_a_variable_changes_one_of_the_usual_models() -> None:
    provider = OpenAIProvider(load_settings({"OPENAI_API_KEY": "k", "OPENAI_SOTA_MODEL": "m"}))
    usual = OpenAIProvider.usual_models
    assert usual is not None
    found = (provider.tier_model("sota"), provider.tier_model("cost_effective"), provider.embedding_model())
    assert found == ("m", usual.cost_effective, usual.embedding)


@pytest.mark.parametrize(
    ("variables", "holds"),
    [
        ({"OPENAI_API_KEY": "k"}, True),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://api.openai.com/v1"}, True),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://proxy.invalid/v1"}, False),
        ({}, False),  # one that Secrets Manager may bring later: nobody has named this vendor yet
    ],
)
def test_the_usual_models_hold_with_a_key_and_at_the_vendor_itself(variables: dict[str, str], holds: bool) -> None:
    provider = OpenAIProvider(load_settings(variables))
    assert provider.has_model() is holds
    assert (provider.tier_model("sota") is not None) is holds
    theirs = {
        name.replace("OPENAI", "ANTHROPIC"): value.replace("openai", "anthropic") for name, value in variables.items()
    }
    assert AnthropicProvider(load_settings(theirs)).has_model() is holds


@pytest.mark.parametrize("make", [AzureProvider, OllamaProvider, VllmProvider])
def test_others_have_no_usual_models(make: type[AIProvider]) -> None:
    assert make.usual_models is None


def test_one_vllm_model_serves_both_tiers() -> None:
    provider = VllmProvider(load_settings({"VLLM_BASE_URL": "http://x", "VLLM_MODEL": "m"}))
    assert provider.tier_model("sota") == provider.tier_model("cost_effective") == "m"
    assert provider.embedding_model() is None


TOOL = {"type": "function", "function": {"name": "f"}}


def test_what_a_provider_cannot_honour_is_told_by_field_once() -> None:
    provider = OllamaProvider(load_settings({}))
    assert provider.unsupported(request(n=2, parallel_tool_calls=False)) == ("n",)
    assert provider.unsupported(request(tools=[TOOL], stop=["."])) == ()


def test_advisory_fields_without_a_place_are_told() -> None:
    asked = request(user="u", logit_bias={"1": 1}, metadata={"a": "b"}, seed=1, verbosity="low")
    assert OllamaProvider(load_settings({})).dropped(asked) == ("logit_bias", "metadata", "user", "verbosity")
    assert OpenAIProvider(load_settings({})).dropped(asked) == ()


def test_so_are_those_of_embeddings() -> None:
    asked = EmbeddingRequest(model="m", input="x", user="u")
    assert OllamaProvider(load_settings({})).dropped(asked) == ("user",)
    assert OpenAIProvider(load_settings({})).dropped(asked) == ()


def test_a_capability_that_no_field_asks_for_is_an_error_in_the_provider() -> None:
    with pytest.raises(TypeError, match=r"Misspelt\.supported.*temprature"):

        class Misspelt(OpenAIProvider):
            supported = OpenAIProvider.supported | {"temprature"}


class Undeclared(OpenAIProvider):
    supported = frozenset()


def test_whatever_a_provider_does_not_declare_it_refuses_or_drops() -> None:
    provider = Undeclared(load_settings({}))
    asked = request(temperature=0.5, stop=".", n=2, tools=[TOOL], tool_choice="required", user="u", seed=1)
    assert provider.unsupported(asked) == ("temperature", "n", "stop", "tools", "tool_choice")
    assert provider.dropped(asked) == ("seed", "user")
    assert provider.body(asked, "m", 9) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_completion_tokens": 9,
    }
    vectors = EmbeddingRequest(model="m", input=[1, 2], dimensions=3, user="u")
    assert provider.unsupported(vectors) == ("input", "dimensions")
    assert provider.dropped(vectors) == ("user",)


def test_a_keys_expiry_is_read_from_its_variable() -> None:
    provider = OpenAIProvider(load_settings({"OPENAI_KEY_EXPIRES_ON": "2030-01-31"}))
    expires = provider.key_expires_on()
    assert expires is not None
    assert expires.isoformat() == "2030-01-31"


@pytest.mark.parametrize(
    ("address", "place", "at_vendor"),
    [
        (None, None, True),
        ("https://eu.api.openai.com/v1", "eu", True),
        ("https://us.api.openai.com", "us", True),
        ("https://eu.api.openai.com.example.com/v1", None, False),
        ("http://proxy.invalid/v1", None, False),
    ],
)
def test_openais_place_is_its_hosts(address: str | None, place: str | None, at_vendor: bool) -> None:
    variables = {"OPENAI_API_KEY": "k"} | ({"OPENAI_BASE_URL": address} if address else {})
    provider = OpenAIProvider(load_settings(variables))
    assert (provider.place(), provider.at_vendor()) == (place, at_vendor)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        *((name, "default") for name in ("gpt-4o", "GPT-5.4", "o3", "ft:gpt-4o-2024-08-06:acme::x", "codex-mini")),
        # Of other servers at OPENAI_BASE_URL, some refuse the field, and some have other words for its values.
        *(
            (name, None)
            for name in ("mistral-large-latest", "llama-3.3-70b-versatile", "gpt-oss-120b", "deepseek-chat")
        ),
    ],
)
def test_openais_models_are_asked_for_in_the_default_service_tier(model: str, sent: str | None) -> None:
    provider = OpenAIProvider(load_settings({"OPENAI_API_KEY": "k"}))
    request = ChatRequest.model_validate({"model": "sota", "messages": [{"role": "user", "content": "Hi"}]})
    assert provider.body(request, model, 64).get("service_tier") == sent
