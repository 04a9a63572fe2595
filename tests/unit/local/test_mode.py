"""Which mode `make run` is in, when the embedded model is part of it, and a start with nobody to ask."""

import pytest

from fusewire.config import ConfigurationError
from local import StartError
from local.mode import Mode, assembled, mode_of, wants_stand_in

OPENAI = {"OPENAI_API_KEY": "k"}
BEDROCK = {"AWS_REGION": "eu-central-1", "AWS_BEDROCK_SOTA_MODEL": "m"}
OLLAMA = {"OLLAMA_BASE_URL": "http://o.invalid", "OLLAMA_SOTA_MODEL": "m"}
VLLM = {"VLLM_BASE_URL": "http://v.invalid", "VLLM_MODEL": "m"}


@pytest.mark.parametrize(
    ("variables", "name", "why"),
    [
        ({}, "local", "no cloud provider is configured"),
        (OPENAI, "cloud", "openai is configured"),
        (OPENAI | BEDROCK, "cloud", "aws, openai are configured"),
        (OPENAI | OLLAMA, "cloud", "openai is configured"),
        (OLLAMA | VLLM, "local", "no cloud provider is configured"),
        ({"AWS_REGION": "eu-central-1"}, "local", "no cloud provider is configured"),
        (OPENAI | {"OPENAI_BASE_URL": "http://p.invalid"}, "local", "no cloud provider is configured"),
        ({"FUSEWIRE_SECRET_ARNS": "arn"}, "cloud", "FUSEWIRE_SECRET_ARNS brings the keys"),
        (OPENAI | {"AI_MODE": " local "}, "local", "as AI_MODE says"),
        ({"AI_MODE": "hybrid"}, "hybrid", "as AI_MODE says"),
    ],
)
def test_the_mode_follows_from_the_keys_unless_it_is_set(variables: dict[str, str], name: str, why: str) -> None:
    mode = mode_of(variables)
    assert mode.name == name
    assert why in mode.why


def test_a_setting_that_cannot_be_used_is_told_before_there_is_a_mode() -> None:
    with pytest.raises(ConfigurationError, match="AI_MONTHLY_BUDGET_USD"):
        mode_of({"AI_MONTHLY_BUDGET_USD": "-1"})


@pytest.mark.parametrize(
    ("variables", "mode", "wanted"),
    [
        ({}, "local", True),
        ({"VLLM_API_KEY": "of another tool"}, "local", True),
        (OPENAI, "local", True),
        ({}, "hybrid", False),
        ({}, "cloud", False),
        (OLLAMA, "local", False),
        (VLLM, "local", False),
        ({"OLLAMA_SOTA_MODEL": "llama3"}, "local", False),
        ({"VLLM_BASE_URL": "http://v.invalid"}, "local", False),
    ],
)
def test_the_embedded_model_is_for_local_mode_without_a_local_provider(
    variables: dict[str, str], mode: str, wanted: bool
) -> None:
    assert wants_stand_in(variables, Mode(mode, "")) is wanted


@pytest.mark.parametrize(
    ("variables", "mode", "row"),
    [
        ({}, "cloud", "no cloud provider is configured. Set OPENAI_API_KEY or ANTHROPIC_API_KEY in .env"),
        (OLLAMA, "cloud", "and ollama may not be asked in it"),
        (OPENAI | {"OPENAI_BASE_URL": "http://p.invalid"}, "cloud", "(openai lacks OPENAI_SOTA_MODEL)"),
        ({}, "hybrid", "no provider is configured"),
        ({"OLLAMA_SOTA_MODEL": "llama3"}, "local", "(ollama lacks OLLAMA_BASE_URL)"),
        (OPENAI | {"VLLM_BASE_URL": "http://v.invalid"}, "local", "(vllm lacks VLLM_MODEL), and openai may not"),
    ],
)
def test_nobody_to_ask_is_one_line_that_says_what_to_set(variables: dict[str, str], mode: str, row: str) -> None:
    with pytest.raises(StartError) as caught:
        assembled(variables, Mode(mode, ""))
    assert row in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variables", [OPENAI, {"FUSEWIRE_SECRET_ARNS": "arn"}, OPENAI | {"AI_FALLBACK_CHAIN": "aws"}])
def test_somebody_to_ask_is_enough_to_start(variables: dict[str, str]) -> None:
    assert assembled(variables, Mode("cloud", "")).settings.ai_mode == "cloud"
