"""A request in Anthropic's words: the whole mapping from OpenAI's fields to the Messages API's.

What has no place there is refused by its field's name (`UnsupportedField`), or is among the provider's `ignores`.
Sources: Anthropic's API reference, "Create a Message"; the field notes of its "OpenAI SDK compatibility" page.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from fusewire.ai.failures import UnsupportedField
from fusewire.ai.providers.anthropic.models import Traits, traits
from fusewire.ai.providers.anthropic.thinking import as_asked, sent_back
from fusewire.ai.providers.call_ids import CallIds
from fusewire.ai.providers.image_addresses import is_public_address
from fusewire.ai.providers.json_schemas import SchemaError, closed, tool_schema
from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    FilePart,
    ImagePart,
    JsonObject,
    JsonSchemaFormat,
    Message,
    NamedToolChoice,
    RefusalPart,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    Tool,
    ToolMessage,
    UserMessage,
)

Block = dict[str, Any]

_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")
_THOUGHTS: Final = ("thinking", "redacted_thinking")
_IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
SAMPLING: Final = ("temperature", "top_p")
"""Sent under their own names, to models that take them."""
SUPPORTED: Final = frozenset({
    *SAMPLING, "tools", "strict_tools", "tool_choice_none", "tool_choice_required", "tool_choice_named",
    "serial_tool_calls", "images", "files", "json_schema", "stop", "reasoning_effort", "thinking", "thinking_blocks",
    "user", "safety_identifier", "cache_control",
})  # fmt: skip
"""What `message_body` maps."""
_ARGUMENTS: Final = TypeAdapter[dict[str, Any]](JsonObject)


def message_body(request: ChatRequest, model: str, output_cap: int, *, remote_images: bool) -> dict[str, Any]:
    """The body of `POST /v1/messages`, but for `stream`.

    :param remote_images: whether the server at the other end may be given addresses to fetch
    :raises UnsupportedField: for what this model, or Anthropic at all, can't honour
    """
    limits = traits(model)
    if request.thinking is None:
        thinking, effort = _reasoning(request, limits)
    else:
        thinking, effort, _ = as_asked(request, limits, output_cap)
    conversation = _conversation(request, limits, remote_images=remote_images)
    optional = {
        "system": conversation.system or None,
        **_tools(request, limits),
        "stop_sequences": _stop(request),
        "thinking": thinking,
        "output_config": _output_config(request, effort),
        "metadata": _metadata(request),
        **_sampling(request, limits, reasons=thinking is not None and thinking["type"] in ("adaptive", "enabled")),
    }
    return {
        "model": model,
        "max_tokens": output_cap,
        "messages": conversation.turns,
        **{name: value for name, value in optional.items() if value is not None},
    }


# --- the conversation ---


def _conversation(request: ChatRequest, limits: Traits, *, remote_images: bool) -> "_Conversation":
    conversation = _Conversation(limits, remote_images)
    for message in request.messages:
        conversation.add(message)
    conversation.end()
    if not any(turn["role"] == "user" for turn in conversation.turns):
        raise UnsupportedField("messages", "Anthropic needs a message besides the system's.")
    if conversation.turns[-1]["role"] == "assistant":
        # An older Claude would go on writing that very message, and the newer ones refuse to.
        raise UnsupportedField("messages", "Anthropic needs a user's or a tool's message at the end.")
    return conversation


class _Conversation:
    """Turns as Anthropic wants them: neighbours of one role are one turn, tools' results stand in the user's."""

    def __init__(self, limits: Traits, remote_images: bool) -> None:
        self.system: list[Block] = []
        self.turns: list[Block] = []
        self._limits = limits
        self._remote_images = remote_images
        self._instructions: list[Block] = []
        """The system's, which wait for the end of the user's turn: Anthropic takes them nowhere else."""
        self._ids = CallIds(_NOT_IN_IDS)

    def add(self, message: Message) -> None:
        if isinstance(message, SystemMessage):
            # What is added later must not change what was sent before: caches and signed thoughts hang on it.
            is_later = self._limits.system_turns and self.turns
            _add_system_texts(self._instructions if is_later else self.system, message)
        elif isinstance(message, UserMessage):
            blocks = self._user(message)
            if not blocks:
                raise UnsupportedField("messages", "Anthropic takes no user's message without content.")
            self._append("user", blocks)
        elif isinstance(message, AssistantMessage):
            self._append("assistant", self._assistant(message))
        elif isinstance(message, ToolMessage):
            self._append("user", [self._result(message)])

    def end(self) -> None:
        """After the last message."""
        if self._instructions and self.turns[-1]["role"] == "user":
            self.turns.append({"role": "system", "content": self._instructions})
            self._instructions = []
        for turn in self.turns:
            # An answer that was cut in the middle of a thought: Anthropic takes none at the end.
            while turn["role"] == "assistant" and turn["content"] and turn["content"][-1]["type"] in _THOUGHTS:
                turn["content"].pop()

    def _append(self, role: str, blocks: list[Block]) -> None:
        if all(block["type"] in _THOUGHTS for block in blocks):
            return  # an earlier answer that was empty, or cut before it said anything
        if role == "assistant" and self._instructions and self.turns[-1]["role"] == "user":
            self.turns.append({"role": "system", "content": self._instructions})
            self._instructions = []
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def _user(self, message: UserMessage) -> list[Block]:
        blocks: list[Block] = []
        for part in _parts(message.content):
            if isinstance(part, ImagePart):
                blocks.append(_marked(_image(part, self._remote_images), part))
            elif isinstance(part, FilePart):
                blocks.append(_marked(_document(part), part))
            else:
                _add_text(blocks, part)
        return blocks

    def _assistant(self, message: AssistantMessage) -> list[Block]:
        blocks: list[Block] = []
        for part in [*_parts(message.content), *_parts(message.refusal)]:
            _add_text(blocks, part)
        for call in message.tool_calls or ():
            try:
                arguments = _ARGUMENTS.validate_json(call.function.arguments.strip() or "{}")
            except ValidationError:
                raise UnsupportedField(
                    "messages", "Anthropic takes earlier tool calls only with a JSON object as their arguments."
                ) from None
            name = _checked_name(call.function.name, "messages")
            blocks.append({"type": "tool_use", "id": self._ids.of_call(call.id), "name": name, "input": arguments})
        for place, thought in sent_back(message, unsigned=not self._limits.claude):
            blocks.insert(place, _thought(thought))
        return blocks

    def _result(self, message: ToolMessage) -> Block:
        call_id = message.tool_call_id
        block: Block = {"type": "tool_result", "tool_use_id": self._ids.of_result(call_id)}
        content: list[Block] = []
        for part in _parts(message.content):
            _add_text(content, part)
            # The result as a whole can end what is cached; what is within it can't.
            _marked(block, part)
        for text in content:
            text.pop("cache_control", None)
        if content:
            block["content"] = content
        return block


def _parts(content: str | Iterable[Any] | None) -> Iterable[Any]:
    if isinstance(content, str):
        return [TextPart(type="text", text=content)]
    return content or ()


def _add_text(blocks: list[Block], part: TextPart | RefusalPart) -> None:
    """Anthropic takes no blank block: what is blank stays with the text before it."""
    text = part.refusal if isinstance(part, RefusalPart) else part.text
    if text.strip():
        blocks.append(_marked({"type": "text", "text": text}, part))
    elif blocks and blocks[-1]["type"] == "text":
        blocks[-1]["text"] += text
        _marked(blocks[-1], part)


def _thought(block: ThinkingBlock) -> Block:
    if block.type == "redacted_thinking":
        return {"type": "redacted_thinking", "data": block.data or ""}
    return {"type": "thinking", "thinking": block.thinking or "", "signature": block.signature or ""}


def _document(part: FilePart) -> Block:
    data = part.file.file_data.partition(",")[2]
    titled = {"title": part.file.filename} if part.file.filename else {}
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    return {"type": "document", "source": source, **titled}


def _marked(block: Block, part: TextPart | RefusalPart | ImagePart | FilePart | Tool) -> Block:
    """With the caller's cache breakpoint, where there is one."""
    if not isinstance(part, RefusalPart) and part.cache_control is not None:
        block["cache_control"] = part.cache_control.model_dump(include={"type", "ttl"}, exclude_none=True)
    return block


