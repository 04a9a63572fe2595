"""`POST /responses`: the request in the format of OpenAI's Responses, checked.

Stateless: nothing is stored, and what asks for something stored is refused by its field's name.
Source: OpenAI's API reference, "Create a model response". `responses` says it in the vocabulary's words.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from fusewire.ai.vocabulary import JsonObject, ModelName, StreamOptions, TokenCap
from fusewire.http.doors import Asked, of_type, refused

_STATELESS: Final = "nothing is stored here, so send the whole conversation as input"
_ELSEWHERE: Final = "it lives at OpenAI, and other vendors have no such thing"
_FUNCTIONS_ONLY: Final = "only tools of the caller's own (type function) can be honoured here"
_NONE_YET: Final = Field(max_length=0)

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Asked):
    type: Literal["input_text"]
    text: str


class InputImage(Asked):
    type: Literal["input_image"]
    detail: Literal["auto", "low", "high"] | None = None
    image_url: str | None = None
    file_id: Annotated[None, refused("nothing is stored here; send the image as image_url")] = None


class OutputText(Asked):
    """An earlier answer's text, with the empty fields that OpenAI's SDK keeps."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], _NONE_YET] | None = None
    logprobs: Annotated[list[Any], _NONE_YET] | None = None


class OutputRefusal(Asked):
    type: Literal["refusal"]
    refusal: str


MessagePart = Annotated[InputText | InputImage | OutputText | OutputRefusal, Field(discriminator="type")]


class InputMessage(Asked):
    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[MessagePart]
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class DirectCall(Asked):
    type: Literal["direct"]


class InputCall(Asked):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    caller: DirectCall | None = None
    namespace: Annotated[None, refused(_ELSEWHERE)] = None
    extra_content: JsonObject | None = None
    """Ours: what a vendor sent with the call and wants back; OpenAI's SDKs keep it."""


class InputCallOutput(Asked):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Annotated[InputText | InputImage, Field(discriminator="type")]]
    id: str | None = None
    status: Status | None = None
    name: str | None = None
    caller: DirectCall | None = None
    namespace: Annotated[None, refused(_ELSEWHERE)] = None


class ReasoningText(Asked):
    type: Literal["reasoning_text"]
    text: str


class SummaryText(Asked):
    type: Literal["summary_text"]
    text: str


class InputReasoning(Asked):
    type: Literal["reasoning"]
    id: str | None = None
    summary: list[SummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


def _with_type(item: object) -> object:
    return {"type": "message", **item} if isinstance(item, dict) else item


Item = Annotated[
    InputMessage | InputCall | InputCallOutput | InputReasoning,
    Field(discriminator="type"),
    BeforeValidator(_with_type),
]


class FunctionTool(Asked):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    defer_loading: Annotated[Literal[False] | None, refused(_ELSEWHERE)] = None
    allowed_callers: list[Literal["direct"]] | None = None
    output_schema: Annotated[None, refused("other vendors have no such thing")] = None


class ToolChoiceFunction(Asked):
    type: Literal["function"]
    name: str


class PlainFormat(Asked):
    type: Literal["text", "json_object"]


class SchemaFormat(Asked):
    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: Annotated[JsonObject, Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Asked):
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Asked):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: Literal["standard"] | None = None
    context: Literal["auto"] | None = None


class ResponsesRequest(Asked):
    """`POST /responses`."""

    model: ModelName
    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: TokenCap | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: (
        Annotated[list[Annotated[FunctionTool, of_type("function", why=_FUNCTIONS_ONLY)]], Field(max_length=128)] | None
    ) = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[ToolChoiceFunction, of_type("function", why=_FUNCTIONS_ONLY)]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto"] | None = None
    truncation: Annotated[
        Literal["disabled"] | None, refused("input that is too long is never cut here", unless="disabled")
    ] = None
    include: Annotated[
        list[Literal["reasoning.encrypted_content"]] | None,
        refused("no answer holds anything of that kind", unless=["reasoning.encrypted_content"]),
    ] = None
    """Agents that store nothing ask for it whether or not the model has any: answers come without."""
    store: Annotated[Literal[False] | None, refused("nothing is stored here; send false, or leave it out")] = None
    previous_response_id: Annotated[None, refused(_STATELESS)] = None
    conversation: Annotated[None, refused(_STATELESS)] = None
    prompt: Annotated[None, refused(_STATELESS)] = None
    background: Annotated[
        Literal[False] | None, refused("nothing is stored here, so there would be no way to fetch the answer")
    ] = None
    background_options: Annotated[None, refused(_ELSEWHERE)] = None
    context_management: Annotated[Annotated[list[Any], _NONE_YET] | None, refused(_ELSEWHERE)] = None
    max_tool_calls: Annotated[None, refused("it counts OpenAI's own tools, of which there are none here")] = None
    top_logprobs: Annotated[Literal[0] | None, refused("an answer's probabilities have no place here")] = None
    access_programs: Annotated[None, refused(_ELSEWHERE)] = None
    image: Annotated[None, refused(_ELSEWHERE)] = None
