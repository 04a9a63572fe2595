"""What a provider does with a row's field: by what it declares, and by what it sends with and without the field."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Literal, Protocol, cast

from fusewire.ai.failures import UnsupportedField
from fusewire.ai.provider import AIProvider
from fusewire.ai.registry import Registry
from fusewire.ai.schema import ChatRequest, fields_of, kept, needs
from fusewire.config import load_settings
from scripts.docs.examples import CAP, Example, request

Treatment = Literal["mapped", "refused", "skipped", "kept", "dropped"]

MODELS: Final = {
    "aws": "amazon.nova-2-lite-v1:0",
    "gcp": "gemini-3.8-flash",
    "openai": "gpt-4.1",
    "anthropic": "claude-sonnet-4-6",
}
"""The model of a cell that names none, where it matters which."""
OTHER_MODELS: Final = {
    "aws": ("anthropic.claude-opus-5-5", "anthropic.claude-haiku-4-5", "meta.llama3-1-70b-instruct-v1:0"),
    "openai": ("gpt-5", "o3"),
    "anthropic": ("claude-opus-5-5", "claude-opus-4-7", "claude-sonnet-5-5", "claude-haiku-4-5"),
}
"""Models that a cell names where they differ from that one."""
SETTINGS: Final = {
    "azure": {"AZURE_AI_API_VERSION": "2024-10-21"},
    "openai": {"OPENAI_BASE_URL": "http://server.invalid/v1"},
    "anthropic": {"ANTHROPIC_BASE_URL": "http://server.invalid"},
}
"""Settings that a cell names where they make a difference."""


class MappingError(Exception):
    """A provider sends something else than it declares."""


class _HasBody(Protocol):
    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]: ...


@cache
def provider(name: str, setting: str | None = None) -> AIProvider:
    return Registry(load_settings({setting: SETTINGS[name][setting]} if setting else {})).get(name)


def ids() -> tuple[str, ...]:
    """Every registered provider."""
    return Registry(load_settings({})).ids()


def model_of(name: str) -> str:
    return MODELS.get(name, "a-model")


def body(asked: AIProvider, sent: ChatRequest, model: str) -> dict[str, Any]:
    """What would be sent upstream."""
    return cast(_HasBody, asked).body(sent, model, CAP)


def undeclared(asked: AIProvider, example: Example, model: str) -> set[str]:
    """The capabilities that the example needs and the provider doesn't declare."""
    return {need.capability for need in needs(example.request())} - asked.supports(model)


def treatment(asked: AIProvider, example: Example, model: str) -> Treatment:
    """What becomes of the field.

    :raises MappingError: where what is sent isn't what is declared
    """
    given, without = example.request(), request(example.without)
    refused, dropped = asked.unsupported(given, model), asked.dropped(given, model)
    if undeclared(asked, example, model):
        if kept(given) - asked.supports(model) and not refused:
            return "kept"
        if not refused and not dropped:
            raise MappingError(f"{asked.id} says nothing of {example.label}, which it doesn't declare")
        if not refused and _differ(asked, given, without, model):
            raise MappingError(f"{asked.id} sends {example.label}, which it doesn't declare")
    if refused:
        return "skipped" if fields_of(ChatRequest, "preference").issuperset(refused) else "refused"
    if dropped:
        return "dropped"
    if not example.always_sent and not _differ(asked, given, without, model):
        raise MappingError(f"{asked.id} declares {example.label}, and sends nothing of it")
    return "mapped"


def _differ(asked: AIProvider, given: ChatRequest, without: ChatRequest, model: str) -> bool:
    try:
        return body(asked, given, model) != body(asked, without, model)
    except UnsupportedField:  # nothing is sent
        return False


def places(asked: AIProvider, example: Example, model: str) -> list[str]:
    """Where a field stands in the upstream body, and as which word, where that isn't its own place and word."""
    sent = body(asked, example.request(), model)
    if example.always_sent:
        return [path for path, value in _leaves(sent) if value == CAP and path != example.label]
    theirs = dict(example.fields)
    new = _paths(sent) - _paths(body(asked, request(example.without), model)) - _paths(theirs)
    words = {value for _, value in _leaves(theirs)}
    if new:
        tops = [path for path in sorted(new) if path.rpartition(".")[0] not in new]
        keys = {path.rpartition(".")[2] for path in _paths(theirs)}
        renamed = [path for path in tops if path.rpartition(".")[2] not in keys]
        return [_with_word(_only_child(path, new), sent, words) for path in renamed or tops]
    changed = set(_leaves(sent)) - set(_leaves(body(asked, request(example.without), model)))
    return sorted(f"{path}={value}" for path, value in changed if _is_word(value) and value not in words)


def _only_child(path: str, among: set[str]) -> str:
    children = [each for each in among if each.rpartition(".")[0] == path]
    return _only_child(children[0], among) if len(children) == 1 else path


def _with_word(path: str, sent: dict[str, Any], theirs: set[object]) -> str:
    values = {value for at, value in _leaves(sent) if at == path}
    if len(values) == 1 and _is_word(word := values.pop()) and word not in theirs:
        return f"{path}={word}"
    return path


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier() and len(value) < 20


def _paths(value: object) -> set[str]:
    """The keys of a body as paths; lists are passed through."""
    return set(_walked(value, ""))


def _walked(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, within in value.items():
            yield f"{path}{key}"
            yield from _walked(within, f"{path}{key}.")
    elif isinstance(value, list):
        for within in value:
            yield from _walked(within, path)


def _leaves(value: object, path: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [leaf for key, within in value.items() for leaf in _leaves(within, f"{path}.{key}" if path else key)]
    if isinstance(value, list):
        return [leaf for within in value for leaf in _leaves(within, path)]
    return [(path, value)]