def _add_system_texts(blocks: list[Block], message: SystemMessage) -> None:
    """Every system and developer message, in order, as Anthropic's own OpenAI endpoint does it: joined by a newline.

    A block ends where a cache breakpoint stands.
    """
    for part in _parts(message.content):
        if not part.text.strip():
            pass
        elif blocks and "cache_control" not in blocks[-1]:
            blocks[-1]["text"] += "\n" + part.text
        else:
            blocks.append({"type": "text", "text": part.text})
        if blocks:
            _marked(blocks[-1], part)


def _image(part: ImagePart, remote_images: bool) -> Block:
    """base64 as it is. An address is passed on for Anthropic to fetch, never fetched here."""
    url = part.image_url.url
    if url[:5].lower() == "data:":
        header, comma, data = url[5:].partition(",")
        kind, *options = (word.strip().lower() for word in header.split(";"))
        kind = {"image/jpg": "image/jpeg"}.get(kind, kind)
        if not comma or "base64" not in options or kind not in _IMAGE_TYPES:
            raise UnsupportedField("messages", f"Anthropic takes images in base64 of {', '.join(_IMAGE_TYPES)}.")
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    if not remote_images:
        raise UnsupportedField(
            "messages", "An image's address is passed on to Anthropic's own endpoint only; send a data: URL."
        )
    if not is_public_address(url):
        raise UnsupportedField("messages", "An image's address must be https, with a public host name and no password.")
    return {"type": "image", "source": {"type": "url", "url": url}}


# --- tools ---


