"""`POST /messages`: what a request in Anthropic's Messages format asks for, in the vocabulary's words.

docs/providers.md has the mapping as a table.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Literal

from pydantic import ValidationError

from fusewire.ai.provider import TIERS
from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import (
    AssistantMessage,
    CacheControl,
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
    SystemMessage,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from fusewire.errors import InvalidRequestError, ModelNotFoundError, UnsupportedParameterError
from fusewire.http.errors import from_validation
from fusewire.http.messages_request import (
    AssistantTurn,
    CustomTool,
    ImageBlock,
    MessagesRequest,
    Metadata,
    OutputConfig,
    RedactedThinkingBlock,
    TextBlock,
    Thinking,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    UserTurn,
)
from fusewire.json import dumps

NAMES: Final = {
    "max_completion_tokens": "max_tokens",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning_effort": "output_config.effort or thinking",
    "reasoning_content": "messages.thinking",
    "extra_content": "messages.extra_content",
    "user": "metadata.user_id",
}
"""What Anthropic calls the vocabulary's fields."""

_LONGEST_USER: Final = 64


def chat_request(asked: MessagesRequest, registry: Registry) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request, and the names of what it says in passing and the vocabulary has no place for.

    :raises InvalidRequestError: for what doesn't fit together
    :raises UnsupportedParameterError: for what can't be honoured
    """
    turns = _conversation(asked)
    choice, parallel = _tool_choice(asked)
    try:
        request = ChatRequest(
            model=_model(asked.model, registry),
            messages=[*_system(asked.system), *turns],
            stream=asked.stream,
            max_completion_tokens=asked.max_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            stop=asked.stop_sequences or None,
            user=_user_id(asked.metadata),
            tools=[_tool(tool) for tool in asked.tools or ()] or None,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            response_format=_response_format(asked.output_config),
            reasoning_effort=_effort(asked),
        )
    except ValidationError as error:
        raise from_validation(error) from None
    return request, tuple(dict.fromkeys(_unplaced(asked)))


def _unplaced(asked: MessagesRequest) -> Iterator[str]:
    if asked.top_k is not None:
        yield "top_k"
    if asked.context_management:
        yield "context_management"
    if asked.thinking is not None:
        yield from _unplaced_thinking(asked.thinking, asked.output_config)
    if any(tool.eager_input_streaming is not None for tool in asked.tools or ()):
        yield "tools.eager_input_streaming"
    for turn in asked.messages:
        for block in turn.content:
            if isinstance(block, RedactedThinkingBlock):
                yield "messages.redacted_thinking"
            elif isinstance(block, ThinkingBlock) and block.signature:
                yield "messages.thinking.signature"
            elif isinstance(block, ToolUseBlock) and block.cache_control:
                yield "messages.tool_use.cache_control"


def _unplaced_thinking(thinking: Thinking, config: OutputConfig | None) -> Iterator[str]:
    if thinking.type == "adaptive" and not (config and config.effort):
        yield "thinking"  # that it is left to the model, which is what a model does unasked
    if thinking.budget_tokens is not None:
        yield "thinking.budget_tokens"
    if thinking.display is not None:
        yield "thinking.display"


def _system(system: str | Sequence[TextBlock] | None) -> list[Message]:
    return [SystemMessage(role="system", content=_texts(system))] if system else []


def _texts(content: str | Sequence[TextBlock], mark: CacheControl | None = None) -> str | list[TextPart]:
    """Plain text where it can be: not every server takes parts in every message."""
    blocks = [TextBlock(type="text", text=content)] if isinstance(content, str) else content
    parts = [TextPart(type="text", text=block.text, cache_control=block.cache_control) for block in blocks]
    if parts and mark is not None:
        parts[-1] = parts[-1].model_copy(update={"cache_control": mark})
    plain = len(parts) < 2 and not any(part.cache_control for part in parts)
    return "".join(part.text for part in parts) if plain else parts


def _conversation(asked: MessagesRequest) -> list[Message]:
    turns = asked.messages
    if isinstance(turns[-1], AssistantTurn):
        # Most vendors would answer it anew instead of writing on.
        raise UnsupportedParameterError(
            "The last of the messages is the assistant's: an answer that is begun can't be continued here. "
            "End with the user's, and ask for a form by output_config.format.",
            param="messages",
        )
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        mark = asked.cache_control if number == len(turns) - 1 else None
        if isinstance(turn, UserTurn):
            messages += _user(turn, f"messages[{number}].content", mark)
        elif isinstance(turn, AssistantTurn):
            messages.append(_assistant(turn))
        else:
            messages.append(SystemMessage(role="system", content=_texts(turn.content, mark)))
    return messages


def _user(turn: UserTurn, param: str, mark: CacheControl | None) -> Iterator[Message]:
    """Tools' results first, each a message of its own; then what the user says, with the images of those results."""
    if isinstance(turn.content, str):
        yield UserMessage(role="user", content=_parts([TextBlock(type="text", text=turn.content)], mark))
        return
    results = [block for block in turn.content if isinstance(block, ToolResultBlock)]
    said = [block for block in turn.content if not isinstance(block, ToolResultBlock)]
    if results and any(not isinstance(block, ToolResultBlock) for block in turn.content[: len(results)]):
        raise InvalidRequestError("tool_result blocks must come before the turn's other blocks.", param=param)
    images: list[ImageBlock] = []
    for result in results:
        marked = mark if result is turn.content[-1] else None
        images += _images_of(result)
        yield _result(result, marked)
    if said or images or not results:
        yield UserMessage(role="user", content=_parts([*images, *said], mark if said else None))


