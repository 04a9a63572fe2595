"""Which variables are named as misspelt, with what beside them, and which are left to others' tools."""

import pytest

from local.spelling import misspelt, settings_names
from tests.unit.docs import source

THEIRS = [
    "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_REGION_NAME", "AZURE_TENANT_ID", "AZURE_CLIENT_ID",
    "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "AZURE_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID",
    "OPENAI_MODEL", "OPENAI_API_BASE", "ANTHROPIC_MODEL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_SMALL_FAST_MODEL",
    "OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_KEEP_ALIVE", "VLLM_LOGGING_LEVEL", "VLLM_USE_V1", "GCP_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS", "FUSEWIRE_PROVE", "PATH", "HOME", "LANG", "SPORT", "PWD", "TERM", "EXPORT",
]  # fmt: skip


def test_the_known_names_are_those_that_the_manual_lists() -> None:
    assert settings_names() == source.variables().keys()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("AI_MONTLY_BUDGET_USD", "AI_MONTHLY_BUDGET_USD"),
        ("AI_MDOE", "AI_MODE"),
        ("AI_FALLBACKCHAIN", "AI_FALLBACK_CHAIN"),
        ("OPENAI_APIKEY", "OPENAI_API_KEY"),
        ("openai_api_key", "OPENAI_API_KEY"),
        ("AZURE_SOTA_DEPLOYMNET", "AZURE_SOTA_DEPLOYMENT"),
        ("AWS_BEDROCK_STOA_MODEL", "AWS_BEDROCK_SOTA_MODEL"),
        ("ANTHROPIC_KEY_EXPIRES_IN", "ANTHROPIC_KEY_EXPIRES_ON"),
        ("FUSEWIRE_HOMES", "FUSEWIRE_HOME"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("ADMIN_API_KY", "ADMIN_API_KEY"),
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("AUTH_MOD", "AUTH_MODE"),
    ],
)
def test_a_slip_is_named_with_the_nearest_setting_wherever_it_stands(name: str, right: str) -> None:
    assert misspelt([name], []) == [f"{name} in .env is no setting: did you mean {right}?"]
    assert misspelt([], [name]) == [f"{name} in the environment is no setting: did you mean {right}?"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("OPENAI_MODEL", ": did you mean OPENAI_SOTA_MODEL?"),
        ("AZURE_OPENAI_API_KEY", ": did you mean AZURE_AI_API_KEY?"),
        ("AI_WHATEVER_ELSE_THERE_IS", "."),
        ("VLLM_USE_V1", "."),
        ("FUSEWIRE_COLOUR_OF_THE_LOG", "."),
    ],
)
def test_what_looks_like_a_setting_is_named_in_the_file_and_not_in_the_environment(name: str, row: str) -> None:
    assert misspelt([name], []) == [f"{name} in .env is no setting{row}"]
    assert misspelt([], [name]) == []


def test_other_tools_variables_are_left_alone() -> None:
    assert misspelt([], [*THEIRS, *settings_names()]) == []
    assert misspelt([], THEIRS) == []
    of_sdks = (
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "HTTPS_PROXY",
        "NEXT_PUBLIC_API_URL",
    )
    assert misspelt([*of_sdks, *settings_names()], []) == []


def test_a_second_name_beside_the_right_one_is_somebody_elses() -> None:
    assert misspelt([], ["OPENAI_API_KEY2"]) != []
    assert misspelt([], ["OPENAI_API_KEY2", "OPENAI_API_KEY"]) == []
    assert misspelt(["OPENAI_API_KEY"], ["OPENAI_API_KEY2"]) == []


def test_many_are_cut_short_and_none_can_write_to_the_terminal() -> None:
    lines = misspelt([f"AI_{number:04}_AND_SO_ON" for number in range(20)], [])
    assert len(lines) == 9
    assert lines[-1] == "12 more variables are no settings."
    [line] = misspelt(["AI_\x1b[2JMODE_OF_SORTS"], [])
    assert line.isprintable()
