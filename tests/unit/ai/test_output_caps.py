"""The output cap of a call at one model, before anything is known of its budgets."""

import pytest

from fusewire.ai.attempts import _size
from fusewire.ai.output_caps import OutputCap, OutputCaps
from fusewire.ai.schema import ChatRequest
from fusewire.budget.largest_outputs import largest_output
from fusewire.budget.price import TokenCounts
from fusewire.config import load_settings
from fusewire.services import assemble

KEYS = {"OPENAI_API_KEY": "k" * 24, "ANTHROPIC_API_KEY": "k" * 24}


def cap_of(
    provider: str,
    model: str,
    *,
    bound: int = 100,
    strict: bool = False,
    env: dict[str, str] | None = None,
    **asks: object,
) -> OutputCap:
    settings = load_settings(KEYS | (env or {}))
    request = ChatRequest.model_validate(
        {"model": f"{provider}/{model}", "messages": [{"role": "user", "content": "?"}], **asks}
    )
    found = assemble(settings).registry.get(provider)
    return OutputCaps(settings).of(request, found, model, bound, is_strict=strict)


@pytest.mark.parametrize(
    ("provider", "model", "largest"),
    [
        ("openai", "gpt-4o", 16_384),
        ("openai", "gpt-4o-2024-05-13", 4096),
        ("openai", "GPT-5.5", 128_000),
        ("anthropic", "claude-opus-5-5", 128_000),
        ("aws", "us.anthropic.claude-sonnet-4-20250514-v1:0", 64_000),
        ("aws", "amazon.nova-pro-v1:0", 10_000),
        ("gcp", "google/gemini-2.5-pro", 65_535),
        ("azure", "openai/gpt-4o", 16_384),
        ("azure", "our-deployment", None),
        ("vllm", "gpt-4o", None),
    ],
)
def test_a_models_largest_output(provider: str, model: str, largest: int | None) -> None:
    assert largest_output(provider, model).tokens == largest


def test_a_long_prompt_leaves_the_window_room() -> None:
    model = "claude-sonnet-4-5"
    assert cap_of("anthropic", model, bound=200_000).tokens == 64_000
    assert cap_of("anthropic", model, bound=300_000).tokens == 50_000
    assert cap_of("anthropic", model, bound=900_000).tokens == 4096
    assert cap_of("anthropic", model, bound=900_000, max_tokens=64_000).tokens == 64_000


def test_a_model_that_reasons_begins_with_more() -> None:
    assert cap_of("openai", "gpt-4o").first == 2048
    assert cap_of("openai", "o3").first == 16_384
    assert cap_of("openai", "unknown", reasoning_effort="high").first == 16_384
    assert cap_of("openai", "unknown", reasoning_effort="none").first == 2048


def test_a_cap_that_isnt_enforced_is_never_fitted() -> None:
    bounds = {"AI_OUTPUT_BOUNDS": '{"openai/strange": 50000}'}
    strange = cap_of("openai", "strange", env=bounds, max_tokens=100)
    assert (strange.tokens, strange.billed, strange.fits) == (100, 50_000, False)
    assert cap_of("openai", "gpt-4o").fits
    assert not cap_of("openai", "gpt-4o", strict=True).fits
    assert not cap_of("openai", "gpt-4o", env={"AI_OUTPUT_CAP_POLICY": "strict"}).fits


def test_a_shorter_cap_is_billed_n_times() -> None:
    whole = cap_of("openai", "gpt-4o", n=3, max_tokens=1000)
    assert (whole.billed, whole.shorter(400).billed) == (3000, 1200)
    assert (whole.smaller, whole.shorter(400).smaller) == (None, 400)


def test_an_answer_that_was_cut_counts_as_a_longer_one() -> None:
    cap = OutputCap(128, 1, 128, 1000)
    assert _size(cap, TokenCounts(1, 128), was_cut=True) == 129
    assert _size(cap, TokenCounts(1, 126), was_cut=True) == 129
    assert _size(cap, TokenCounts(1, 126), was_cut=False) == 126
    assert _size(cap, TokenCounts(1, 30), was_cut=True) == 30  # by the context window
    assert _size(OutputCap(128, 3, 384, 128), TokenCounts(1, 100), was_cut=False) == 34
    assert _size(cap, TokenCounts(1, 0), was_cut=False) == 1
    assert _size(None, TokenCounts(1, 1), was_cut=False) is None
