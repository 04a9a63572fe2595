"""`POST /responses`: what a request in the format of OpenAI's Responses asks for, in the vocabulary's words.

docs/providers.md has the mapping as a table.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from pydantic import ValidationError

from fusewire.ai.vocabulary import (
    AssistantMessage,
    ChatRequest,
    FunctionCall,
    FunctionDefinition,
    ImagePart,
    ImageUrl,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedFunction,
    NamedToolChoice,
    RefusalPart,
    SystemMessage,
    TextFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from fusewire.errors import InvalidRequestError
from fusewire.http.errors import from_validation
from fusewire.http.responses_request import (
    FunctionTool,
    InputCall,
    InputCallOutput,
    InputImage,
    InputMessage,
    InputReasoning,
    InputText,
    OutputRefusal,
    PlainFormat,
    Reasoning,
    ResponsesRequest,
    SchemaFormat,
    TextConfig,
    ToolChoiceFunction,
)

NAMES: Final = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "reasoning_content": "input.reasoning.content",
    "extra_content": "input.extra_content",
}
"""What Responses calls the vocabulary's fields."""


def chat_request(asked: ResponsesRequest) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request, and the names of what it says in passing and the vocabulary has no place for.

    :raises InvalidRequestError: for what doesn't fit together
    """
    text, reasoning = asked.text or TextConfig(), asked.reasoning or Reasoning()
    conversation = _Conversation(asked)
    try:
        request = ChatRequest(
            model=asked.model,
            messages=conversation.messages,
            stream=asked.stream,
            stream_options=asked.stream_options,
            max_completion_tokens=asked.max_output_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            tools=[_tool(tool) for tool in asked.tools or ()] or None,
            tool_choice=_tool_choice(asked),
            parallel_tool_calls=asked.parallel_tool_calls if asked.tools else None,
            response_format=_response_format(text.format),
            reasoning_effort=reasoning.effort,
            verbosity=text.verbosity,
            user=asked.user,
            safety_identifier=asked.safety_identifier,
            prompt_cache_key=asked.prompt_cache_key,
        )
    except ValidationError as error:
        raise from_validation(error) from None
    return request, tuple(dict.fromkeys(_unplaced(asked)))


def _unplaced(asked: ResponsesRequest) -> Iterator[str]:
    reasoning = asked.reasoning
    if asked.include:
        yield "include"
    if reasoning and reasoning.summary:
        yield "reasoning.summary"
    if reasoning and reasoning.generate_summary:
        yield "reasoning.generate_summary"
    for item in asked.input:
        if isinstance(item, InputReasoning):
            if item.encrypted_content:
                yield "input.reasoning.encrypted_content"
            if item.summary:
                yield "input.reasoning.summary"
        elif isinstance(item, InputMessage) and item.phase:
            yield "input.phase"


class _Conversation:
    """Messages from items: what the assistant thought, said and called in one go is one message of the vocabulary's."""

    def __init__(self, asked: ResponsesRequest) -> None:
        self.messages: list[Message] = []
        self._thoughts: list[str] = []
        self._said: list[TextPart | RefusalPart] | None = None
        self._calls: list[ToolCall] = []
        self._images: list[ImagePart] = []
        items = asked.input if isinstance(asked.input, list) else []
        if asked.instructions:
            # Some vendors take system or developer messages, not both in one request.
            by_developer = any(isinstance(item, InputMessage) and item.role == "developer" for item in items)
            role: Literal["developer", "system"] = "developer" if by_developer else "system"
            self.messages.append(SystemMessage(role=role, content=asked.instructions))
        if isinstance(asked.input, str):
            self.messages.append(UserMessage(role="user", content=asked.input))
        for number, item in enumerate(items):
            self._add(item, f"input[{number}]")
        self._end_turn()
        self._show_images()

    def _add(self, item: InputMessage | InputCall | InputCallOutput | InputReasoning, param: str) -> None:
        if isinstance(item, InputReasoning):
            if self._said is not None or self._calls:
                self._end_turn()
            self._thoughts += [part.text for part in item.content or ()]
        elif isinstance(item, InputCall):
            self._show_images()
            function = FunctionCall(name=item.name, arguments=item.arguments)
            self._calls.append(
                ToolCall(id=item.call_id, type="function", function=function, extra_content=item.extra_content)
            )
        elif isinstance(item, InputCallOutput):
            self._end_turn()
            self._result(item, param)
        elif item.role == "assistant":
            self._show_images()
            if self._said is not None and not self._calls:
                self._end_turn()
            self._said = [*(self._said or ()), *_said_parts(item, param)]
        else:
            self._end_turn()
            self._hear(item, param)

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

    def _result(self, item: InputCallOutput, param: str) -> None:
        """A tool's answer is text in the vocabulary: its images follow in a user's message."""
        content: str | list[TextPart]
        if isinstance(item.output, str):
            content = item.output
        else:
            content = [TextPart(type="text", text=part.text) for part in item.output if isinstance(part, InputText)]
            images = [part for part in item.output if isinstance(part, InputImage)]
            if images:
                self._images += [_image(part, f"{param}.output") for part in images]
                told = "(An image of this result follows in the user's message.)"
                content.append(TextPart(type="text", text=told))
        self.messages.append(ToolMessage(role="tool", tool_call_id=item.call_id, content=_plain(content)))

    def _show_images(self) -> None:
        if self._images:
            self.messages.append(UserMessage(role="user", content=[*self._images]))
            self._images = []

    def _hear(self, item: InputMessage, param: str) -> None:
        if item.role == "user":
            content = _heard(item, param)
            if self._images:
                told = [TextPart(type="text", text=content)] if isinstance(content, str) else content
                content, self._images = [*self._images, *told], []
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
        elif isinstance(part, InputImage):
            raise InvalidRequestError(
                "A message of role assistant can't hold input_image.", param=f"{param}.content[{number}].type"
            )
        else:
            parts.append(TextPart(type="text", text=part.text))
    return parts


def _image(part: InputImage, param: str) -> ImagePart:
    if part.image_url is None:
        raise InvalidRequestError("An input_image needs its image_url.", param=f"{param}.image_url")
    return ImagePart(type="image_url", image_url=ImageUrl(url=part.image_url, detail=part.detail or "auto"))


def _tool(tool: FunctionTool) -> Tool:
    function = FunctionDefinition(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return Tool(type="function", function=function)


def _tool_choice(asked: ResponsesRequest) -> Literal["none", "auto", "required"] | NamedToolChoice | None:
    choice = asked.tool_choice
    if isinstance(choice, ToolChoiceFunction):
        return NamedToolChoice(type="function", function=NamedFunction(name=choice.name))
    return None if choice != "required" and not asked.tools else choice


def _response_format(asked: PlainFormat | SchemaFormat | None) -> TextFormat | JsonSchemaFormat | None:
    if isinstance(asked, SchemaFormat):
        schema = JsonSchema(name=asked.name, description=asked.description, schema_=asked.schema_, strict=asked.strict)
        return JsonSchemaFormat(type="json_schema", json_schema=schema)
    return TextFormat(type=asked.type) if asked and asked.type != "text" else None
