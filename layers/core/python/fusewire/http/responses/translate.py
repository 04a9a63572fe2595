"""`POST /responses`: a request in the format of OpenAI's Responses as a `ChatRequest`.

docs/providers.md has the mapping as a table.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import ValidationError

from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    FunctionCall,
    ImagePart,
    ImageUrl,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    RefusalPart,
    SystemMessage,
    TextFormat,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    needs,
)
from fusewire.errors import InvalidRequestError, UnsupportedParameterError
from fusewire.http.errors import from_validation
from fusewire.http.responses.input_items import (
    InputCall,
    InputCallOutput,
    InputCustomCall,
    InputImage,
    InputMessage,
    InputReasoning,
    InputText,
    Item,
    ItemReference,
    OutputRefusal,
    OutputText,
    ToolSearchCall,
    ToolSearchOutput,
)
from fusewire.http.responses.request import (
    STATELESS,
    PlainFormat,
    Reasoning,
    ResponsesRequest,
    SchemaFormat,
    TextConfig,
)
from fusewire.http.responses.tools import CallersTool, FunctionTable, custom_arguments
from fusewire.json import dumps

_REFERENCE: Final = (
    "nothing is stored here, so no item can be named by its id: send store: false and the whole conversation as input, "
    "as the AI SDK does with providerOptions.openai.store = false"
)
_KEEPING: Final = "AI_RESPONSES_RETENTION_HOURS has answers kept"
NAMES: Final = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "reasoning_content": "input.reasoning.content",
    "extra_content": "input.extra_content",
}
"""What Responses calls the fields of `ChatRequest`."""


def chat_request(body: ResponsesRequest, functions: FunctionTable) -> ChatRequest:
    """The request, without what `dropped_fields` names.

    :raises InvalidRequestError: for what doesn't fit together
    :raises UnsupportedParameterError: for what refers to an earlier answer, where none are kept
    """
    if body.previous_response_id is not None:
        name = "previous_response_id"
        raise UnsupportedParameterError(f"{name}: {STATELESS} ({_KEEPING})", param=name)
    text, reasoning = body.text or TextConfig(), body.reasoning or Reasoning()
    conversation = _Conversation(body, functions)
    tools = functions.tools or None
    try:
        return ChatRequest(
            model=body.model,
            messages=conversation.messages,
            stream=body.stream,
            stream_options=body.stream_options,
            max_completion_tokens=body.max_output_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            tools=tools,
            tool_choice=functions.choice,
            parallel_tool_calls=body.parallel_tool_calls if tools else None,
            response_format=_response_format(text.format),
            reasoning_effort=reasoning.effort,
            verbosity=text.verbosity,
            service_tier=None if body.service_tier in ("auto", "default") else body.service_tier,
            user=body.user,
            safety_identifier=body.safety_identifier,
            prompt_cache_key=body.prompt_cache_key,
        )
    except ValidationError as error:
        raise from_validation(error) from None


def dropped_fields(body: ResponsesRequest) -> tuple[str, ...]:
    """What the request asks for that `ChatRequest` has no place for, and that changes no meaning."""
    return tuple(dict.fromkeys(need.capability for need in needs(body)))


class _Conversation:
    """Messages from items: what the assistant thought, said and called in one go is one message."""

    def __init__(self, body: ResponsesRequest, functions: FunctionTable) -> None:
        self.messages: list[Message] = []
        self._functions = functions
        self._thoughts: list[str] = []
        self._said: list[TextPart | RefusalPart] | None = None
        self._calls: list[ToolCall] = []
        self._images: list[ImagePart] = []
        items = body.input if isinstance(body.input, list) else []
        if body.instructions:
            # Some vendors take system or developer messages, not both in one request.
            by_developer = any(isinstance(item, InputMessage) and item.role == "developer" for item in items)
            role: Literal["developer", "system"] = "developer" if by_developer else "system"
            self.messages.append(SystemMessage(role=role, content=body.instructions))
        if isinstance(body.input, str):
            self.messages.append(UserMessage(role="user", content=body.input))
        for number, item in enumerate(items):
            self._add(item, f"input[{number}]")
        self._end_turn()
        self._show_images()

    def _add(self, item: Item, param: str) -> None:
        if isinstance(item, InputReasoning):
            if self._said is not None or self._calls:
                self._end_turn()
            self._thoughts += [part.text for part in item.content or ()]
        elif isinstance(item, InputCall | InputCustomCall | ToolSearchCall):
            self._call(item)
        elif isinstance(item, InputCallOutput | ToolSearchOutput):
            self._end_turn()
            self._result(item, param)
        elif isinstance(item, InputMessage):
            self._message(item, param)
        elif isinstance(item, ItemReference):
            raise UnsupportedParameterError(f"{param}.type: {_REFERENCE} ({_KEEPING})", param=f"{param}.type")

    def _message(self, item: InputMessage, param: str) -> None:
        if item.role == "assistant":
            self._show_images()
            if self._said is not None and not self._calls:
                self._end_turn()
            self._said = [*(self._said or ()), *_said_parts(item, param)]
        else:
            self._end_turn()
            self._hear(item, param)

    def _call(self, item: InputCall | InputCustomCall | ToolSearchCall) -> None:
        if item.call_id is None:
            return  # OpenAI's own search for tools
        self._show_images()
        extra = None
        if isinstance(item, ToolSearchCall):
            tool, arguments = CallersTool("tool_search", "tool_search"), dumps(item.arguments or {})
        elif isinstance(item, InputCustomCall):
            tool, arguments = CallersTool("custom", item.name, item.namespace), custom_arguments(item.input)
            extra = item.extra_content
        else:
            tool, arguments = CallersTool("function", item.name, item.namespace), item.arguments
            extra = item.extra_content
        function = FunctionCall(name=self._functions.name_of(tool), arguments=arguments)
        self._calls.append(ToolCall(id=item.call_id, type="function", function=function, extra_content=extra))

    def _end_turn(self) -> None:
        """Put down what the assistant did so far."""
        if self._thoughts or self._said is not None or self._calls:
            content: str | list[TextPart | RefusalPart] | None = self._said or None
            if content and len(content) == 1 and isinstance(content[0], TextPart):
                content = content[0].text
            self.messages.append(
                AssistantMessage(
                    role="assistant",
                    content=content,
                    reasoning_content="".join(self._thoughts) or None,
                    tool_calls=self._calls or None,
                )
            )
        self._thoughts, self._said, self._calls = [], None, []

    def _result(self, item: InputCallOutput | ToolSearchOutput, param: str) -> None:
        """A tool's answer is plain text, which every server takes: its images follow in a user's message."""
        if item.call_id is None:
            return  # OpenAI's own search for tools
        if isinstance(item, ToolSearchOutput):
            found = ", ".join(self._functions.names_in(item.tools))
            content = f"Found, and callable from now on: {found}" if found else "No tool was found."
        elif isinstance(item.output, str):
            content = item.output
        else:
            texts = [part.text for part in item.output if isinstance(part, InputText)]
            images = [part for part in item.output if isinstance(part, InputImage)]
            if images:
                self._images += [_image(part, f"{param}.output") for part in images]
                texts.append("(An image of this result follows in the user's message.)")
            content = "\n".join(texts)
        self.messages.append(ToolMessage(role="tool", tool_call_id=item.call_id, content=content))

    def _show_images(self) -> None:
        if self._images:
            self.messages.append(UserMessage(role="user", content=[*self._images]))
            self._images = []

    def _hear(self, item: InputMessage, param: str) -> None:
        if item.role == "user":
            content = _heard(item, param)
            if self._images:
                parts = [TextPart(type="text", text=content)] if isinstance(content, str) else content
                content, self._images = [*self._images, *parts], []
            self.messages.append(UserMessage(role="user", content=content))
            return
        self._show_images()
        role: Literal["system", "developer"] = "developer" if item.role == "developer" else "system"
        self.messages.append(SystemMessage(role=role, content=_heard(item, param, images=False)))


def _plain(content: str | list[TextPart]) -> str | list[TextPart]:
    """Plain text where it can be: not every server takes parts in every message."""
    if isinstance(content, str):
        return content
    return content if len(content) > 1 else "".join(part.text for part in content)


def _heard(item: InputMessage, param: str, *, images: bool = True) -> Any:  # noqa: ANN401 - parts, or plain text
    """What a user's, a system's or a developer's message holds."""
    if isinstance(item.content, str):
        return item.content
    parts: list[TextPart | ImagePart] = []
    for number, part in enumerate(item.content):
        place = f"{param}.content[{number}]"
        if isinstance(part, InputText):
            parts.append(TextPart(type="text", text=part.text))
        elif isinstance(part, InputImage) and images:
            parts.append(_image(part, place))
        else:
            raise InvalidRequestError(f"A message of role {item.role} can't hold {part.type}.", param=f"{place}.type")
    texts = [part for part in parts if isinstance(part, TextPart)]
    return _plain(texts) if len(texts) == len(parts) else parts


