"""What a provider says of itself: what is missing, which models, what it can't do and what it drops."""

import json
from collections.abc import Callable

import pytest

from fusewire.ai.provider import AIProvider, features
from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.providers.ollama import OllamaProvider
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.ai.providers.vllm import VllmProvider
from fusewire.ai.vocabulary import ChatRequest, EmbeddingRequest
from fusewire.config import Settings, load_settings

Maker = Callable[[Settings], AIProvider]


def request(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("make", "variables", "missing"),
    [
        (OpenAIProvider, {}, ["OPENAI_API_KEY", "OPENAI_SOTA_MODEL"]),
        (OpenAIProvider, {"OPENAI_API_KEY": "k"}, ["OPENAI_SOTA_MODEL"]),
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


def test_one_vllm_model_serves_both_tiers() -> None:
    provider = VllmProvider(load_settings({"VLLM_BASE_URL": "http://x", "VLLM_MODEL": "m"}))
    assert provider.tier_model("sota") == provider.tier_model("cost_effective") == "m"
    assert provider.embedding_model() is None


TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, {}),
        ({"n": 1, "stop": [], "logprobs": False, "parallel_tool_calls": True}, {}),
        ({"tools": [TOOL]}, {"tools": "tools"}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": "tools"}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": "tools", "tool_choice_none": "tool_choice"}),
        ({"tool_choice": "none"}, {}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": "tools", "tool_choice_required": "tool_choice"}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tools": "tools", "tool_choice_named": "tool_choice"},
        ),
        ({"parallel_tool_calls": False}, {"serial_tool_calls": "parallel_tool_calls"}),
        ({"messages": IMAGE}, {"images": "messages"}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"json_object": "response_format"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            {"json_schema": "response_format"},
        ),
        ({"n": 2}, {"n": "n"}),
        ({"stop": "."}, {"stop": "stop"}),
        ({"logprobs": True}, {"logprobs": "logprobs"}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "reasoning_effort"}),
    ],
)
def test_the_features_that_change_the_meaning(fields: dict[str, object], asked: dict[str, str]) -> None:
    assert dict(features(request(**fields))) == asked


def test_what_a_provider_cannot_honour_is_told_by_field_once() -> None:
    provider = OllamaProvider(load_settings({}))
    assert provider.unsupported(request(n=2, parallel_tool_calls=False)) == ("parallel_tool_calls", "n")
    assert provider.unsupported(request(tools=[TOOL], stop=["."])) == ()


def test_advisory_fields_without_a_place_are_told() -> None:
    asked = request(user="u", logit_bias={"1": 1}, metadata={}, seed=1, verbosity="low")
    assert OllamaProvider(load_settings({})).dropped(asked) == ("logit_bias", "metadata", "user", "verbosity")
    assert OpenAIProvider(load_settings({})).dropped(asked) == ()


def test_so_are_those_of_embeddings() -> None:
    asked = EmbeddingRequest(model="m", input="x", user="u")
    assert OllamaProvider(load_settings({})).dropped(asked) == ("user",)
    assert OpenAIProvider(load_settings({})).dropped(asked) == ()


@pytest.mark.parametrize("make", [OpenAIProvider, AzureProvider, OllamaProvider, VllmProvider])
def test_what_is_dropped_is_a_field_of_the_request(make: type[AIProvider]) -> None:
    assert make.ignores <= set(ChatRequest.model_fields)


def test_a_keys_expiry_is_read_from_its_variable() -> None:
    provider = OpenAIProvider(load_settings({"OPENAI_KEY_EXPIRES_ON": "2030-01-31"}))
    expires = provider.key_expires_on()
    assert expires is not None
    assert expires.isoformat() == "2030-01-31"
