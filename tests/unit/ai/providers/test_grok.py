"""Which of xAI's models reason beyond the cap, and what bounds them, by the names that hosts give them."""

import pytest

from fusewire.ai.provider import AIProvider
from fusewire.ai.providers.grok import context_window, reasons_beyond_cap
from fusewire.ai.registry import Registry
from fusewire.config import load_settings

# (the name, its context window, None where nobody knows; 0: the cap holds)
MODELS: list[tuple[str, int | None]] = [
    ("grok-4", 262_144),
    ("grok-4-0709", 262_144),
    ("grok-4-latest", 262_144),
    ("Grok-4-Fast-Reasoning", 2_000_000),
    ("xai/grok-4.1-fast-reasoning", 2_000_000),
    ("grok-4-1-fast-reasoning", 2_000_000),
    ("grok-4-20-reasoning", 2_000_000),
    ("grok-4.20", 2_000_000),
    ("grok-4.3", 1_000_000),
    ("grok-4.5", 500_000),
    ("grok_4.6", 500_000),
    ("our-grok-4.7", 500_000),
    ("grok-3-mini", 131_072),
    ("grok-3-mini-fast", 131_072),
    ("grok-code-fast-1", 262_144),
    ("grok-build-0.1", 262_144),
    ("grok-4.20-multi-agent-0309", None),
    ("grok-4.8", None),
    ("grok-4-8", None),
    ("grok-5", None),
    ("grok", None),
    ("our-grok", None),
    ("grok-3", 0),
    ("grok-3-fast", 0),
    ("grok-2-1212", 0),
    ("grok-4-fast-non-reasoning", 0),
    ("xai/grok-4.20-non-reasoning", 0),
    ("grokking-7b", 0),
    ("gpt-5.4", 0),
]


@pytest.mark.parametrize(("name", "window"), MODELS)
def test_what_bounds_a_model(name: str, window: int | None) -> None:
    assert reasons_beyond_cap(name) is (window != 0)
    if window != 0:
        assert context_window(name) == window


def made(provider: str, **variables: str) -> AIProvider:
    return Registry(load_settings(variables)).get(provider)


@pytest.mark.parametrize("provider", ["azure", "openai", "gcp"])
def test_a_grok_in_the_cloud_is_bounded_by_its_context_window(provider: str) -> None:
    assert made(provider).output_bound("xai/grok-4.3", 64) == 1_000_000
    assert made(provider).output_bound("grok-4.3", 3_000_000) == 3_000_000
    assert made(provider).output_bound("grok-9", 64) is None
    assert made(provider).output_bound("gpt-5.4", 64) == 64


@pytest.mark.parametrize("provider", ["ollama", "vllm"])
def test_a_server_of_our_own_holds_any_model_to_the_cap(provider: str) -> None:
    assert made(provider).output_bound("grok-9", 64) == 64


def test_a_deployment_is_what_its_price_alias_says() -> None:
    azure = made("azure", AI_PRICE_ALIASES='{"azure/thinker": "grok-4-fast-reasoning", "azure/grok": "gpt-4o"}')
    assert azure.output_bound("thinker", 64) == 2_000_000
    assert azure.output_bound("grok", 64) == 64


@pytest.mark.parametrize("provider", ["azure", "aws", "anthropic", "vllm"])
def test_what_the_settings_state_holds_for_any_provider(provider: str) -> None:
    stated = made(provider, AI_OUTPUT_BOUNDS=f'{{"{provider}/grok-9": 5000}}')
    assert stated.output_bound("grok-9", 64) == 5000
    assert stated.output_bound("grok-9", 9000) == 9000, "never below the cap"
