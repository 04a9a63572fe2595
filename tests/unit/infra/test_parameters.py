"""What a deployment has that sets nothing: the defaults of infra/template.yaml's parameters."""

import pytest

from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import USUAL, OpenAICompatibleProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES, Registry
from fusewire.config import load_settings
from local.cloudformation import Ref, load
from tests.unit.infra.test_queries import TEMPLATE


class NewcomerProvider(OpenAICompatibleProvider):
    id = "newcomer"
    default_base_url = "https://api.newcomer.example/v1"
    variables = Variables(credential="NEWCOMER_API_KEY", sota="NEWCOMER_MODEL")
    supported = USUAL


def defaults() -> dict[str, str]:
    """The variables that parameters bring into every function, where none is given."""
    template = load(TEMPLATE.read_text())
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    parameters = {name: value.name for name, value in variables.items() if isinstance(value, Ref)}
    return {name: str(template["Parameters"].get(of, {}).get("Default", "")) for name, of in parameters.items()}


def needed(names: Variables) -> dict[str, str]:
    """What configures a provider."""
    wanted = names.required or tuple(name for name in (names.endpoint, names.credential) if name)
    values = {name: "http://localhost:8001" if name == names.endpoint else "a-value" for name in wanted}
    return {**values, str(names.sota): "a-model"}


def test_the_chain_holds_every_configured_provider_a_new_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_PROVIDER_FACTORIES, "newcomer", NewcomerProvider)
    variables = defaults()
    unset = Registry(load_settings(variables))
    assert unset.chain == ()
    for name in unset.ids():
        variables |= needed(unset.get(name).variables)
    registry = Registry(load_settings({**variables, "AI_MODE": "hybrid"}))
    assert {*registry.configured} == {*registry.ids()}
    assert {provider.id for provider in registry.chain} == {*registry.ids()}
    assert registry.chain[-1].id == "newcomer", "after those whose order is known"