def _parts(blocks: Sequence[TextBlock | ImageBlock], mark: CacheControl | None) -> Any:  # noqa: ANN401 - parts, or plain text
    if blocks and mark is not None and blocks[-1].cache_control is None:
        blocks = [*blocks[:-1], blocks[-1].model_copy(update={"cache_control": mark})]
    texts = [block for block in blocks if isinstance(block, TextBlock)]
    if len(texts) == len(blocks):
        return _texts(texts)
    return [_image(block) if isinstance(block, ImageBlock) else _text(block) for block in blocks]


def _text(block: TextBlock) -> TextPart:
    return TextPart(type="text", text=block.text, cache_control=block.cache_control)


def _image(block: ImageBlock) -> ImagePart:
    source = block.source
    url = source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"
    return ImagePart(type="image_url", image_url=ImageUrl(url=url), cache_control=block.cache_control)


def _images_of(result: ToolResultBlock) -> Iterable[ImageBlock]:
    content = result.content
    return () if content is None or isinstance(content, str) else (b for b in content if isinstance(b, ImageBlock))


def _result(result: ToolResultBlock, mark: CacheControl | None) -> ToolMessage:
    """A tool's answer is text in the vocabulary: its images follow in the user's message, its failure is said."""
    told = [TextBlock(type="text", text=result.content)] if isinstance(result.content, str) else result.content or []
    texts = [block for block in told if isinstance(block, TextBlock)]
    if len(texts) < len(told):
        texts.append(TextBlock(type="text", text="(An image of this result follows in the user's message.)"))
    if result.is_error:
        first = texts[0] if texts else TextBlock(type="text", text="no reason was given.")
        texts = [first.model_copy(update={"text": f"The tool failed: {first.text}"}), *texts[1:]]
    content = _texts(texts, result.cache_control or mark)
    return ToolMessage(role="tool", tool_call_id=result.tool_use_id, content=content)


def _assistant(turn: AssistantTurn) -> AssistantMessage:
    if isinstance(turn.content, str):
        return AssistantMessage(role="assistant", content=turn.content)
    texts = _texts([block for block in turn.content if isinstance(block, TextBlock)])
    thoughts = [block.thinking for block in turn.content if isinstance(block, ThinkingBlock)]
    calls = [_call(block) for block in turn.content if isinstance(block, ToolUseBlock)]
    return AssistantMessage(
        role="assistant",
        content=(texts if isinstance(texts, str) else [*texts]) or (None if calls else ""),
        reasoning_content="".join(thoughts) or None,
        tool_calls=calls or None,
    )


def _call(block: ToolUseBlock) -> ToolCall:
    function = FunctionCall(name=block.name, arguments=dumps(block.input))
    return ToolCall(id=block.id, type="function", function=function, extra_content=block.extra_content)


