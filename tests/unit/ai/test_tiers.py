"""From a `model` field to providers in order; mode and classification narrow it, and nothing widens it."""

import pytest

from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Classification, Tiers, classification_of
from fusewire.config import load_settings
from fusewire.errors import InvalidRequestError, ModelNotFoundError, NoEligibleProviderError

AZURE = {
    "AZURE_AI_ENDPOINT": "http://a.invalid",
    "AZURE_AI_API_KEY": "k",
    "AZURE_SOTA_DEPLOYMENT": "azure-sota",
    "AZURE_COST_EFFECTIVE_DEPLOYMENT": "azure-mini",
    "AZURE_EMBEDDING_DEPLOYMENT": "azure-embedding",
}
OPENAI = {
    "OPENAI_API_KEY": "k",
    "OPENAI_SOTA_MODEL": "gpt-4o",
    "OPENAI_COST_EFFECTIVE_MODEL": "shared",
    "OPENAI_EMBEDDING_MODEL": "text-embedding-3-small",
}
OLLAMA = {
    "OLLAMA_BASE_URL": "http://o.invalid",
    "OLLAMA_SOTA_MODEL": "shared",
    "OLLAMA_EMBEDDING_MODEL": "nomic",
}
VLLM = {"VLLM_BASE_URL": "http://v.invalid", "VLLM_MODEL": "qwen"}
ALL = AZURE | OPENAI | OLLAMA | VLLM


def tiers(**variables: str) -> Tiers:
    settings = load_settings(variables)
    return Tiers(settings, Registry(settings))


def served_by(
    found: Tiers, model: str, classification: Classification = "internal", *, embedding: bool = False
) -> list[str]:
    route = (found.embedding if embedding else found.chat)(model, classification)
    return [f"{provider.id}/{name}" for provider, name in route.choices]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["azure/azure-sota", "ollama/shared", "openai/gpt-4o", "vllm/qwen"]),
        ({"AI_DEFAULT_PROVIDER": "vllm"}, ["vllm/qwen", "azure/azure-sota", "ollama/shared", "openai/gpt-4o"]),
        ({"AI_FALLBACK_CHAIN": "openai,azure"}, ["openai/gpt-4o", "azure/azure-sota"]),
        ({"AI_FALLBACK_CHAIN": "openai,azure", "AI_DEFAULT_PROVIDER": "azure"}, ["azure/azure-sota", "openai/gpt-4o"]),
        ({"AI_FALLBACK_CHAIN": "gcp, openai ,, openai"}, ["openai/gpt-4o"]),
        ({"AI_FALLBACK_CHAIN": "aws", "AI_DEFAULT_PROVIDER": "ollama"}, ["ollama/shared"]),
    ],
)
def test_a_tier_is_the_default_provider_and_then_the_chain(variables: dict[str, str], expected: list[str]) -> None:
    assert served_by(tiers(AI_MODE="hybrid", **ALL, **variables), "sota") == expected


def test_a_provider_without_a_model_for_the_tier_is_no_part_of_it() -> None:
    found = tiers(AI_MODE="hybrid", **ALL)
    assert served_by(found, "cost_effective") == ["azure/azure-mini", "openai/shared", "vllm/qwen"]


@pytest.mark.parametrize(
    ("mode", "classification", "expected"),
    [
        ("cloud", "public", ["azure", "openai"]),
        ("cloud", "internal", ["azure", "openai"]),
        ("cloud", "confidential", None),
        ("local", "public", ["ollama", "vllm"]),
        ("local", "internal", ["ollama", "vllm"]),
        ("local", "confidential", ["ollama", "vllm"]),
        ("hybrid", "public", ["azure", "ollama", "openai", "vllm"]),
        ("hybrid", "internal", ["azure", "ollama", "openai", "vllm"]),
        ("hybrid", "confidential", ["ollama", "vllm"]),
    ],
)
def test_mode_and_classification_narrow_a_tier(
    mode: str, classification: Classification, expected: list[str] | None
) -> None:
    found = tiers(AI_MODE=mode, **ALL)
    if expected is None:
        with pytest.raises(NoEligibleProviderError):
            served_by(found, "sota", classification)
        return
    assert [name.partition("/")[0] for name in served_by(found, "sota", classification)] == expected


