"""`POST /responses`: the request in the format of OpenAI's Responses, checked.

What asks for something stored is refused by its field's name, but for earlier answers where they are kept (`kept`).
Each optional field is marked as `fusewire.ai.schema.capabilities` says. Here a `Hint` is what `ChatRequest` has no
place for and what changes no meaning: it is dropped, under the name that its mark gives. `translate` makes a
`ChatRequest` of the rest.
Source: OpenAI's API reference, "Create a model response".
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from fusewire.ai.schema import Items, JsonObject, ModelName, StreamOptions, TokenCap
from fusewire.ai.schema.base import RequestModel
from fusewire.ai.schema.capabilities import NOT_SENT, SENT, Hint
from fusewire.http.formats import of_type, unsupported
from fusewire.http.responses.declared_tools import AnyTool
from fusewire.http.responses.input_items import Item, Namespace

STATELESS: Final = "nothing is stored here, so send store: false and the whole conversation as input"
_ELSEWHERE: Final = "it lives at OpenAI, and other vendors have no such thing"
_OWN_TOOLS: Final = "only tools that the caller runs (function, custom) can be chosen here"


_OWN_CHOICE: Final = of_type("function", "custom", "allowed_tools", why=_OWN_TOOLS)


class NamedTool(RequestModel):
    type: Literal["function", "custom"]
    name: str
    namespace: Namespace = None


class AllowedTools(RequestModel):
    """Only these of the tools may be called: the others aren't sent."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Items[JsonObject]


class PlainFormat(RequestModel):
    type: Literal["text", "json_object"]


class SchemaFormat(RequestModel):
    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: Annotated[JsonObject, Field(alias="schema")]
    description: Annotated[str | None, SENT] = None
    strict: Annotated[bool | None, SENT] = None


class TextConfig(RequestModel):
    format: Annotated[Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None, SENT] = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, SENT] = None


_Summary = Literal["auto", "concise", "detailed", "none"]


class Reasoning(RequestModel):
    effort: Annotated[Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None, SENT] = None
    summary: Annotated[_Summary | None, Hint("reasoning.summary", neutral=("none",))] = None
    generate_summary: Annotated[_Summary | None, Hint("reasoning.generate_summary", neutral=("none",))] = None
    mode: Annotated[Literal["standard"] | None, NOT_SENT] = None
    context: Annotated[
        Literal["auto", "current_turn", "all_turns"] | None, Hint("reasoning.context", neutral=("auto",))
    ] = None
    """Which of the encrypted thoughts a model is shown again: there are none here."""


class ResponsesRequest(RequestModel):
    """`POST /responses`."""

    model: ModelName
    input: str | Annotated[Items[Item], Field(min_length=1)]
    instructions: Annotated[str | None, SENT] = None
    stream: Annotated[bool | None, SENT] = None
    stream_options: Annotated[StreamOptions | None, SENT] = None
    max_output_tokens: Annotated[TokenCap | None, SENT] = None
    temperature: Annotated[Annotated[float, Field(ge=0, le=2)] | None, SENT] = None
    top_p: Annotated[Annotated[float, Field(ge=0, le=1)] | None, SENT] = None
    tools: Annotated[Items[AnyTool] | None, SENT] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"]
        | Annotated[NamedTool, _OWN_CHOICE]
        | Annotated[AllowedTools, _OWN_CHOICE]
        | None,
        SENT,
    ] = None
    parallel_tool_calls: Annotated[bool | None, SENT] = None
    text: Annotated[TextConfig | None, SENT] = None
    reasoning: Annotated[Reasoning | None, SENT] = None
    metadata: Annotated[Annotated[dict[str, str], Field(max_length=16)] | None, NOT_SENT] = None
    """It is for what is stored: the answer has it, a vendor doesn't."""
    user: Annotated[str | None, SENT] = None
    safety_identifier: Annotated[str | None, SENT] = None
    prompt_cache_key: Annotated[str | None, SENT] = None
    prompt_cache_retention: Annotated[str | None, Hint()] = None
    prompt_cache_options: Annotated[JsonObject | None, Hint()] = None
    client_metadata: Annotated[JsonObject | None, Hint()] = None
    """Codex's telemetry."""
    service_tier: Annotated[Literal["auto", "default", "flex", "priority", "fast"] | None, SENT] = None
    truncation: Annotated[Literal["auto", "disabled"] | None, Hint(neutral=("disabled",))] = None
    """Input that is too long is never cut here."""
    include: Annotated[
        Items[
            Literal[
                "reasoning.encrypted_content",
                "file_search_call.results",
                "web_search_call.results",
                "web_search_call.action.sources",
                "message.input_image.image_url",
                "computer_call_output.output.image_url",
                "code_interpreter_call.outputs",
            ]
        ]
        | None,
        Hint(),
    ] = None
    """Agents that store nothing ask for encrypted thoughts whether or not the model has any: answers come without."""
    store: Annotated[bool | None, Hint(neutral=(False,))] = None
    """True is OpenAI's default; the answer says whether it is kept."""
    context_management: Annotated[Items[JsonObject] | None, Hint()] = None
    max_tool_calls: Annotated[int | None, Hint()] = None
    """It counts the calls of OpenAI's own tools, of which there are none here."""
    previous_response_id: Annotated[str | None, NOT_SENT] = None
    conversation: Annotated[None, unsupported(STATELESS), NOT_SENT] = None
    prompt: Annotated[None, unsupported(STATELESS), NOT_SENT] = None
    background: Annotated[
        Literal[False] | None,
        unsupported("nothing is stored here, so there would be no way to fetch the answer"),
        NOT_SENT,
    ] = None
    background_options: Annotated[None, unsupported(_ELSEWHERE), NOT_SENT] = None
    top_logprobs: Annotated[
        Literal[0] | None, unsupported("an answer's probabilities have no place here"), NOT_SENT
    ] = None
    moderation: Annotated[None, unsupported(_ELSEWHERE), NOT_SENT] = None
    access_programs: Annotated[None, unsupported(_ELSEWHERE), NOT_SENT] = None
    image: Annotated[None, unsupported(_ELSEWHERE), NOT_SENT] = None
