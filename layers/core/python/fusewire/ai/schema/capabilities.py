"""What each optional field of a request asks of a provider: declared once, beside the field in `requests.py`, as data.

A required field is the request's structure and is sent to every provider. An optional one is marked as one of these:

* `SENT`: structure too.
* `NOT_SENT`: read by fusewire itself, such as `stream`, or a field that may only be null or empty.
* `Meaning`: it changes the meaning of the answer. A provider that doesn't declare the capability is passed over.
* `Preference`: it changes how the answer is chosen, not what it is for. A provider that doesn't declare the capability
  is passed over while another one does; where none does, it is left out and the caller is told.
* `Kept`: it changes the meaning, and the gateway keeps it on the answer of a provider that doesn't declare it.
* `Hint`: it changes no meaning. A provider that doesn't declare the capability isn't sent it, and the caller is told.

`Unsupported` stands beside a mark: the field's type is what asks for nothing, and any other value is refused by name.

A field at a neutral value (null, empty, or one that its mark names) asks for nothing: it is never refused or reported.
An empty value is read as null, so that no vendor is sent an empty list that it refuses.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic.fields import FieldInfo

    from fusewire.ai.schema.base import RequestModel

Selection = dict[str, Any]
"""Which fields are sent, as pydantic's `include` takes it."""


class Structure(Enum):
    SENT = "sent"
    NOT_SENT = "not sent"


SENT: Final = Structure.SENT
NOT_SENT: Final = Structure.NOT_SENT

UNSUPPORTED: Final = "unsupported_parameter"
"""The type of a validation error for a field that is known, and that nobody here can honour."""


def asks_nothing(value: object, neutral: Collection[object] = ()) -> bool:
    """Whether a field's value asks for nothing: null, empty, or one of its neutral values."""
    if value is None or (isinstance(value, str | list | dict) and not value):
        return True
    return value in neutral


def _null_for_empty(value: object) -> object:
    return None if asks_nothing(value) else value


@dataclass(frozen=True, slots=True, eq=False)
class _CapabilityMark:
    capability: str | None = None
    """What a provider declares; None where that is the field's own name."""
    neutral: tuple[object, ...] = ()
    by_value: Mapping[object, str] = field(default_factory=dict)
    """Where the capability depends on the value, or on the `type` of an object: capability by value."""
    beside: str | None = None
    """Without this other field it asks for nothing."""
    when: Callable[[Any], bool] | None = None
    """It asks for something only where this holds of the value."""

    def capabilities(self, name: str) -> frozenset[str]:
        """All that a field called `name` may ask for."""
        return frozenset(self.by_value.values()) or frozenset({self.capability or name})

    def asks(self, name: str, value: object) -> str | None:
        """The capability that this value needs; None where it asks for nothing."""
        value = getattr(value, "type", value) if self.by_value else value
        if asks_nothing(value, self.neutral) or (self.when is not None and not self.when(value)):
            return None
        return self.by_value.get(value, name) if self.by_value else self.capability or name

    def __get_pydantic_core_schema__(self, source: object, handler: "GetCoreSchemaHandler") -> core_schema.CoreSchema:
        """pydantic's hook: an empty value of an optional field is read as null."""
        schema = handler(source)
        if type(None) not in get_args(source):
            return schema
        return core_schema.no_info_after_validator_function(_null_for_empty, schema)


class Meaning(_CapabilityMark):
    """Marks a field that changes the meaning of the answer."""


class Preference(_CapabilityMark):
    """Marks a field that changes how the answer is chosen: it is left out where no provider has it."""


class Kept(_CapabilityMark):
    """Marks a field that changes the meaning, and that the gateway keeps itself where the provider doesn't."""


class Hint(_CapabilityMark):
    """Marks a field that changes no meaning."""


Mark = Structure | Meaning | Preference | Kept | Hint
Kind = Literal["meaning", "preference", "kept", "hint"]
_KINDS: Final[dict[type[_CapabilityMark], Kind]] = {
    Meaning: "meaning",
    Preference: "preference",
    Kept: "kept",
    Hint: "hint",
}


class Unsupported:
    """For a field that is known, and that nobody here can honour: what its type doesn't take is refused by its name."""

    def __init__(self, why: str = "this gateway doesn't support it; leave it out") -> None:
        self._why = why

    def __get_pydantic_core_schema__(self, source: object, handler: "GetCoreSchemaHandler") -> core_schema.CoreSchema:
        """pydantic's hook."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: object, handler: Callable[[object], object]) -> object:
        try:
            return handler(_null_for_empty(value))
        except ValidationError:
            raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": self._why}) from None


class Need(NamedTuple):
    """Something that a request asks for."""

    capability: str
    param: str
    """The request's field that asks for it, as an error names it."""
    kind: Kind


