"""What a model's name tells, for every Claude that Anthropic has named, and for names that it hasn't."""

import pytest

from fusewire.ai.providers.anthropic.models import Traits, traits

ALL = {"low", "medium", "high", "xhigh", "max"}

# (model, takes sampling, takes forced tools, efforts, thinks only when told, how thinking is switched off)
MODELS: list[tuple[str, bool, bool, set[str], bool, str]] = [
    ("claude-3-haiku-20240307", True, True, set(), False, "left out"),
    ("claude-3-5-sonnet-20241022", True, True, set(), False, "left out"),
    ("claude-3-7-sonnet-latest", True, True, set(), False, "left out"),
    ("claude-opus-4-20250514", True, True, set(), False, "left out"),
    ("claude-sonnet-4-0", True, True, set(), False, "left out"),
    ("claude-opus-4-1-20250805", True, True, set(), False, "left out"),
    ("claude-haiku-4-5-20251001", True, True, set(), False, "left out"),
    ("claude-sonnet-4-5", True, True, set(), False, "left out"),
    ("claude-opus-4-5-20251101", True, True, {"low", "medium", "high"}, False, "left out"),
    ("claude-sonnet-4-6", True, True, ALL - {"xhigh"}, True, "left out"),
    ("claude-opus-4.6", True, True, ALL - {"xhigh"}, True, "left out"),
    ("claude-opus-4-7", False, True, ALL, True, "left out"),
    ("claude-opus-4-8", False, True, ALL, True, "left out"),
    ("claude-opus-5", False, True, ALL, False, "disabled"),
    ("claude-opus-5-20260724", False, True, ALL, False, "disabled"),
    ("claude-sonnet-5", False, True, ALL, False, "disabled"),
    ("claude-fable-5", False, True, ALL, False, "impossible"),
    ("claude-mythos-5", False, True, ALL, False, "impossible"),
    ("claude-fable-5-1", False, False, ALL, False, "impossible"),
    ("claude-mythos-5-2", False, False, ALL, False, "impossible"),
    ("claude-opus-5-5", False, False, ALL, False, "impossible"),
    ("claude-sonnet-5-5", False, False, ALL, False, "between_tools"),
    ("claude-haiku-5-5", False, True, ALL, False, "disabled"),
    ("us.anthropic.claude-opus-4-8", False, True, ALL, True, "left out"),
]


@pytest.mark.parametrize(("model", "samples", "forced", "efforts", "row", "off"), MODELS)
def test_a_name_tells_the_models_limits(
    model: str, samples: bool, forced: bool, efforts: set[str], row: bool, off: str
) -> None:
    found = traits(model)
    assert (found.samples, found.forced_tools) == (samples, forced)
    assert found.efforts == efforts
    assert (found.thinks_on_request, found.without_thinking) == (row, off)


@pytest.mark.parametrize("model", ["claude-mythos-preview", "claude", "our-claude-deployment"])
def test_a_claude_whose_name_tells_nothing_gets_the_newest_ones_limits(model: str) -> None:
    assert traits(model) == Traits()
    assert not traits(model).samples


@pytest.mark.parametrize("model", ["qwen3", "gpt-oss-4.1", ""])
def test_other_models_are_held_to_no_claudes_limits(model: str) -> None:
    found = traits(model)
    assert not found.claude
    assert found.samples
    assert found.forced_tools
    assert found.efforts == ALL
