"""What the API formats share: a request becomes a `ChatRequest`, and its answer is rendered in the caller's format.

`functions/complete` serves them all over one router. Each format's package maps both ways.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from fusewire.ai.schema import ChatRequest, ChatResponse, StreamChunk
from fusewire.ai.schema.capabilities import UNSUPPORTED, asks_nothing
from fusewire.errors import FusewireError


@dataclass(frozen=True, slots=True)
class ApiFormat:
    """One call in an API format: what it asks for, and how its answer is rendered."""

    request: ChatRequest
    render: Callable[[ChatResponse, Decimal], object]
    """From a whole answer and its cost in USD to the body."""
    render_stream: Callable[[Iterator[StreamChunk]], Iterator[bytes]]
    """From a stream to server-sent events."""
    dropped: tuple[str, ...] = ()
    """The fields of the request that `ChatRequest` has no place for, and that change no meaning."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What this format calls the fields of `ChatRequest`, where that differs."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that only this format's answers have."""


def translate_param(error: FusewireError, names: Mapping[str, str]) -> tuple[str, str | None]:
    """An error's message and the field that it names, as the caller's format calls that field.

    :param names: as `ApiFormat.names`
    """
    own = names.get(error.param or "")
    if own is None:
        return error.message, error.param
    return f"{error.message} Here {error.param} is {own}.", own


def unsupported(why: str, *, unless: object = None) -> BeforeValidator:
    """For a field that is known and can't be honoured: whatever asks for something is refused by the field's name.

    Absent, null, false and empty ask for nothing; nor does `unless`.
    """

    def check(value: object) -> object:
        if asks_nothing(value, (False, unless)):
            return value
        raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": why})

    return BeforeValidator(check)


def refused(why: str) -> AfterValidator:
    """For the `type` of an object that is known and can't be honoured."""

    def refuse(kind: str) -> str:
        raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": f"{why} (got {kind!r})"})

    return AfterValidator(refuse)


def of_type(*types: str | None, why: str) -> BeforeValidator:
    """For objects of which only some types can be honoured: another is refused whatever else it holds."""

    def check(value: object) -> object:
        kind = value.get("type") if isinstance(value, dict) else types[0]
        if kind in types:
            return value
        shown = f" (got {kind!r})" if isinstance(kind, str) and len(kind) < 60 else ""
        raise PydanticCustomError(UNSUPPORTED, "{why}", {"why": why + shown})

    return BeforeValidator(check)