def _tools(request: ChatRequest, limits: Traits) -> Mapping[str, Any]:
    if not request.tools:
        return _tools_of_history(request.messages)
    choice = _tool_choice(request, limits)
    if request.parallel_tool_calls is False and choice != {"type": "none"}:
        choice = {"type": "auto", **(choice or {}), "disable_parallel_tool_use": True}
    return {"tools": [_tool(tool) for tool in request.tools], "tool_choice": choice}


def _tools_of_history(messages: Iterable[Message]) -> Mapping[str, Any]:
    """A conversation with tool calls must come with tools: those it names, and the word that none may be called."""
    calls = (call for m in messages if isinstance(m, AssistantMessage) for call in m.tool_calls or ())
    names = dict.fromkeys(call.function.name for call in calls)
    if not names:
        return {}
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in names]
    return {"tools": tools, "tool_choice": {"type": "none"}}


def _tool(tool: Tool) -> Block:
    function = tool.function
    try:
        schema = tool_schema(function.parameters, strict=bool(function.strict))
    except SchemaError as error:
        raise UnsupportedField("tools", f"Anthropic takes no tool whose parameters {error}.") from None
    definition: Block = {"name": _checked_name(function.name, "tools"), "input_schema": schema}
    if function.description is not None:
        definition["description"] = function.description
    if function.strict:
        definition["strict"] = True
    return _marked(definition, tool)


def _checked_name(name: str, param: str) -> str:
    if not _TOOL_NAME.fullmatch(name):
        raise UnsupportedField(param, "Anthropic takes tools' names of letters, digits, _ and - only.")
    return name


def _tool_choice(request: ChatRequest, limits: Traits) -> Block | None:
    choice = request.tool_choice
    if choice in (None, "auto"):
        return None
    if choice == "none":
        return {"type": "none"}
    if not limits.forced_tools:
        raise UnsupportedField("tool_choice", "This Claude model can't be made to call a tool.")
    if isinstance(choice, NamedToolChoice):
        return {"type": "tool", "name": choice.function.name}
    return {"type": "any"}


# --- the answer's limits and form ---


def _stop(request: ChatRequest) -> list[str] | None:
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    if stop and not all(sequence.strip() for sequence in stop):
        raise UnsupportedField("stop", "Anthropic takes no stop sequence of white space alone.")
    return stop or None


def _reasoning(request: ChatRequest, limits: Traits) -> tuple[Block | None, str | None]:
    """(thinking, effort)."""
    effort = request.reasoning_effort
    if effort is None:
        return None, None
    if effort == "none":
        if limits.without_thinking == "impossible":
            raise UnsupportedField("reasoning_effort", "This Claude model always thinks; low is its least effort.")
        return (None if limits.without_thinking == "left out" else {"type": limits.without_thinking}), None
    if effort not in limits.efforts:
        known = ", ".join(level for level in ("low", "medium", "high", "xhigh", "max") if level in limits.efforts)
        raise UnsupportedField("reasoning_effort", f"This Claude model's levels of effort: {known or 'none'}.")
    return ({"type": "adaptive"} if limits.thinks_on_request else None), effort


def _output_config(request: ChatRequest, effort: str | None) -> Block | None:
    config: Block = {"effort": effort} if effort else {}
    if isinstance(request.response_format, JsonSchemaFormat):
        json_schema = request.response_format.json_schema
        if json_schema.schema_ is None:
            raise UnsupportedField("response_format", "Anthropic needs the schema of a json_schema.")
        described = {"description": json_schema.description} if json_schema.description else {}
        try:
            schema = closed({**described, **json_schema.schema_})
        except SchemaError as error:
            raise UnsupportedField("response_format", f"Anthropic takes no schema that {error}.") from None
        config["format"] = {"type": "json_schema", "schema": schema}
    return config or None


def _sampling(request: ChatRequest, limits: Traits, *, reasons: bool) -> Mapping[str, float]:
    """1 is what Claude does by default, and is left out: newer models know no other, and no such field."""
    given = {name: getattr(request, name) for name in SAMPLING}
    chosen = {name: value for name, value in given.items() if value is not None and not (limits.claude and value == 1)}
    if limits.claude and {"temperature", "top_p"} <= chosen.keys():
        raise UnsupportedField("top_p", "Claude takes temperature or top_p, not both.")
    if chosen.get("temperature", 0) > 1:
        raise UnsupportedField("temperature", "Anthropic's temperature goes from 0 to 1.")
    for name in chosen:
        if not limits.samples:
            raise UnsupportedField(name, f"This Claude model takes no {name} but 1.")
        if reasons:
            raise UnsupportedField(name, f"Claude takes no {name} but 1 beside reasoning_effort.")
    return chosen


def _metadata(request: ChatRequest) -> Block | None:
    """Anthropic wants an opaque id, and OpenAI's `user` is often somebody's address: its digest serves both."""
    user = request.safety_identifier or request.user
    return {"user_id": sha256(user.encode()).hexdigest()} if user else None