@pytest.mark.parametrize(
    ("mode", "classification", "model"),
    [
        ("local", "internal", "openai/gpt-4o"),
        ("cloud", "internal", "ollama/shared"),
        ("hybrid", "confidential", "openai/gpt-4o"),
        ("hybrid", "confidential", "gpt-4o"),
        ("cloud", "confidential", "gpt-4o"),
        ("cloud", "confidential", "ollama/shared"),
    ],
)
@pytest.mark.parametrize("embedding", [False, True])
def test_naming_a_model_does_not_widen_who_may_see_a_request(
    mode: str, classification: Classification, model: str, embedding: bool
) -> None:
    if embedding:
        model = {"gpt-4o": "text-embedding-3-small"}.get(model, model)
    with pytest.raises(NoEligibleProviderError) as caught:
        served_by(tiers(AI_MODE=mode, **ALL), model, classification, embedding=embedding)
    assert caught.value.status == 503
    assert caught.value.should_retry is False


def test_a_pinned_model_is_asked_of_that_provider_alone_whatever_its_name() -> None:
    found = tiers(AI_MODE="hybrid", **ALL)
    assert served_by(found, "openai/anything") == ["openai/anything"]
    assert served_by(found, "ollama/library/llama3:8b") == ["ollama/library/llama3:8b"]
    assert found.chat("openai/anything", "internal").tier is None
    assert found.chat("sota", "internal").tier == "sota"


def test_a_model_that_one_provider_serves_needs_no_prefix() -> None:
    found = tiers(AI_MODE="hybrid", **ALL)
    assert served_by(found, "gpt-4o") == ["openai/gpt-4o"]
    assert served_by(found, "qwen") == ["vllm/qwen"]


def test_a_model_id_with_a_slash_that_names_no_provider_is_an_id() -> None:
    found = tiers(AI_MODE="local", VLLM_BASE_URL="http://v.invalid", VLLM_MODEL="meta-llama/Llama-3.1-8B")
    assert served_by(found, "meta-llama/Llama-3.1-8B") == ["vllm/meta-llama/Llama-3.1-8B"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("shared", "openai/shared or ollama/shared"),
        ("gpt-99", "There is no model 'gpt-99'"),
        ("openai/", "There is no model"),
        ("/gpt-4o", "There is no model"),
        ("SOTA", "There is no model"),
        ("azure-embedding", "There is no model"),
        ("nobody/claude", "There is no model"),
        ("aws/claude", "The provider aws isn't configured"),
        ("gcp/gemini", "The provider gcp isn't configured"),
        ("anthropic/claude", "The provider anthropic isn't configured"),
    ],
)
def test_a_model_that_nobody_or_more_than_one_serves_is_not_found(model: str, told: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        tiers(AI_MODE="hybrid", **ALL).chat(model, "internal")
    assert told in caught.value.message
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


def test_a_provider_that_is_not_configured_says_what_is_missing() -> None:
    with pytest.raises(ModelNotFoundError, match="AZURE_AI_ENDPOINT, AZURE_AI_API_KEY, AZURE_SOTA_DEPLOYMENT"):
        tiers(AI_MODE="hybrid", **OPENAI).chat("azure/gpt-4o", "internal")


def test_nothing_configured_leaves_nobody() -> None:
    with pytest.raises(NoEligibleProviderError, match="GET /api/v1/admin/providers"):
        tiers().chat("sota", "internal")


def test_embeddings_of_a_tier_never_fall_over_because_vectors_differ() -> None:
    found = tiers(AI_MODE="hybrid", **ALL)
    assert served_by(found, "sota", embedding=True) == ["azure/azure-embedding"]
    assert served_by(found, "cost_effective", "confidential", embedding=True) == ["ollama/nomic"]
    assert served_by(found, "text-embedding-3-small", embedding=True) == ["openai/text-embedding-3-small"]
    with pytest.raises(ModelNotFoundError):
        found.embedding("gpt-4o", "internal")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "internal"),
        ("public", "public"),
        ("Confidential", "confidential"),
        (" INTERNAL ", "internal"),
    ],
)
def test_classification_is_read_from_its_header(header: str | None, expected: str) -> None:
    assert classification_of(header) == expected


@pytest.mark.parametrize("header", ["", " ", "secret", "confidential, public", "confidentiel", "x" * 1000])
def test_a_classification_is_never_guessed(header: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        classification_of(header)
    assert caught.value.param == "x-fusewire-classification"
    assert len(caught.value.message) < 200
