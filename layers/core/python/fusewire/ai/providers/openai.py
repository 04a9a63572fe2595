"""OpenAI itself, and any server whose address is given as `OPENAI_BASE_URL`."""

import re
from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from fusewire.ai.counting import ANY_SERVER, Counting
from fusewire.ai.provider import UsualModels, Variables
from fusewire.ai.providers.conversation import SELF_HOSTED, Conversation
from fusewire.ai.providers.openai_compatible import SAMPLING, TOOLS, USUAL, OpenAICompatibleProvider
from fusewire.ai.providers.openai_counting import openai_counting
from fusewire.ai.schema import ChatRequest, EmbeddingRequest

OPENAI: Final = USUAL | {
    *("serial_tool_calls", "n", "logprobs", "logit_bias", "user", "safety_identifier", "prompt_cache_key", "store"),
    *("metadata", "verbosity", "messages.name", "messages.image_url.detail", "token_ids"),
    "service_tier",
}
"""Everything in OpenAI's own API reference, but for what only some of its models take."""

OPENAI_CONVERSATION: Final = Conversation(empty_content="null")

_NAMES: Final = r"(?:gpt-(?!oss)|o\d|chatgpt|chat-latest|codex|computer-use)"
_OWN_MODEL: Final = re.compile(rf"(?:.*/)?(?:ft:)?(?:{_NAMES}|text-embedding-)", re.IGNORECASE)
"""OpenAI's own models, wherever an address such as a company's proxy leads to them."""
_TIERED_MODEL: Final = re.compile(rf"(?:ft:)?{_NAMES}", re.IGNORECASE)
"""Models of OpenAI's own. Other servers, at `OPENAI_BASE_URL`, refuse `service_tier` or know other words for it."""
_FIXED_SAMPLING: Final = re.compile(r"(?:^|[/._-])(?:(?P<o>o[134])(?:-|$)|gpt-5(?:-(?!chat)|$))")
"""o1, o3, o4 and GPT-5 itself reason whatever they are asked. From GPT-5.1 on it depends on the effort."""
_REASONS_UNASKED: Final = re.compile(r"(?:^|[/._-])gpt-(?:5\.(?:[5-9]|\d\d)|[6-9])(?:[.-](?!chat)|$)")
"""Models that refuse tools in Chat Completions unless `reasoning_effort` is `none`, whether or not it was sent.

Source: BerriAI/litellm#34569 and livekit/agents#7169 (GPT-5.6, tried with and without), jeffdafoe/llm-memory-api#178
(GPT-5.5), onyx-dot-app/onyx#15008 (GPT-6 Sol).
"""
_NO_EFFORT_WITH_TOOLS: Final = re.compile(r"(?:^|[/._-])gpt-5\.4(?:-(?!chat)|$)")
"""Models that refuse an effort beside tools there, and reason no more than asked without one.

Source: openai/openai-openapi#541, pipecat-ai/pipecat#4043, dotnet/extensions#7407 (GPT-5.4 mini).
"""
_NO_TOOLS: Final = re.compile(r"(?:^|[/._-])gpt-6(?:-astra|\.1-sol)")
"""Models that refuse tools there at every effort, for they have no `none`.

Source: bolna-ai/bolna#1019 and BerriAI/litellm-docs#1173 (GPT-6 Astra, tried); OpenAI's "Reasoning models" (GPT-6.1
Sol).
"""
_NOT_OF_REASONING: Final = (SAMPLING - {"seed"}) | {"logprobs", "logit_bias", "stop"}

_REGIONAL_HOST: Final = re.compile(r"([a-z]{2})\.api\.openai\.com")


def refused_by(model: str | None) -> frozenset[str]:
    """What this model of OpenAI's doesn't take of the rest: its reasoning models refuse what steers sampling.

    Source: OpenAI's "Reasoning models" and "Using GPT-5", under parameter compatibility.
    """
    name = model.lower() if model is not None else ""
    if _NO_TOOLS.search(name):
        return _NOT_OF_REASONING | TOOLS
    found = _FIXED_SAMPLING.search(name)
    if found is None:
        return frozenset()
    return _NOT_OF_REASONING | {"serial_tool_calls"} if found["o"] else _NOT_OF_REASONING


