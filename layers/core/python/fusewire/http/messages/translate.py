"""`POST /messages`: a request in Anthropic's Messages format as a `ChatRequest`.

docs/providers.md has the mapping as a table.
"""

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Literal

from pydantic import ValidationError

from fusewire.ai.provider import TIERS
from fusewire.ai.registry import Registry
from fusewire.ai.schema import (
    AssistantMessage,
    CacheControl,
    ChatRequest,
    FunctionCall,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedFunction,
    NamedToolChoice,
    SystemMessage,
    TextPart,
    Thinking,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from fusewire.errors import InvalidRequestError, ModelNotFoundError, UnsupportedParameterError
from fusewire.http.errors import from_validation
from fusewire.http.messages import content, documents
from fusewire.http.messages.content import (
    AssistantTurn,
    CompactionBlock,
    ImageBlock,
    RedactedThinkingBlock,
    ServersBlock,
    SystemTurn,
    TextBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserTurn,
)
from fusewire.http.messages.request import HINTS, MessagesRequest, Metadata, OutputFormat, PromptRequest
from fusewire.http.messages.tools import Tools
from fusewire.json import dumps

NAMES: Final = {
    "max_completion_tokens": "max_tokens",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning_effort": "output_config.effort or thinking",
    "reasoning_content": "messages.thinking",
    "thinking_blocks": "messages.thinking",
    "files": "messages.document",
    "extra_content": "messages.extra_content",
    "user": "metadata.user_id",
}
"""What Anthropic calls the fields of `ChatRequest`."""

_MAX_USER: Final = 64
_BILLING: Final = "x-anthropic-billing-header:"
"""Claude Code's telemetry, a system text of its own. Versions of it change with every request, and what a vendor keeps
of a prompt ends where it changes (anthropics/claude-code#68900)."""


def chat_request(body: PromptRequest, registry: Registry) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request, and the fields that `ChatRequest` has no place for and that change no meaning.

    :raises InvalidRequestError: for what doesn't fit together
    :raises UnsupportedParameterError: for what can't be honoured
    """
    conversation = _Conversation(body)
    tools = Tools(body.tools or (), body.messages)
    choice, parallel = _tool_choice(body, tools)
    thinking, effort = _thinking(body)
    note = [SystemMessage(role="system", content=tools.note)] if tools.note else []
    try:
        request = ChatRequest(
            model=_model(body.model, registry),
            messages=[*conversation.system, *note, *conversation.messages],
            **_sampled(body),
            tools=tools.functions or None,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            response_format=_response_format(body),
            reasoning_effort=effort,
            thinking=thinking,
        )
    except ValidationError as error:
        raise from_validation(error) from None
    dropped = (*_dropped(body), *conversation.dropped, *tools.dropped)
    return request, tuple(dict.fromkeys(dropped))


def _sampled(body: PromptRequest) -> dict[str, Any]:
    """How an answer is made, where one is asked for."""
    if not isinstance(body, MessagesRequest):
        return {}
    return {
        "stream": body.stream,
        "max_completion_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "stop": body.stop_sequences or None,
        "user": _user_id(body.metadata),
    }


def _dropped(body: PromptRequest) -> Iterator[str]:
    yield from (name for name in HINTS if getattr(body, name, None))
    if isinstance(body, MessagesRequest):
        if body.top_k is not None:
            yield "top_k"
        if body.metadata and body.metadata.model_extra:
            yield "metadata"
    if body.speed == "fast":
        yield "speed"
    if body.output_config and body.output_config.task_budget:
        yield "output_config.task_budget"
    if body.thinking is not None:
        if body.thinking.block_binding:
            yield "thinking.block_binding"
        if body.thinking.display == "updates":
            yield "thinking.display"


# --- the conversation ---


class _Conversation:
    """The messages, and what is left out of them by name."""

    def __init__(self, body: PromptRequest) -> None:
        self.dropped: list[str] = []
        self.system = list(self._system(body.system))
        self.messages: list[Message] = []
        turns = body.messages
        if isinstance(turns[-1], AssistantTurn):
            # Most vendors would answer it anew instead of writing on.
            raise UnsupportedParameterError(
                "The last of the messages is the assistant's: an answer that is begun can't be continued here. "
                "End with the user's, and ask for a form by output_config.format.",
                param="messages",
            )
        last = max((number for number, turn in enumerate(turns) if isinstance(turn, UserTurn)), default=0)
        for number, turn in enumerate(turns):
            mark = body.cache_control if number == len(turns) - 1 else None
            if isinstance(turn, UserTurn):
                self.messages += self._user(turn, f"messages[{number}].content", mark, is_last=number == last)
            elif isinstance(turn, AssistantTurn):
                self.messages.append(self._assistant(turn))
            elif turn.clear_at != "next_user_message" or number > last:
                self.messages += self._instructions(turn, mark)

    def _system(self, system: str | Sequence[TextBlock] | None) -> Iterator[Message]:
        if not system:
            return
        blocks = [TextBlock(type="text", text=system)] if isinstance(system, str) else [*system]
        if blocks and blocks[0].text.startswith(_BILLING):
            del blocks[0]
            self.dropped.append("system.x-anthropic-billing-header")
        if blocks:
            yield SystemMessage(role="system", content=self._texts(blocks))

    def _instructions(self, turn: SystemTurn, mark: CacheControl | None) -> Iterator[Message]:
        if isinstance(turn.content, str):
            yield SystemMessage(role="system", content=_texts(turn.content, mark))
            return
        if texts := [block for block in turn.content or () if isinstance(block, TextBlock)]:
            yield SystemMessage(role="system", content=self._texts(texts, mark))

    def _texts(self, blocks: Sequence[TextBlock], mark: CacheControl | None = None) -> str | list[TextPart]:
        if any(block.citations for block in blocks):
            self.dropped.append("messages.citations")
        return _texts(blocks, mark)

    def _user(self, turn: UserTurn, param: str, mark: CacheControl | None, *, is_last: bool) -> Iterator[Message]:
        """Tools' results first, each a message of its own; then what the user says, with the images and documents of
        those results."""
        if isinstance(turn.content, str):
            only = TextPart(type="text", text=turn.content, cache_control=mark)
            yield UserMessage(role="user", content=_plain([only]))
            return
        results = [block for block in turn.content if isinstance(block, ToolResultBlock)]
        said = [block for block in turn.content if not isinstance(block, ToolResultBlock)]
        if results and any(not isinstance(block, ToolResultBlock) for block in turn.content[: len(results)]):
            raise InvalidRequestError("tool_result blocks must come before the turn's other blocks.", param=param)
        shown: list[Any] = []
        for result in results:
            shown += _shown_of(result)
            yield self._result(result, mark if result is turn.content[-1] else None)
        if not (said or shown or not results):
            return
        parts = list(documents.parts_of(shown, fresh=None, dropped=self.dropped))
        fresh = param if is_last and not results else None
        parts += documents.parts_of(said, fresh=fresh, dropped=self.dropped)
        if any(block.citations for block in said if isinstance(block, TextBlock)):
            self.dropped.append("messages.citations")
        if said and parts and mark is not None and parts[-1].cache_control is None:  # type: ignore[union-attr] # no refusal
            parts[-1] = parts[-1].model_copy(update={"cache_control": mark})
        yield UserMessage(role="user", content=_plain(parts))

    def _result(self, result: ToolResultBlock, mark: CacheControl | None) -> ToolMessage:
        """A tool's answer is text in a `ChatRequest`: its images follow in the user's message, its failure is said."""
        blocks = (
            [TextBlock(type="text", text=result.content)] if isinstance(result.content, str) else result.content or []
        )
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        found = [block.tool_name for block in blocks if isinstance(block, ToolReferenceBlock)]
        if found:
            texts.append(TextBlock(type="text", text=f"Ready to be called: {', '.join(found)}."))
        if _shown_of(result):
            kinds = "image" if all(isinstance(block, ImageBlock) for block in _shown_of(result)) else "content"
            texts.append(TextBlock(type="text", text=f"(An {kinds} of this result follows in the user's message.)"))
        if result.is_error:
            first = texts[0] if texts else TextBlock(type="text", text="no reason was given.")
            texts = [first.model_copy(update={"text": f"The tool failed: {first.text}"}), *texts[1:]]
        said = self._texts(texts, result.cache_control or mark)
        return ToolMessage(role="tool", tool_call_id=result.tool_use_id, content=said)

    def _assistant(self, turn: AssistantTurn) -> AssistantMessage:
        if isinstance(turn.content, str):
            return AssistantMessage(role="assistant", content=turn.content)
        texts: list[TextBlock] = []
        calls: list[ToolCall] = []
        thoughts: list[ThinkingBlock] = []
        for block in turn.content:
            if isinstance(block, TextBlock):
                texts.append(block)
            elif isinstance(block, ToolUseBlock):
                calls.append(_call(block))
                if block.cache_control:
                    self.dropped.append("messages.tool_use.cache_control")
            elif isinstance(block, CompactionBlock):
                texts += [TextBlock(type="text", text=block.content)] if block.content else []
            elif isinstance(block, ServersBlock):
                self.dropped.append(f"messages.{block.type[:40]}" if block.type.isidentifier() else "messages")
            else:
                thoughts.append(_thought(block, place=len(texts) + len(calls) + len(thoughts)))
        said = self._texts(texts)
        return AssistantMessage(
            role="assistant",
            content=(said if isinstance(said, str) else [*said]) or (None if calls else ""),
            reasoning_content="".join(block.thinking or "" for block in thoughts) or None,
            thinking_blocks=thoughts or None,
            tool_calls=calls or None,
        )


def _texts(blocks: str | Sequence[TextBlock], mark: CacheControl | None = None) -> str | list[TextPart]:
    blocks = [TextBlock(type="text", text=blocks)] if isinstance(blocks, str) else blocks
    parts = [TextPart(type="text", text=block.text, cache_control=block.cache_control) for block in blocks]
    if parts and mark is not None:
        parts[-1] = parts[-1].model_copy(update={"cache_control": mark})
    plain: str | list[TextPart] = _plain(parts)
    return plain


def _plain(parts: Sequence[Any]) -> Any:  # noqa: ANN401 - parts of one kind or another, or a text
    """Plain text where it can be: not every server takes parts in every message."""
    if not parts:
        return ""
    only = parts[0] if len(parts) == 1 else None
    return only.text if isinstance(only, TextPart) and not only.cache_control else list(parts)


def _shown_of(result: ToolResultBlock) -> list[Any]:
    """What of a tool's result isn't text."""
    given = result.content
    if given is None or isinstance(given, str):
        return []
    return [block for block in given if not isinstance(block, TextBlock | ToolReferenceBlock)]


def _thought(block: content.ThinkingBlock | RedactedThinkingBlock, place: int) -> ThinkingBlock:
    if isinstance(block, RedactedThinkingBlock):
        return ThinkingBlock(type="redacted_thinking", data=block.data, place=place)
    return ThinkingBlock(type="thinking", thinking=block.thinking, signature=block.signature, place=place)


def _call(block: ToolUseBlock) -> ToolCall:
    function = FunctionCall(name=block.name, arguments=dumps(block.input))
    return ToolCall(id=block.id, type="function", function=function, extra_content=block.extra_content)


# --- the other fields ---


def _tool_choice(
    body: PromptRequest, tools: Tools
) -> tuple[Literal["none", "auto", "required"] | NamedToolChoice | None, bool | None]:
    """(tool_choice, parallel_tool_calls)."""
    choice = body.tool_choice
    if choice is None:
        return None, None
    if (choice.name is not None) != (choice.type == "tool"):
        raise InvalidRequestError("tool_choice.name belongs to type tool, and only there.", param="tool_choice.name")
    parallel = False if choice.disable_parallel_tool_use else None
    if tools.left_out and (choice.name in tools.left_out or not tools.functions):
        tools.dropped.append("tool_choice")
        return None, None
    if choice.name is not None:
        return NamedToolChoice(type="function", function=NamedFunction(name=choice.name)), parallel
    if not tools.functions and choice.type != "any":
        return None, None  # without tools there is nothing to choose from
    if choice.type == "any":
        return "required", parallel
    return ("auto", parallel) if choice.type == "auto" else ("none", None)


def _response_format(body: PromptRequest) -> JsonSchemaFormat | None:
    wanted: OutputFormat | None = (body.output_config and body.output_config.format) or body.output_format
    if wanted is None:
        return None
    # Anthropic's output keeps to the schema, so nothing less will do.
    schema = JsonSchema(name="output", schema_=wanted.schema_, strict=True)
    return JsonSchemaFormat(type="json_schema", json_schema=schema)


_Effort = Literal["none", "low", "medium", "high", "xhigh", "max"]


def _thinking(body: PromptRequest) -> tuple[Thinking | None, _Effort | None]:
    """What Claude is asked, and the `reasoning_effort` that comes nearest for others."""
    asked, effort = body.thinking, body.output_config.effort if body.output_config else None
    for turn in body.messages:
        if isinstance(turn, SystemTurn) and turn.output_config and turn.output_config.effort:
            effort = turn.output_config.effort
    if asked is None:
        # Without a word of thinking nothing is added to the effort: what Claude thinks, it bills.
        return (Thinking(effort=effort) if effort else None), effort
    budget = asked.budget_tokens
    if (budget is not None) != (asked.type == "enabled"):
        raise InvalidRequestError(
            "thinking.budget_tokens belongs to type enabled, and only there.", param="thinking.budget_tokens"
        )
    if budget is not None and isinstance(body, MessagesRequest) and budget >= body.max_tokens:
        raise InvalidRequestError(
            "thinking.budget_tokens must be less than max_tokens.", param="thinking.budget_tokens"
        )
    kind: Literal["enabled", "adaptive", "disabled"] = "disabled" if asked.type == "between_tools" else asked.type
    display = None if asked.display == "updates" else asked.display
    thinking = Thinking(type=kind, budget_tokens=budget, display=display, effort=effort)
    if kind == "disabled":
        return thinking, "none"
    if effort is not None or budget is None:
        return thinking, effort
    return thinking, "low" if budget < 4096 else "medium" if budget < 16384 else "high"


def _user_id(metadata: Metadata | None) -> str | None:
    """It is opaque, so its digest serves as well: coding agents send ids that OpenAI finds too long."""
    user = metadata.user_id if metadata else None
    return user if user is None or len(user) <= _MAX_USER else sha256(user.encode()).hexdigest()


# --- Claude's names ---

_CLAUDE: Final = re.compile(r"(?:.*[./])?(claude-[a-z0-9.-]*?[a-z0-9])(?:-latest)?(?:[-@](\d{8}))?(?:-v\d+(?::\w+)*)?")
"""`claude-haiku-4-5`, `claude-haiku-4-5-20251001`, `us.anthropic.claude-haiku-4-5-20251001-v1:0`."""


def _model(name: str, registry: Registry) -> str:
    """The model; for a Claude's id of Anthropic's own, the one configured model that is this Claude elsewhere.

    :raises ModelNotFoundError: where more than one provider has it
    """
    is_claudes = name.startswith("claude-") and registry.alias_of(name) is None
    wanted = _CLAUDE.fullmatch(name) if is_claudes else None
    if wanted is None:
        return name
    served = {(p.id, m) for p in registry.configured.values() for tier in TIERS if (m := p.tier_model(tier))}
    if any(model == name for _, model in served):
        return name
    found = sorted(f"{provider}/{model}" for provider, model in served if _is_same(wanted, _CLAUDE.fullmatch(model)))
    if len(found) > 1:
        raise ModelNotFoundError(f"More than one model is {name[:80]!r}: ask for {' or '.join(found)}.", param="model")
    return found[0] if found else name


def _is_same(wanted: re.Match[str], served: re.Match[str] | None) -> bool:
    """The same name, and the same date unless one of them leaves the date open."""
    return served is not None and wanted[1] == served[1] and (wanted[2] == served[2] or None in (wanted[2], served[2]))