def _said_parts(item: InputMessage, param: str) -> Sequence[TextPart | RefusalPart]:
    """What an assistant's message holds."""
    if isinstance(item.content, str):
        return [TextPart(type="text", text=item.content)]
    parts: list[TextPart | RefusalPart] = []
    for number, part in enumerate(item.content):
        if isinstance(part, OutputRefusal):
            parts.append(RefusalPart(type="refusal", refusal=part.refusal))
        elif isinstance(part, OutputText | InputText):
            parts.append(TextPart(type="text", text=part.text))
        else:
            raise InvalidRequestError(
                f"A message of role assistant can't hold {part.type}.", param=f"{param}.content[{number}].type"
            )
    return parts


def _image(part: InputImage, param: str) -> ImagePart:
    if part.image_url is None:
        raise InvalidRequestError("An input_image needs its image_url.", param=f"{param}.image_url")
    detail = "high" if part.detail == "original" else part.detail or "auto"
    return ImagePart(type="image_url", image_url=ImageUrl(url=part.image_url, detail=detail))


def _response_format(text_format: PlainFormat | SchemaFormat | None) -> TextFormat | JsonSchemaFormat | None:
    if isinstance(text_format, SchemaFormat):
        schema = JsonSchema(
            name=text_format.name,
            description=text_format.description,
            schema_=text_format.schema_,
            strict=text_format.strict,
        )
        return JsonSchemaFormat(type="json_schema", json_schema=schema)
    return TextFormat(type=text_format.type) if text_format and text_format.type != "text" else None