class Rule(NamedTuple):
    """What is known of one field of a model."""

    name: str
    mark: Mark
    models: tuple[type["RequestModel"], ...]
    """The models that its value may hold."""
    in_list: bool
    """Whether it holds them in a list."""
    required: bool
    asks_by_default: bool
    """Whether its default asks for something."""


def rules_of(model: type["RequestModel"]) -> tuple[Rule, ...]:
    """The rules of a model's fields.

    :raises TypeError: for an optional field without a mark
    """
    return tuple(_rule(model, name, info) for name, info in model.model_fields.items())


def _rule(model: type["RequestModel"], name: str, info: "FieldInfo") -> Rule:
    marks: list[Mark] = [each for each in info.metadata if isinstance(each, Mark)]
    if len(marks) != 1 and not (info.is_required() and not marks):
        names = ", ".join(kind.__name__ for kind in _KINDS)
        raise TypeError(f"{model.__name__}.{name} must be marked once: SENT, NOT_SENT, {names}")
    mark = marks[0] if marks else SENT
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    found = tuple(_models_in(info.annotation, in_list=False))
    return Rule(
        name,
        mark,
        tuple(model for model, _ in found),
        any(in_list for _, in_list in found),
        info.is_required(),
        isinstance(mark, _CapabilityMark) and mark.asks(name, default) is not None,
    )


def _models_in(annotation: object, *, in_list: bool) -> Iterator[tuple[type["RequestModel"], bool]]:
    if isinstance(annotation, type) and getattr(annotation, "is_sent", False):
        yield annotation, in_list
    for each in get_args(annotation):
        yield from _models_in(each, in_list=in_list or get_origin(annotation) is list)


def needs(request: "RequestModel") -> Iterator[Need]:
    """Whatever the request's fields ask of a provider, its own before what is within them; the same may come twice."""
    return _needs(request, None)


def _needs(model: "RequestModel", param: str | None) -> Iterator[Need]:
    if model.capability is not None:
        yield Need(model.capability, param or "", "meaning")
    given = model.model_fields_set
    for name, mark, *_, asks_by_default in model.capability_rules:
        # Most fields of most requests aren't given.
        if isinstance(mark, Structure) or not (name in given or asks_by_default):
            continue
        if mark.beside is None or getattr(model, mark.beside):
            capability = mark.asks(name, getattr(model, name))
            if capability is not None:
                yield Need(capability, param or name, _KINDS[type(mark)])
    for name, mark, models, *_ in model.capability_rules:
        if models and name in given and mark is not NOT_SENT:
            value = getattr(model, name)
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, models):
                    yield from _needs(each, param or name)


def features(request: "RequestModel") -> dict[str, str]:
    """The capabilities that the request is best served with, each with the first field that asks for it: what changes
    the meaning, and preferences."""
    found: dict[str, str] = {}
    for need in needs(request):
        if need.kind in ("meaning", "preference"):
            found.setdefault(need.capability, need.param)
    return found


def hints(request: "RequestModel") -> frozenset[str]:
    """The capabilities that the request can do without."""
    return frozenset(need.capability for need in needs(request) if need.kind == "hint")


def kept(request: "RequestModel") -> frozenset[str]:
    """The capabilities that the gateway keeps on the answer where the provider lacks them."""
    return frozenset(need.capability for need in needs(request) if need.kind == "kept")


@cache
def fields_of(model: type["RequestModel"], *kinds: Kind) -> frozenset[str]:
    """The names of the model's own optional fields that are marked as one of these."""
    return frozenset(
        rule.name
        for rule in model.capability_rules
        if not isinstance(rule.mark, Structure) and _KINDS[type(rule.mark)] in kinds
    )


def capabilities_of(*models: type["RequestModel"]) -> frozenset[str]:
    """Every capability that requests of these models may ask for."""
    return frozenset(_capabilities_of(models))


def _capabilities_of(models: Collection[type["RequestModel"]]) -> Iterator[str]:
    for model in models:
        if model.capability is not None:
            yield model.capability
        for name, mark, within, *_ in model.capability_rules:
            if isinstance(mark, _CapabilityMark):
                yield from mark.capabilities(name)
            if mark is not NOT_SENT:
                yield from _capabilities_of(within)


@cache
def selection(models: tuple[type["RequestModel"], ...], supported: frozenset[str]) -> Selection:
    """The fields that a provider with these capabilities may be sent, of a value that is one of the models."""
    chosen: Selection = {}
    for model in models:
        for name, mark, within, in_list, required, _ in model.capability_rules:
            declared = isinstance(mark, _CapabilityMark) and not mark.capabilities(name).isdisjoint(supported)
            if mark is SENT or required or declared:
                inner = selection(within, supported) if within else True
                _merge(chosen, {name: {"__all__": inner} if in_list else inner})
    return chosen


def _merge(into: Selection, more: Selection) -> None:
    for name, inner in more.items():
        if isinstance(inner, dict):
            _merge(into.setdefault(name, {}), inner)
        else:
            into[name] = inner
