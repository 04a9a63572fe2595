"""Addresses, credentials and bodies: what needs no server to be seen."""

import pytest

from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.providers.ollama import OllamaProvider
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider
from fusewire.ai.providers.vllm import VllmProvider
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings


@pytest.mark.parametrize(
    ("make", "variables", "address"),
    [
        (OpenAIProvider, {}, "https://api.openai.com/v1/"),
        (OpenAIProvider, {"OPENAI_BASE_URL": "http://proxy.invalid"}, "http://proxy.invalid/v1/"),
        (OpenAIProvider, {"OPENAI_BASE_URL": "http://proxy.invalid/"}, "http://proxy.invalid/v1/"),
        (OpenAIProvider, {"OPENAI_BASE_URL": "http://proxy.invalid/api/v3"}, "http://proxy.invalid/api/v3/"),
        (OllamaProvider, {"OLLAMA_BASE_URL": "http://o.invalid:11434"}, "http://o.invalid:11434/v1/"),
        (VllmProvider, {"VLLM_BASE_URL": "http://v.invalid:8000/v1"}, "http://v.invalid:8000/v1/"),
        (AzureProvider, {"AZURE_AI_ENDPOINT": "https://r.invalid/"}, "https://r.invalid/openai/v1/"),
        (
            AzureProvider,
            {"AZURE_AI_ENDPOINT": "https://r.invalid", "AZURE_AI_API_VERSION": "v1"},
            "https://r.invalid/openai/v1/",
        ),
        (
            AzureProvider,
            {"AZURE_AI_ENDPOINT": "https://r.invalid/", "AZURE_AI_API_VERSION": "2024-10-21"},
            "https://r.invalid/openai/",
        ),
    ],
)
def test_the_address_follows_the_settings(
    make: type[OpenAICompatibleProvider], variables: dict[str, str], address: str
) -> None:
    key = {"AZURE_AI_API_KEY": "k"} if make is AzureProvider else {}
    with make(load_settings(variables | key)).make_client() as client:
        assert str(client.base_url) == address
        assert client.max_retries == 0


def test_a_local_server_without_a_key_gets_a_word_in_its_place() -> None:
    assert OllamaProvider(load_settings({})).api_key() == "none"
    assert VllmProvider(load_settings({"VLLM_API_KEY": "k"})).api_key() == "k"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (OpenAIProvider, "max_completion_tokens"),
        (AzureProvider, "max_completion_tokens"),
        (OllamaProvider, "max_tokens"),
        (VllmProvider, "max_tokens"),
    ],
)
@pytest.mark.parametrize("asked", [{}, {"max_tokens": 9}, {"max_completion_tokens": 9}])
def test_the_cap_is_always_sent_once_under_the_servers_own_name(
    make: type[OpenAICompatibleProvider], field: str, asked: dict[str, int]
) -> None:
    request = ChatRequest.model_validate({"model": "sota", "messages": [{"role": "user", "content": "x"}], **asked})
    body = make(load_settings({})).body(request, "real-model", 9)
    assert {name: body[name] for name in body if name.startswith("max")} == {field: 9}
    assert body["model"] == "real-model"


def test_ignored_fields_do_not_travel() -> None:
    request = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "user": "u", "seed": 3, "metadata": {"a": "b"}}
    )
    assert "user" not in OllamaProvider(load_settings({})).body(request, "m", 1)
    assert OpenAIProvider(load_settings({})).body(request, "m", 1)["metadata"] == {"a": "b"}