def _tool(tool: CustomTool) -> Tool:
    function = FunctionDefinition(
        name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
    )
    return Tool(type="function", function=function, cache_control=tool.cache_control)


def _tool_choice(
    asked: MessagesRequest,
) -> tuple[Literal["none", "auto", "required"] | NamedToolChoice | None, bool | None]:
    """(tool_choice, parallel_tool_calls)."""
    choice = asked.tool_choice
    if choice is None:
        return None, None
    if (choice.name is not None) != (choice.type == "tool"):
        raise InvalidRequestError("tool_choice.name belongs to type tool, and only there.", param="tool_choice.name")
    parallel = False if choice.disable_parallel_tool_use else None
    if choice.name is not None:
        return NamedToolChoice(type="function", function=NamedFunction(name=choice.name)), parallel
    if not asked.tools and choice.type != "any":
        return None, None  # without tools there is nothing to choose from
    if choice.type == "any":
        return "required", parallel
    return ("auto", parallel) if choice.type == "auto" else ("none", None)


def _response_format(config: OutputConfig | None) -> JsonSchemaFormat | None:
    if config is None or config.format is None:
        return None
    # Anthropic's output keeps to the schema, so nothing less will do.
    schema = JsonSchema(name="output", schema_=config.format.schema_, strict=True)
    return JsonSchemaFormat(type="json_schema", json_schema=schema)


def _effort(asked: MessagesRequest) -> Literal["none", "low", "medium", "high", "xhigh", "max"] | None:
    thinking, effort = asked.thinking, asked.output_config.effort if asked.output_config else None
    budget = thinking.budget_tokens if thinking else None
    if thinking is None:
        return effort
    if (budget is not None) != (thinking.type == "enabled"):
        raise InvalidRequestError(
            "thinking.budget_tokens belongs to type enabled, and only there.", param="thinking.budget_tokens"
        )
    if budget is not None and budget >= asked.max_tokens:
        raise InvalidRequestError(
            "thinking.budget_tokens must be less than max_tokens.", param="thinking.budget_tokens"
        )
    if thinking.type == "disabled":
        if effort is not None:
            raise UnsupportedParameterError(
                "output_config.effort beside thinking that is disabled can't be honoured here. Leave one of them out.",
                param="output_config.effort",
            )
        return "none"
    if effort is not None or budget is None:
        return effort
    return "low" if budget < 4096 else "medium" if budget < 16384 else "high"


def _user_id(metadata: Metadata | None) -> str | None:
    """It is opaque, so its digest serves as well: coding agents send ids that OpenAI finds too long."""
    user = metadata.user_id if metadata else None
    return user if user is None or len(user) <= _LONGEST_USER else sha256(user.encode()).hexdigest()


# --- Claude's names ---

_CLAUDE: Final = re.compile(r"(?:.*[./])?(claude-[a-z0-9.-]*?[a-z0-9])(?:-latest)?(?:[-@](\d{8}))?(?:-v\d+(?::\w+)*)?")
"""`claude-haiku-4-5`, `claude-haiku-4-5-20251001`, `us.anthropic.claude-haiku-4-5-20251001-v1:0`."""


def _model(asked: str, registry: Registry) -> str:
    """The model; for a Claude's id of Anthropic's own, the one configured model that is this Claude elsewhere.

    :raises ModelNotFoundError: where more than one provider has it
    """
    wanted = _CLAUDE.fullmatch(asked) if asked.startswith("claude-") else None
    if wanted is None:
        return asked
    served = {(p.id, m) for p in registry.configured.values() for tier in TIERS if (m := p.tier_model(tier))}
    if any(model == asked for _, model in served):
        return asked
    found = sorted(f"{provider}/{model}" for provider, model in served if _is_same(wanted, _CLAUDE.fullmatch(model)))
    if len(found) > 1:
        raise ModelNotFoundError(f"More than one model is {asked[:80]!r}: ask for {' or '.join(found)}.", param="model")
    return found[0] if found else asked


def _is_same(wanted: re.Match[str], served: re.Match[str] | None) -> bool:
    """The same name, and the same date unless one of them leaves the date open."""
    return served is not None and wanted[1] == served[1] and (wanted[2] == served[2] or None in (wanted[2], served[2]))
