"""Which providers there are, who is configured, and in what order they are tried."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fusewire.ai import registry as registry_module
from fusewire.ai.provider import AIProvider, Variables
from fusewire.ai.registry import Registry
from fusewire.config import ConfigurationError, Settings, load_settings
from fusewire.services import assemble

LAYER = Path(registry_module.__file__).parents[2]


def registry(**variables: str) -> Registry:
    return Registry(load_settings(variables))


def test_every_factory_makes_the_provider_of_its_name() -> None:
    found = registry()
    for name in found.ids():
        provider = found.get(name)
        assert isinstance(provider, AIProvider)
        assert provider.id == name
        assert found.get(name) is provider


def test_the_contracts_seven_vendors_are_known() -> None:
    assert {"azure", "aws", "gcp", "openai", "anthropic", "ollama", "vllm"} <= set(registry().ids())


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        registry().get("nobody")


@pytest.mark.parametrize(
    "variables",
    [{"AI_DEFAULT_PROVIDER": "nobody"}, {"AI_FALLBACK_CHAIN": "azure,nobody"}, {"AI_FALLBACK_CHAIN": "Azure"}],
)
def test_a_name_that_is_no_provider_stops_the_start_with_what_is_allowed(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry(**variables)
    assert next(iter(variables)) in str(caught.value)
    assert ", ".join(registry().ids()) in str(caught.value)


def test_a_vendor_of_the_contract_may_be_in_the_chain_before_it_is_configured() -> None:
    assert registry(AI_FALLBACK_CHAIN="azure,aws,gcp,openai,anthropic,ollama,vllm").chain == ()


ENDPOINTS = [
    "AZURE_AI_ENDPOINT", "AWS_BEDROCK_ENDPOINT_URL", "GCP_BASE_URL", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL",
    "OLLAMA_BASE_URL", "VLLM_BASE_URL",
]  # fmt: skip
NO_ADDRESSES = ["localhost:11434", "http://", "http://[", "ftp://host/v1", "http://host:70000", "http://host:a", "/v1"]


@pytest.mark.parametrize("variable", ENDPOINTS)
@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_an_endpoint_that_is_no_address_stops_the_start(variable: str, address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        assemble(load_settings({variable: address}))
    assert variable in str(caught.value)
    assert "http://" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://user:sentinel-password@", "sentinel-password://host"])
def test_an_endpoint_may_hold_a_secret_and_is_not_printed(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry(OPENAI_BASE_URL=address).get("openai")
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:11434", "https://host.example/base/v1/", "http://[::1]:8000"])
def test_an_endpoint_that_is_an_address_is_taken(address: str) -> None:
    assert registry(OLLAMA_BASE_URL=address).get("ollama").missing() == ("OLLAMA_SOTA_MODEL",)


def test_a_wrong_key_expiry_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_KEY_EXPIRES_ON"):
        load_settings({"OPENAI_KEY_EXPIRES_ON": "next May"})


def test_one_line_makes_a_provider_known(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Settings] = []

    def factory(settings: Settings) -> AIProvider:
        made.append(settings)
        return registry().get("openai")

    monkeypatch.setitem(registry_module._PROVIDER_FACTORIES, "stranger", factory)
    found = registry(AI_FALLBACK_CHAIN="stranger")
    assert "stranger" in found.ids()
    assert not made, "a factory is called when its provider is asked for"
    found.get("stranger")
    assert len(made) == 1


def test_whatever_variable_a_provider_reads_it_declares() -> None:
    found = registry()
    declared = {name for each in found.ids() for name in found.get(each).variables.names()}
    read = set()
    for file in (LAYER / "fusewire/ai/providers").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("variable", "secret"):
                read |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    assert "AZURE_AI_API_VERSION" in read
    assert read <= declared


def test_looking_at_every_provider_imports_no_sdk() -> None:
    script = (
        "import sys\n"
        "from fusewire.config import load_settings\n"
        "from fusewire.ai.registry import Registry\n"
        "found = Registry(load_settings({'OPENAI_API_KEY': 'k', 'OPENAI_SOTA_MODEL': 'm'}))\n"
        "found.chain, [found.get(name).missing() for name in found.ids()]\n"
        "heavy = {'openai', 'anthropic', 'boto3', 'google.auth', 'httpx', 'httpx2', 'psycopg'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    output = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], env={"PYTHONPATH": str(LAYER)}, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_only_providers_whose_variables_are_set_are_made() -> None:
    found = registry(OPENAI_API_KEY="k", OLLAMA_BASE_URL="http://127.0.0.1:1", AI_DEFAULT_PROVIDER="azure")
    assert [provider.id for provider in found.mentioned] == ["openai", "ollama"]
    assert [*found.configured] == ["openai"], "Ollama lacks a model"


def test_a_providers_variables_begin_with_its_id() -> None:
    with pytest.raises(TypeError, match="HOST must begin with NEWCOMER_"):

        class _Newcomer(AIProvider):
            id = "newcomer"
            variables = Variables(endpoint="HOST", sota="NEWCOMER_MODEL")


@pytest.mark.parametrize(
    "aliases",
    ['{"sota": "openai/x"}', '{"*": "sota"}', '{"": "sota"}', '{"a": ""}', '{"a": "b", "b": "sota"}'],
)
def test_an_alias_that_stands_for_nothing_stops_the_start(aliases: str) -> None:
    with pytest.raises(ConfigurationError, match="AI_MODEL_ALIASES"):
        Registry(load_settings({"AI_MODEL_ALIASES": aliases}))


@pytest.mark.parametrize(
    ("name", "target"),
    [("gpt-4o", "sota"), ("gpt-4o-mini", "cost_effective"), ("gpt-5", "openai/gpt-5.4"), ("claude", None)],
)
def test_of_several_aliases_that_cover_a_name_the_longest_counts(name: str, target: str | None) -> None:
    aliases = '{"gpt-4o": "sota", "gpt-4o*": "cost_effective", "gpt-*": "openai/gpt-5.4"}'
    assert Registry(load_settings({"AI_MODEL_ALIASES": aliases})).alias_of(name) == target
