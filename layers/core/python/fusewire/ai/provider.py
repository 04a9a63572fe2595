"""The seam that every vendor fits: three methods, and what it says of itself as data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import ClassVar, Final
from urllib.parse import urlsplit

from fusewire.ai.vocabulary import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    NamedToolChoice,
    StreamChunk,
)
from fusewire.config import ConfigurationError, Settings

TIERS: Final = ("sota", "cost_effective")


@dataclass(frozen=True, slots=True)
class Variables:
    """The names of a provider's environment variables, each None where the provider has no such thing."""

    endpoint: str | None = None
    credential: str | None = None
    sota: str | None = None
    cost_effective: str | None = None
    embedding: str | None = None
    required: tuple[str, ...] = ()
    """Without each of these it isn't configured. Where empty, either the endpoint or the credential is enough."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that one attempt may take: to connect, until its first content (or whole answer), and altogether."""

    connect: float
    first: float
    total: float


class AIProvider(ABC):
    """One vendor. Knows nothing of budgets; raises `ProviderFailure` for whatever goes wrong upstream.

    A subclass sets the class attributes and implements `complete`, `stream` and `embed`; one line in
    `fusewire.ai.registry._PROVIDER_FACTORIES` makes it known. Instances live as long as the execution environment:
    make clients once, on first use, and import the vendor's SDK there.
    """

    id: ClassVar[str]
    local: ClassVar[bool] = False
    """Runs on our own machines: costs nothing unless priced, and may see confidential data."""
    variables: ClassVar[Variables]
    sdk: ClassVar[tuple[str, ...]] = ()
    """The modules that a first call imports; before a snapshot they are imported ahead."""
    cannot: ClassVar[frozenset[str]] = frozenset()
    """Features that change the meaning and that it can't honour (names as in `features`): it leaves the chain."""
    ignores: ClassVar[frozenset[str]] = frozenset()
    """Advisory request fields that it has no place for: left out upstream, and named in `x-fusewire-dropped`."""

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: for an endpoint that is no address"""
        self.settings = settings
        name = self.variables.endpoint
        if name and (endpoint := settings.variable(name)) and not _is_address(endpoint):
            raise ConfigurationError(
                f"{name}=(hidden) can't be used: it must begin with http:// or https:// and a host."
            )

    # --- what it is, from the settings ---

    def missing(self) -> tuple[str, ...]:
        """Variables to set before it is configured; empty when it is."""
        v = self.variables
        if v.required:
            missing = [name for name in v.required if not self.settings.variable(name)]
        else:
            either = [name for name in (v.endpoint, v.credential) if name]
            missing = [] if any(map(self.settings.variable, either)) or not either else either[:1]
        models = [name for name in dict.fromkeys((v.sota, v.cost_effective, v.embedding)) if name]
        if not any(map(self.settings.variable, models)):
            missing += models[:1]
        return tuple(missing)

    def has_model(self) -> bool:
        """Whether it is meant to be used, though its key may only be known later."""
        v = self.variables
        return any(map(self.settings.variable, filter(None, (v.sota, v.cost_effective, v.embedding))))

    def tier_model(self, tier: str) -> str | None:
        """The model that serves `sota` or `cost_effective` here."""
        name = self.variables.sota if tier == "sota" else self.variables.cost_effective
        return self.settings.variable(name) if name else None

    def embedding_model(self) -> str | None:
        return self.settings.variable(self.variables.embedding) if self.variables.embedding else None

    def key_expires_on(self) -> date | None:
        return self.settings.key_expiry(self.id)

    # --- what it can't do ---

    def unsupported(self, request: ChatRequest, model: str | None = None) -> tuple[str, ...]:
        """The request's fields that change the meaning and that this provider, or this model of it, can't honour.

        :param model: which will be asked; None for what holds of all of them
        """
        asked = features(request)
        return tuple(dict.fromkeys(asked[name] for name in asked if name in self.cannot))

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """The request's advisory fields that this provider, or this model of it, has no place for."""
        return tuple(sorted(name for name in self.ignores if getattr(request, name, None) is not None))

    # --- what it does ---

    @abstractmethod
    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        """One answer. `output_cap` (tokens, per choice) must be sent upstream, where the provider enforces it.

        :raises ProviderFailure: when no answer can be had
        """

    @abstractmethod
    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        """The answer in pieces; usage comes in the last chunk, whether or not the caller asked for it.

        The iterator ends normally only when the provider said that the answer is complete.
        :raises ProviderFailure: from the call itself or from the iterator
        """

    @abstractmethod
    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        """Vectors for the inputs, in their order.

        :raises ProviderFailure: when no answer can be had
        """


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port out of range, half an IPv6 address
        return False


def features(request: ChatRequest) -> Mapping[str, str]:
    """The features that a request needs, each with the field (`param`) that asks for it.

    Names: `tools`, `tool_choice_required`, `tool_choice_named`, `tool_choice_none`, `serial_tool_calls`, `images`,
    `json_schema`, `json_object`, `n`, `stop`, `logprobs`, `reasoning_effort`.
    """
    choice, response_format = request.tool_choice, request.response_format
    asked = {
        "tools": ("tools", bool(request.tools)),
        "tool_choice_required": ("tool_choice", choice == "required"),
        "tool_choice_named": ("tool_choice", isinstance(choice, NamedToolChoice)),
        "tool_choice_none": ("tool_choice", choice == "none" and bool(request.tools)),
        "serial_tool_calls": ("parallel_tool_calls", request.parallel_tool_calls is False),
        "images": ("messages", next(request.images(), None) is not None),
        "json_schema": (
            "response_format",
            response_format is not None and response_format.type == "json_schema",
        ),
        "json_object": (
            "response_format",
            response_format is not None and response_format.type == "json_object",
        ),
        "n": ("n", (request.n or 1) > 1),
        "stop": ("stop", bool(request.stop)),
        "logprobs": ("logprobs", bool(request.logprobs)),
        "reasoning_effort": ("reasoning_effort", request.reasoning_effort is not None),
    }
    return {name: param for name, (param, needed) in asked.items() if needed}