class OpenAIModelsProvider(OpenAICompatibleProvider):
    """A vendor of OpenAI's own models. The newest take no effort beside tools in Chat Completions."""

    @abstractmethod
    def openai_model(self, model: str) -> str | None:
        """The model of OpenAI's that is asked under this name, in small letters; None for another vendor's."""

    def counting(self, model: str) -> Counting:
        name = self.openai_model(model)
        return ANY_SERVER if name is None else openai_counting(name)

    def unsupported(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With `reasoning_effort` where the model refuses it for the tools beside it."""
        params = super().unsupported(request, model)
        if not isinstance(request, ChatRequest) or request.reasoning_effort in (None, "none"):
            return params
        return (*params, "reasoning_effort") if self._refuses_effort(request, model or "") else params

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """With the effort `none` where the model takes tools with no other, its own default included."""
        body = super().body(request, model, output_cap)
        name = self.openai_model(model)
        if request.tools and name is not None and _REASONS_UNASKED.search(name):
            body["reasoning_effort"] = "none"
        return body

    def _refuses_effort(self, request: ChatRequest, model: str) -> bool:
        name = self.openai_model(model) if request.tools else None
        return name is not None and bool(_NO_EFFORT_WITH_TOOLS.search(name) or _REASONS_UNASKED.search(name))


class OpenAIProvider(OpenAIModelsProvider):
    id = "openai"
    default_base_url = "https://api.openai.com/v1"
    variables = Variables(
        endpoint="OPENAI_BASE_URL",
        credential="OPENAI_API_KEY",
        sota="OPENAI_SOTA_MODEL",
        cost_effective="OPENAI_COST_EFFECTIVE_MODEL",
        embedding="OPENAI_EMBEDDING_MODEL",
        template_tokens="OPENAI_TEMPLATE_TOKENS",
    )
    # The newest flagship and small model that take tools in Chat Completions without `reasoning_effort: none`.
    usual_models = UsualModels("gpt-5.4", "gpt-5.4-mini", "text-embedding-3-small")

    def at_vendor(self) -> bool:
        return self._is_openai

    @cached_property
    def _is_openai(self) -> bool:
        return self.allows_remote_images()

    supported = OPENAI

    def place(self) -> str | None:
        """The region of one of OpenAI's regional hosts ("Data residency"), such as `eu` of `eu.api.openai.com`."""
        return self._region

    @cached_property
    def _region(self) -> str | None:
        region = _REGIONAL_HOST.fullmatch(urlsplit(self.base_url() or "").hostname or "")
        return region[1] if region else None

    def service_tier(self, request: ChatRequest, model: str) -> str | None:
        """`default` where none is asked for, lest the project's own setting count."""
        return request.tier_asked or ("default" if _TIERED_MODEL.match(model) else None)

    def allows_remote_images(self) -> bool:
        return super().allows_remote_images() or self.place() is not None

    def supports(self, model: str | None = None) -> frozenset[str]:
        if self._is_own(model):
            return self.supported - refused_by(model)
        # Of another model nobody knows the vocabulary.
        return self.supported - {"token_ids", "store"}

    def openai_model(self, model: str) -> str | None:
        return model.lower() if self._is_own(model) else None

    def counting(self, model: str) -> Counting:
        """OpenAI refuses an input over the window; of Azure, which may bill one, that isn't said."""
        known = super().counting(model)
        return replace(known, refuses_over_window=self.at_vendor()) if known is not ANY_SERVER else known

    def conversation_of(self, model: str) -> Conversation:
        return OPENAI_CONVERSATION if self._is_own(model) else SELF_HOSTED

    def _is_own(self, model: str | None) -> bool:
        return self.at_vendor() or (model is not None and _OWN_MODEL.match(model) is not None)

    def missing(self) -> tuple[str, ...]:
        # The endpoint has a default, so what a new user lacks is the key.
        return tuple("OPENAI_API_KEY" if name == "OPENAI_BASE_URL" else name for name in super().missing())
