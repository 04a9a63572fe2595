"""The table of requests in docs/providers.md: a row for each field, a column for each provider."""

from typing import Final

from fusewire.ai.provider import AIProvider
from scripts.docs.examples import Example, examples
from scripts.docs.mapping import OTHER_MODELS, SETTINGS, Treatment, ids, model_of, places, provider, treatment

_REMARKS: Final = {
    ("max_completion_tokens", "anthropic"): "thinking counts toward it",
    ("messages.role: system", "anthropic"): "all of them joined by newlines",
    ("messages.role: developer", "azure"): "for it takes only one of the two",
    ("messages.content", "aws"): "blank ones are left out",
    ("messages.content", "anthropic"): "blank ones join the one before",
    ("messages.content.image_url: data", "aws"): "of png, jpeg, gif, webp",
    ("messages.content.image_url: data", "anthropic"): "of the same four",
    ("messages.content.image_url: https", "gcp"): "`gs://` too",
    ("messages.refusal", "aws"): "as text",
    ("messages.refusal", "gcp"): "as text",
    ("messages.refusal", "anthropic"): "as text",
    ("messages.tool_calls", "aws"): "ids made valid and unique; as text where no tools are offered",
    ("messages.tool_calls", "gcp"): "each answer's first call signed",
    ("messages.tool_calls", "anthropic"): "ids made valid and unique",
    ("messages.tool_call_id", "aws"): "neighbours in one turn",
    ("messages.tool_call_id", "anthropic"): "neighbours in one turn",
    ("tools.function.strict", "gcp"): "which holds for all of them",
    ("tool_choice: none", "aws"): "no tools are sent",
    ("tool_choice: none", "ollama"): "no tools are sent",
    ("tool_choice: a function", "gcp"): "that tool alone is sent",
    ("tool_choice: a function", "ollama"): "that tool alone is sent",
    ("stop", "aws"): "for Claude, white space alone is refused",
    ("stop", "anthropic"): "white space alone is refused",
    ("temperature", "aws"): "above 1 skipped",
    ("temperature", "anthropic"): "above 1 skipped",
    ("top_p", "aws"): "by Claude not beside a temperature",
    ("top_p", "anthropic"): "not beside a temperature",
    ("reasoning_effort", "gcp"): "low, medium, high",
    ("user", "anthropic"): "its SHA-256",
    ("safety_identifier", "anthropic"): "its SHA-256, before the user's",
}
"""What no example shows, by row and provider."""


def requests_table() -> str:
    """The table as Markdown."""
    rows = [("field", *ids()), tuple("---" for _ in ("field", *ids()))]
    for example in examples():
        rows.append((f"`{example.label}`{example.note}", *(cell(example, name) for name in ids())))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(example: Example, name: str) -> str:
    """What one provider does with one field."""
    usual = treatment(provider(name), example, model_of(name))
    text = _described(provider(name), example, usual)
    for other, conditions in _exceptions(example, name, usual).items():
        text += f"; `{other}` {conditions}"
    return text


def _described(asked: AIProvider, example: Example, usual: Treatment) -> str:
    remark = _REMARKS.get((example.label, asked.id))
    where = [f"`{place}`" for place in places(asked, example, model_of(asked.id))] if usual == "mapped" else []
    more = [*where, remark] if remark else where
    return f"`{usual}`: {', '.join(more)}" if more else f"`{usual}`"


def _exceptions(example: Example, name: str, usual: Treatment) -> dict[Treatment, str]:
    found: dict[Treatment, list[str]] = {}
    for setting in SETTINGS.get(name, {}):
        other = treatment(provider(name, setting), example, model_of(name))
        found.setdefault(other, []).append(f"under `{setting}`")
    for model in OTHER_MODELS.get(name, ()):
        other = treatment(provider(name), example, model)
        found.setdefault(other, []).append(f"for `{model}`")
    return {
        other: ", ".join(conditions).replace("`, for `", "`, `")
        for other, conditions in found.items()
        if other != usual
    }
