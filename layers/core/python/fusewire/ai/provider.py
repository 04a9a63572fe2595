"""The interface that every provider implements: three methods, and what it declares of itself as data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from math import inf
from typing import ClassVar, Final, NamedTuple
from urllib.parse import urlsplit

from fusewire.ai.counting import ANY_SERVER, TEMPLATE_TOKENS, TOKENS_PER_REQUEST, Counting
from fusewire.ai.schema import (
    CAPABILITIES,
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
    features,
    hints,
)
from fusewire.budget.model_names import pair_of
from fusewire.config import ConfigurationError, Settings
from fusewire.price_overrides import CacheWrites

TIERS: Final = ("sota", "cost_effective")
MAX_TEMPLATE_TOKENS: Final = 1_000_000


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
    optional: tuple[str, ...] = ()
    """Others that it reads."""
    template_tokens: str | None = None
    """Tokens that its server adds to a prompt; None for a vendor that runs no server of others."""

    def names(self) -> tuple[str, ...]:
        """Every variable, once."""
        models = (self.sota, self.cost_effective, self.embedding)
        found = (*self.required, self.endpoint, self.credential, *self.optional, *models, self.template_tokens)
        return tuple(dict.fromkeys(name for name in found if name))


@dataclass(frozen=True, slots=True)
class UsualModels:
    """What a vendor's own server is asked for where the variables name no model."""

    sota: str
    cost_effective: str
    embedding: str | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that one attempt may take."""

    connect: float
    first: float
    """Until a stream's first content, or until all of an answer that isn't streamed."""
    total: float
    silence: float = inf
    """Between two parts of a stream that has begun."""


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
    usual_models: ClassVar[UsualModels | None] = None
    """With these a key alone configures it, at the vendor's own address: nobody knows what another server has."""
    sdk: tuple[str, ...] = ()
    """The modules that a first call imports; before a snapshot they are imported ahead."""
    supported: ClassVar[frozenset[str]] = frozenset()
    """What it honours, in the words of `fusewire.ai.schema.CAPABILITIES`. Of whatever isn't here, a field that changes
    the meaning of the answer takes it out of the chain, and a hint is left out and named in `x-fusewire-dropped`."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        """
        :raises TypeError: for a capability that no field of a request asks for, or a variable that doesn't begin with
            the id, by which `Registry.mentioned` knows it
        """
        super().__init_subclass__(**kwargs)
        if unknown := cls.supported - CAPABILITIES:
            raise TypeError(f"{cls.__name__}.supported: no field asks for {', '.join(sorted(unknown))}")
        variables = getattr(cls, "variables", None)
        if variables and (strange := [v for v in variables.names() if not v.startswith(f"{cls.id.upper()}_")]):
            raise TypeError(f"{cls.__name__}.variables: {', '.join(strange)} must begin with {cls.id.upper()}_")

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: for an endpoint that is no address"""
        self.settings = settings
        name = self.variables.endpoint
        if name and (endpoint := settings.variable(name)) and not _is_address(endpoint):
            raise ConfigurationError(
                f"{name}=(hidden) can't be used: it must begin with http:// or https:// and a host."
            )
        self.template_tokens = self._template_tokens()
        """The most tokens that its server adds to a prompt once: the default system text of a chat template."""

    # --- what it is, from the settings ---

    def missing(self) -> tuple[str, ...]:
        """Variables to set before it is configured; empty when it is."""
        v = self.variables
        if v.required:
            missing = [name for name in v.required if not self.settings.variable(name)]
        else:
            either = [name for name in (v.endpoint, v.credential) if name]
            missing = [] if any(map(self.settings.variable, either)) or not either else either[:1]
        if not any(map(self.settings.variable, self._model_variables())) and self._usual is None:
            if self.usual_models and self.at_vendor() and v.credential:
                return (v.credential,)
            missing += self._model_variables()[:1]
        return tuple(missing)

    def has_model(self) -> bool:
        """Whether it is meant to be used, though its key may only be known later.

        A key that is only known later doesn't count with its usual models: nobody has named this vendor yet.
        """
        return any(map(self.settings.variable, self._model_variables())) or self._usual is not None

    def tier_model(self, tier: str) -> str | None:
        """The model that serves `sota` or `cost_effective` here."""
        v, usual = self.variables, self._usual
        if tier == "sota":
            return self._named(v.sota, usual.sota if usual else None)
        return self._named(v.cost_effective, usual.cost_effective if usual else None)

    def embedding_model(self) -> str | None:
        usual = self._usual
        return self._named(self.variables.embedding, usual.embedding if usual else None)

    def models(self) -> tuple[str, ...]:
        """The models that the settings name, each once."""
        named = (*map(self.tier_model, TIERS), self.embedding_model())
        return tuple(dict.fromkeys(model for model in named if model))

    def place(self) -> str | None:
        """Where the server is that is asked, in the words of the vendor's price list; None where it names no places."""
        return None

    def known_as(self, model: str) -> str:
        """The model behind a name, such as a deployment's, that `AI_PRICE_ALIASES` tells of; else the name itself."""
        return self._price_aliases.get(pair_of(f"{self.id}/{model}"), model)

    @cached_property
    def _price_aliases(self) -> dict[str, str]:
        return {pair_of(name): target for name, target in self.settings.ai_price_aliases.items()}

    def at_vendor(self) -> bool:
        """Whether it is the vendor's own server that is asked, and none that the settings name."""
        return not (self.variables.endpoint and self.settings.variable(self.variables.endpoint))

    def _template_tokens(self) -> int:
        """:raises ConfigurationError: for a value that is no such number"""
        name = self.variables.template_tokens
        if name is None:
            return TOKENS_PER_REQUEST
        value = self.settings.variable(name)
        if value is None:
            return TOKENS_PER_REQUEST if self.at_vendor() and not self.local else TEMPLATE_TOKENS
        if not (value.isascii() and value.isdigit() and len(value) < 8 and int(value) <= MAX_TEMPLATE_TOKENS):
            raise ConfigurationError(
                f"{name}={value[:40]!r} can't be used: it must be a number of tokens, from 0 to {MAX_TEMPLATE_TOKENS}."
            )
        return int(value)

    @cached_property
    def _usual(self) -> UsualModels | None:
        """The usual models where they hold: with a key, at the vendor itself."""
        key = self.variables.credential
        return self.usual_models if key and self.settings.variable(key) and self.at_vendor() else None

    def _model_variables(self) -> list[str]:
        v = self.variables
        return [name for name in dict.fromkeys((v.sota, v.cost_effective, v.embedding)) if name]

    def _named(self, variable: str | None, usual: str | None) -> str | None:
        return (self.settings.variable(variable) if variable else None) or usual

    def is_model_name(self, model: str, *, embedding: bool = False) -> bool:
        """Whether a model may be named so here. A caller may pin any name, and some stand in an address."""
        return model.isprintable() and model == model.strip() != ""

    def key_expires_on(self) -> date | None:
        return self.settings.key_expiry(self.id)

    # --- what it honours ---

    def supports(self, model: str | None = None) -> frozenset[str]:
        """The capabilities of this provider as it is set up, and of this model of it.

        :param model: which will be asked; None for what holds of all of them
        """
        return self.supported

    def unsupported(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """The request's fields that change the meaning and that this provider, or this model of it, can't honour."""
        supported = self.supports(model)
        needed = features(request)
        return tuple(dict.fromkeys(param for name, param in needed.items() if name not in supported))

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """The request's hints that this provider, or this model of it, has no place for."""
        return tuple(sorted(hints(request) - self.supports(model)))

    def output_bound(self, model: str, output_cap: int) -> int | None:
        """The most output tokens that a choice with this cap may be billed for; None where nobody knows.

        That is the cap, which the provider enforces, except of models whose reasoning isn't under it.
        """
        stated = self.settings.ai_output_bounds.get(f"{self.id}/{model}")
        return output_cap if stated is None else max(stated, output_cap)

    def counting(self, model: str) -> Counting:
        """What is known of how this model's input is counted."""
        return ANY_SERVER

    def cache_writes(self, request: ChatRequest, model: str) -> CacheWrites:
        """The dearest kind of cache write that this request may be billed for: any, where nobody knows."""
        return "1h"

    # --- what it does ---

    def count_tokens(self, request: ChatRequest, model: str, timeouts: Timeouts) -> int | None:
        """The input's tokens by the vendor's own count, which must cost nothing; None where it has no such thing.

        :raises ProviderFailure: when no count can be had
        """
        return None

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


def is_path_segment(name: str) -> bool:
    """Whether a name can be one segment of an address's path, and that segment alone (RFC 3986, 3.3 and 5.2.4)."""
    return name not in ("", ".", "..") and not set(name) & set("/\\?#%")


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port out of range, half an IPv6 address
        return False


class Target(NamedTuple):
    """A provider, and its name for one of its models."""

    provider: AIProvider
    model: str
