"""`POST /messages`: the request in Anthropic's Messages format, checked.

Source: Anthropic's API reference, "Create a Message", with the betas' fields. `translate` makes a `ChatRequest` of it.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from fusewire.ai.schema import CacheControl, Items, JsonObject, ModelName, TokenCap
from fusewire.http.formats import unsupported
from fusewire.http.messages.content import Effort, OpenModel, TextBlock, Turn
from fusewire.http.messages.tools import AnyTool
from fusewire.http.schema import RequestModel

_ELSEWHERE: Final = "it lives at Anthropic, and other vendors have no such thing"
_OPERATORS: Final = "where a model runs is for the operator's settings to say"
_NO_THREADS: Final = "nothing is stored here; send the whole conversation without thread"
_NONE_YET: Final = Field(max_length=0)
THINKING_TYPES = Literal["enabled", "adaptive", "disabled", "between_tools"]


class ToolChoice(RequestModel):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(RequestModel):
    type: THINKING_TYPES
    budget_tokens: Annotated[int, Field(ge=1024)] | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None
    block_binding: JsonObject | None = None


class OutputFormat(RequestModel):
    type: Literal["json_schema"]
    schema_: Annotated[JsonObject, Field(alias="schema")]


class OutputConfig(RequestModel):
    effort: Effort | None = None
    format: OutputFormat | None = None
    task_budget: JsonObject | None = None


class Metadata(OpenModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    user_id: str | None = None


class PromptRequest(RequestModel):
    """What goes into a prompt: all that `POST /messages/count_tokens` takes."""

    model: ModelName
    messages: Annotated[Items[Turn], Field(min_length=1)]
    system: str | Items[TextBlock] | None = None
    tools: Items[AnyTool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """The beta's name of `output_config.format`."""
    cache_control: CacheControl | None = None
    context_management: JsonObject | None = None
    speed: Literal["standard", "fast"] | None = None
    mcp_servers: Annotated[Annotated[list[Any], _NONE_YET] | None, unsupported(_ELSEWHERE)] = None
    thread: Annotated[None, unsupported(_NO_THREADS)] = None
    betas: Items[str] | None = None
    anthropic_beta: Items[str] | None = None
    """Where Bedrock and Vertex have the betas."""
    anthropic_version: str | None = None
    """Where they have the version."""


class MessagesRequest(PromptRequest):
    """`POST /messages`."""

    max_tokens: TokenCap
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Field(max_length=4)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    """Either is the default tier."""
    container: Annotated[None, unsupported(_ELSEWHERE)] = None
    compaction: Annotated[None, unsupported(_ELSEWHERE)] = None
    inference_geo: Annotated[Literal["global"] | None, unsupported(_OPERATORS, unless="global")] = None
    diagnostics: JsonObject | None = None
    safeguards: Items[JsonObject] | None = None
    """What Claude Code has Anthropic judge of the calls in its automatic mode: nobody judges them here."""
    fallbacks: list[Any] | str | None = None
    fallback_credit_token: str | None = None
    billing_policy: JsonObject | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None


HINTS: Final = (
    "context_management", "betas", "anthropic_beta", "anthropic_version", "diagnostics", "safeguards", "fallbacks",
    "fallback_credit_token", "billing_policy", "user_profile_id", "workspace_id",
)  # fmt: skip
"""Fields that change no meaning and have no place in a `ChatRequest`."""
