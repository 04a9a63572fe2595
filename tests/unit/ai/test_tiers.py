"""From a `model` field to providers in order; mode and classification narrow it, and nothing widens it."""

import pytest

from fusewire.ai.permissions import Classification, Permissions
from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Tiers
from fusewire.config import load_settings
from fusewire.errors import ModelNotFoundError, NoEligibleProviderError

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
OPERATOR = Permissions(sees_settings=True)


def tiers(**variables: str) -> Tiers:
    settings = load_settings(variables)
    return Tiers(settings, Registry(settings))


def served_by(
    found: Tiers, model: str, classification: Classification = "internal", *, embedding: bool = False
) -> list[str]:
    route = (found.embedding if embedding else found.chat)(model, classification)
    return [f"{provider.id}/{name}" for provider, name in route.targets]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["azure/azure-sota", "openai/gpt-4o", "vllm/qwen", "ollama/shared"]),
        ({"AI_DEFAULT_PROVIDER": "vllm"}, ["vllm/qwen", "azure/azure-sota", "openai/gpt-4o", "ollama/shared"]),
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
        ("local", "public", ["vllm", "ollama"]),
        ("local", "internal", ["vllm", "ollama"]),
        ("local", "confidential", ["vllm", "ollama"]),
        ("hybrid", "public", ["azure", "openai", "vllm", "ollama"]),
        ("hybrid", "internal", ["azure", "openai", "vllm", "ollama"]),
        ("hybrid", "confidential", ["vllm", "ollama"]),
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
    ("model", "row"),
    [
        ("shared", "openai/shared or ollama/shared"),
        ("gpt-99", "There is no model 'gpt-99'"),
        ("openai/", "There is no model"),
        ("/gpt-4o", "There is no model"),
        ("SOTA", "There is no model"),
        ("azure-embedding", "There is no model"),
        ("nobody/claude", "There is no model"),
        ("aws/claude", "There is no model"),
    ],
)
def test_a_model_that_nobody_or_more_than_one_serves_is_not_found(model: str, row: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        tiers(AI_MODE="hybrid", **ALL).chat(model, "internal")
    assert row in caught.value.message
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


def test_a_provider_that_is_not_configured_says_what_is_missing() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        tiers(AI_MODE="hybrid", **OPENAI).chat("azure/gpt-4o", "internal", OPERATOR)
    lacking = "AZURE_AI_ENDPOINT, AZURE_AI_API_KEY, AZURE_SOTA_DEPLOYMENT"
    assert f"The provider azure isn't configured; missing: {lacking}." in caught.value.message
    assert "Available: sota, cost_effective, openai/gpt-4o, openai/shared." in caught.value.message


def test_nothing_configured_leaves_nobody() -> None:
    with pytest.raises(NoEligibleProviderError) as caught:
        tiers().chat("sota", "internal", OPERATOR)
    assert "GET /api/v1/admin/providers" in caught.value.message
    assert "No model is available" in caught.value.message


@pytest.mark.parametrize(
    ("variables", "model", "classification", "row"),
    [
        ({"AI_MODE": "local"}, "gpt-4o", "internal", "AI_MODE=local keeps openai out, which is configured."),
        ({"AI_MODE": "cloud"}, "vllm/x", "internal", "AI_MODE=cloud keeps vllm out, which is configured."),
        (
            {"AI_MODE": "hybrid", "AI_FALLBACK_CHAIN": "aws"},
            "sota",
            "internal",
            "AI_FALLBACK_CHAIN leaves azure, openai, ollama, vllm out.",
        ),
        ({"AI_MODE": "cloud"}, "sota", "confidential", "in AI_MODE=hybrid or local (it is cloud)"),
    ],
)
def test_a_refusal_says_which_setting_keeps_a_configured_provider_out(
    variables: dict[str, str], model: str, classification: Classification, row: str
) -> None:
    found = tiers(**ALL | variables)
    with pytest.raises(NoEligibleProviderError) as caught:
        found.chat(model, classification, OPERATOR)
    assert row in caught.value.message
    with pytest.raises(NoEligibleProviderError) as caught:
        found.chat(model, classification, Permissions())
    assert "AI_" not in caught.value.message
    kept_out = (
        [f"{name}/" for name in ("azure", "openai", "ollama", "vllm")] if classification == "confidential" else []
    )
    assert not [name for name in kept_out if name in caught.value.message]


def test_what_there_is_is_what_the_key_may_ask_for_and_no_more() -> None:
    found = tiers(AI_MODE="local", **ALL)
    few = Permissions(("ollama/shared", "openai/*"))
    assert found.offered() == ["sota", "cost_effective", "ollama/shared", "vllm/qwen"]
    assert found.offered(embedding=True) == ["sota", "cost_effective", "ollama/nomic"]
    assert found.offered(few) == ["sota", "ollama/shared"]
    for model in ("nope", "aws/nope", "shared"):
        with pytest.raises(ModelNotFoundError) as caught:
            # Of "shared", which two serve, the one that the mode keeps out isn't named.
            found.chat(model, "internal", few)
        assert "azure" not in caught.value.message and "openai" not in caught.value.message
        assert "AI_MODE" not in caught.value.message and "AWS_" not in caught.value.message
        assert caught.value.message.endswith("Available: sota, ollama/shared.")


def test_a_long_list_is_cut_short() -> None:
    many = {"AWS_REGION": "r", "AWS_BEDROCK_SOTA_MODEL": "a", "AWS_BEDROCK_COST_EFFECTIVE_MODEL": "b"}
    many |= {"GCP_PROJECT_ID": "p", "GCP_LOCATION": "l", "GCP_SOTA_MODEL": "c", "GCP_COST_EFFECTIVE_MODEL": "d"}
    many |= {"ANTHROPIC_API_KEY": "k", "OLLAMA_COST_EFFECTIVE_MODEL": "e"}
    with pytest.raises(ModelNotFoundError) as caught:
        tiers(AI_MODE="hybrid", **ALL, **many).chat("nope", "internal")
    listed, _, more = caught.value.message.partition("Available: ")[2].partition(" and ")
    assert len(listed.split(", ")) == 10
    assert more == "5 more, which GET /api/v1/models lists."


def test_embeddings_of_a_tier_never_fall_over_because_vectors_differ() -> None:
    found = tiers(AI_MODE="hybrid", **ALL)
    assert served_by(found, "sota", embedding=True) == ["azure/azure-embedding"]
    assert served_by(found, "cost_effective", "confidential", embedding=True) == ["ollama/nomic"]
    assert served_by(found, "text-embedding-3-small", embedding=True) == ["openai/text-embedding-3-small"]
    with pytest.raises(ModelNotFoundError):
        found.embedding("gpt-4o", "internal")


def test_a_providers_name_in_front_pins_even_where_another_serves_a_model_of_that_name() -> None:
    found = tiers(AI_MODE="local", VLLM_BASE_URL="http://v.invalid", VLLM_MODEL="openai/gpt-oss-20b")
    with pytest.raises(ModelNotFoundError, match="vllm/openai/gpt-oss-20b"):
        found.chat("openai/gpt-oss-20b", "internal")
    assert served_by(found, "vllm/openai/gpt-oss-20b") == ["vllm/openai/gpt-oss-20b"]
