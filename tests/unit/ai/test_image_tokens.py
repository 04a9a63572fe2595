"""Images' tokens: what vendors document and what they were seen to bill is within the bound, and close to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.bounds import TOKENS_PER_PART
from fusewire.ai.counting import MAX_IMAGE_TOKENS, ImageSize, ImageTokens, any_image
from fusewire.ai.image_tokens import gemini_image_tokens, openai_image_tokens
from fusewire.ai.providers.anthropic.models import claude_counting


def way(model: str) -> ImageTokens:
    if "claude" in model:
        return claude_counting(model).images
    return gemini_image_tokens(model) if "gemini" in model else openai_image_tokens(model)


FORUM = "community.openai.com, "
BILLED = [
    # Examples of OpenAI's "Images and vision: calculating costs".
    ("gpt-4o", (1024, 1024), "high", 765, "OpenAI's guide"),
    ("gpt-4o", (2048, 4096), "high", 1105, "OpenAI's guide"),
    ("gpt-4o", (4096, 8192), "low", 85, "OpenAI's guide"),
    ("gpt-4.1-mini", (1024, 1024), "high", 1659, "OpenAI's guide"),
    ("gpt-4.1-mini", (1800, 2400), "high", 2353, "OpenAI's guide"),
    # Usages that people reported, without the text's tokens.
    ("gpt-4.1", (2049, 513), "high", 1445, FORUM + "vision-pricing-calculator-inaccurate/1281361"),
    ("gpt-4.1", (2050, 513), "high", 765, FORUM + "vision-pricing-calculator-inaccurate/1281361"),
    ("gpt-4.1-mini", (4000, 1474), "high", 2488, FORUM + "vision-pricing-calculator-inaccurate/1281361"),
    ("gpt-5-mini", (1600, 1600), "high", 1834, FORUM + "introducing-gpt-5-4-mini-and-nano/1377015"),
    ("gpt-5-nano", (1600, 1600), "high", 2290, FORUM + "introducing-gpt-5-4-mini-and-nano/1377015"),
    ("gpt-5.4", (1600, 1600), "high", 3008, FORUM + "introducing-gpt-5-4-mini-and-nano/1377015"),
    ("gpt-5.4-mini", (1600, 1600), "high", 3008, FORUM + "introducing-gpt-5-4-mini-and-nano/1377015"),
    ("gpt-5.4-nano", (1600, 1600), "high", 3008, FORUM + "introducing-gpt-5-4-mini-and-nano/1377015"),
    ("gpt-5.6-sol", (1920, 1080), "auto", 1844, "vybestack/llxprt-code#3477"),
    ("gemini-2.5-flash", (700, 1003), "auto", 1806, "googleapis/python-genai#1907"),
    ("gemini-2.5-pro", (3840, 2160), "auto", 258, "googleapis/python-genai#1349"),
    ("claude-opus-4-6", (2576, 1449), "auto", 1561, "claudecodecamp.com, images-cost-3x-more-tokens"),
    ("claude-3-7-sonnet-latest", (1000, 1000), "auto", 1334, "Anthropic's guide, 2025"),
    ("claude-3-7-sonnet-latest", (1092, 1092), "auto", 1590, "Anthropic's guide, 2025"),
    ("claude-opus-5-5", (1000, 1000), "auto", 1296, "Anthropic's guide, 2026"),
    ("claude-opus-5-5", (8000, 8000), "auto", 4784, "Anthropic's guide, 2026"),
    ("gemini-3.8-flash", (4000, 3000), "auto", 1120, "Google's guide"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "size", "detail", "billed", "source"), BILLED)
def test_what_was_billed_is_within_the_bound(
    model: str, size: tuple[int, int], detail: str, billed: int, source: str
) -> None:
    """Some reports have the tokens around an image in theirs, which are a part's allowance."""
    assert billed <= way(model)(ImageSize(*size), detail) + TOKENS_PER_PART, source


MODELS = [
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-nano", "o1", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2", "gpt-5.4",
    "gpt-5.4-nano", "gpt-5.6-sol", "gpt-6.1-terra", "claude-haiku-4-5", "claude-opus-5-5", "gemini-3.8-flash",
]  # fmt: skip
sizes = st.builds(ImageSize, st.integers(1, 70_000), st.integers(1, 70_000))


@given(st.sampled_from([*MODELS, "gemini-2.5-flash"]), sizes, st.sampled_from(["auto", "low", "high"]))
def test_no_image_has_more_tokens_than_one_of_unknown_size(model: str, size: ImageSize, detail: str) -> None:
    known, unknown = way(model)(size, detail), way(model)(None, detail)
    assert 0 < known <= unknown <= MAX_IMAGE_TOKENS
    assert way(model)(ImageSize(size.height, size.width), detail) == known


@pytest.mark.parametrize("model", MODELS)
def test_a_known_models_image_isnt_bounded_by_anothers(model: str) -> None:
    """63 times too much was reserved for a picture of 1,024 x 1,024 before."""
    most = way(model)(ImageSize(1024, 1024), "auto")
    assert most < (26_000 if model == "gpt-4o-mini" else 2700)


@pytest.mark.parametrize("model", ["gpt-7", "gpt-5.10", "gemini-4-argon", "claude-lookalike", "somebodys"])
def test_a_model_that_isnt_documented_is_bounded_by_the_dearest(model: str) -> None:
    if "claude" not in model:
        assert way(model) is any_image
    assert way(model)(None, "auto") >= 4784


@given(sizes)
def test_tiles_are_never_fewer_than_by_exact_arithmetic(size: ImageSize) -> None:
    """Of the steps that OpenAI's guide describes, without rounding in between."""
    width, height = (side * min(1, 2048 / max(size)) for side in size)
    scale = min(1, 768 / min(width, height))
    tiles = -int(-width * scale // 512) * -int(-height * scale // 512)
    assert openai_image_tokens("gpt-4o")(size, "high") >= 85 + 170 * tiles - 170 * (tiles > 8)
