"""What each provider declares is what it sends: the differential property over every field and every provider.

`treatment` compares the upstream body with and without the field, and raises where a declared field changes nothing or
an undeclared one is sent.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from fusewire.ai.provider import AIProvider
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.ai.schema import CAPABILITIES, ChatRequest, needs
from fusewire.config import load_settings
from scripts.docs import mapping
from scripts.docs.examples import Example, examples
from scripts.docs.mapping import OTHER_MODELS, SETTINGS, MappingError, ids, model_of, places, provider

OF_EMBEDDINGS = {"dimensions", "token_ids"}


def cases() -> Iterator[tuple[str, str | None, str]]:
    """Provider, setting, model."""
    for name in ids():
        for setting in (None, *SETTINGS.get(name, {})):
            yield name, setting, model_of(name)
        for model in OTHER_MODELS.get(name, ()):
            yield name, None, model


@pytest.mark.parametrize(("name", "setting", "model"), list(cases()))
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.label)
def test_what_is_declared_is_what_is_sent(example: Example, name: str, setting: str | None, model: str) -> None:
    asked = provider(name, setting)
    treatment = mapping.treatment(asked, example, model)
    if mapping.undeclared(asked, example, model):
        assert treatment != "mapped"


def test_the_examples_ask_for_every_capability() -> None:
    asked = {need.capability for example in examples() for need in needs(example.request())}
    # `store` is sent where it keeps an answer out of a log, and no value of it asks for anything.
    assert asked == CAPABILITIES - OF_EMBEDDINGS - {"store"}


class Forgetful(OpenAIProvider):
    """Declares whatever OpenAI has, and never sends the seed."""

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        body = super().body(request, model, output_cap)
        body.pop("seed", None)
        return body


class Careless(OpenAIProvider):
    """Sends a seed that it doesn't declare."""

    supported = OpenAIProvider.supported - {"seed"}

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        return super().body(request, model, output_cap) | ({"seed": request.seed} if request.seed else {})


@pytest.mark.parametrize(
    ("kind", "complaint"), [(Forgetful, "sends nothing of it"), (Careless, "which it doesn't declare")]
)
def test_a_provider_that_sends_something_else_than_it_declares_is_found(kind: type[AIProvider], complaint: str) -> None:
    [example] = [each for each in examples() if each.label == "seed"]
    with pytest.raises(MappingError, match=complaint):
        mapping.treatment(kind(load_settings({})), example, "m")


@pytest.mark.parametrize(
    ("label", "name", "shown"),
    [
        ("stop", "openai", []),
        ("stop", "anthropic", ["stop_sequences"]),
        ("temperature", "aws", ["inferenceConfig.temperature"]),
        ("messages.role: developer", "gcp", ["messages.role=system"]),
        ("tool_choice: a function", "ollama", ["tool_choice=required"]),
        ("max_completion_tokens", "vllm", ["max_tokens"]),
        ("max_completion_tokens", "openai", []),
    ],
)
def test_the_place_of_a_field_is_named_where_it_is_another(label: str, name: str, shown: list[str]) -> None:
    [example] = [each for each in examples() if each.label == label]
    assert places(provider(name), example, model_of(name)) == shown
