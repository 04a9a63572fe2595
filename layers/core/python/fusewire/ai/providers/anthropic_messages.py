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
from fusewire.ai.providers.anthropic_models import Traits, traits
from fusewire.ai.vocabulary import (
    AssistantMessage,
    ChatRequest,
    ImagePart,
    JsonObject,
    JsonSchemaFormat,
    Message,
    NamedToolChoice,
    RefusalPart,
    SystemMessage,
    TextPart,
    Tool,
    ToolMessage,
    UserMessage,
)

Block = dict[str, Any]

_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PUBLIC_ADDRESS: Final = re.compile(r"https://(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:[/?#]\S*)?", re.IGNORECASE)
"""A name's top level is a word: addresses in digits are nobody's public host, and a password would travel."""
_UNIONS: Final = frozenset({"anyOf", "oneOf", "allOf"})
_ARGUMENTS: Final = TypeAdapter[dict[str, Any]](JsonObject)


def message_body(request: ChatRequest, model: str, output_cap: int, *, remote_images: bool) -> dict[str, Any]:
    """The body of `POST /v1/messages`, but for `stream`.

    :param remote_images: whether the server at the other end may be given addresses to fetch
    :raises UnsupportedField: for what this model, or Anthropic at all, can't honour
    """
    limits = traits(model)
    thinking, effort = _reasoning(request, limits)
    optional = {
        "system": _system(request.messages),
        **_tools(request, limits),
        "stop_sequences": _stop(request),
        "thinking": thinking,
        "output_config": _output_config(request, effort),
        "metadata": _metadata(request),
        **_sampling(request, limits, reasons=thinking == {"type": "adaptive"}),
    }
    return {
        "model": model,
        "max_tokens": output_cap,
        "messages": _turns(request, remote_images=remote_images),
        **{name: value for name, value in optional.items() if value is not None},
    }


def unplaced(request: ChatRequest) -> Iterable[str]:
    """What a request says in passing and that has no place there, for `x-fusewire-dropped`."""
    if request.user and request.safety_identifier:
        yield "user"
    if any(message.name for message in request.messages):
        yield "messages.name"
    if any(image.image_url.detail != "auto" for image in request.images()):
        yield "messages.image_url.detail"
    # Claude takes its earlier thinking back only with the signature that came with it.
    yield from request.extensions() - {"cache_control"}


# --- the conversation ---


def _turns(request: ChatRequest, *, remote_images: bool) -> list[Block]:
    conversation = _Conversation(remote_images)
    for message in request.messages:
        conversation.add(message)
    turns = conversation.turns
    if not turns:
        raise UnsupportedField("messages", "Anthropic needs a message besides the system's.")
    if turns[-1]["role"] == "assistant":
        # An older Claude would go on writing that very message, and the newer ones refuse to.
        raise UnsupportedField("messages", "Anthropic needs a user's or a tool's message at the end.")
    return turns


class _Conversation:
    """Turns as Anthropic wants them: neighbours of one role are one turn, tools' results stand in the user's."""

    def __init__(self, remote_images: bool) -> None:
        self.turns: list[Block] = []
        self._remote_images = remote_images
        self._ids: dict[str, str] = {}
        self._taken: set[str] = set()

    def add(self, message: Message) -> None:
        if isinstance(message, UserMessage):
            blocks = self._user(message)
            if not blocks:
                raise UnsupportedField("messages", "Anthropic takes no user's message without content.")
            self._append("user", blocks)
        elif isinstance(message, AssistantMessage):
            self._append("assistant", self._assistant(message))
        elif isinstance(message, ToolMessage):
            self._append("user", [self._result(message)])

    def _append(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return  # an earlier answer that was empty
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def _user(self, message: UserMessage) -> list[Block]:
        blocks: list[Block] = []
        for part in _parts(message.content):
            if isinstance(part, ImagePart):
                blocks.append(_marked(_image(part, self._remote_images), part))
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
            blocks.append({"type": "tool_use", "id": self._new_id(call.id), "name": name, "input": arguments})
        return blocks

    def _result(self, message: ToolMessage) -> Block:
        asked = message.tool_call_id
        block: Block = {"type": "tool_result", "tool_use_id": self._ids.get(asked, _tidy(asked))}
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

    def _new_id(self, asked: str) -> str:
        """The id under which a call is sent: Anthropic wants each only once, and in its own alphabet."""
        tidy = unique = _tidy(asked)
        number = 1
        while unique in self._taken:
            number += 1
            unique = f"{tidy}_{number}"
        self._taken.add(unique)
        self._ids[asked] = unique
        return unique


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


def _marked(block: Block, asked: TextPart | RefusalPart | ImagePart | Tool) -> Block:
    """With the caller's cache breakpoint, where there is one."""
    if not isinstance(asked, RefusalPart) and asked.cache_control is not None:
        block["cache_control"] = asked.cache_control.model_dump(exclude_none=True)
    return block


def _tidy(call_id: str) -> str:
    """No longer than it was, so that the bound of the caller's own text holds."""
    return _NOT_IN_IDS.sub("_", call_id) or "_"


def _system(messages: Iterable[Message]) -> list[Block] | None:
    """Every system and developer message, in order, as Anthropic's own OpenAI endpoint does it: joined by a newline.

    A block ends where a cache breakpoint stands.
    """
    blocks: list[Block] = []
    for message in messages:
        if not isinstance(message, SystemMessage):
            continue
        for part in _parts(message.content):
            if not part.text.strip():
                pass
            elif blocks and "cache_control" not in blocks[-1]:
                blocks[-1]["text"] += "\n" + part.text
            else:
                blocks.append({"type": "text", "text": part.text})
            if blocks:
                _marked(blocks[-1], part)
    return blocks or None


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
    if not _PUBLIC_ADDRESS.fullmatch(url):
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
    schema = {"type": "object", **({"properties": {}} if function.parameters is None else function.parameters)}
    if not _UNIONS.isdisjoint(schema):
        raise UnsupportedField("tools", "Anthropic takes no anyOf, oneOf or allOf at the top of a tool's parameters.")
    told: Block = {"name": _checked_name(function.name, "tools"), "input_schema": schema}
    if function.description is not None:
        told["description"] = function.description
    if function.strict:
        told["strict"] = True
    return _marked(told, tool)


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
    return ({"type": "adaptive"} if limits.thinks_when_told else None), effort


def _output_config(request: ChatRequest, effort: str | None) -> Block | None:
    config: Block = {"effort": effort} if effort else {}
    if isinstance(request.response_format, JsonSchemaFormat):
        asked = request.response_format.json_schema
        if asked.schema_ is None:
            raise UnsupportedField("response_format", "Anthropic needs the schema of a json_schema.")
        described = {"description": asked.description} if asked.description else {}
        config["format"] = {"type": "json_schema", "schema": {**described, **asked.schema_}}
    return config or None


def _sampling(request: ChatRequest, limits: Traits, *, reasons: bool) -> Mapping[str, float]:
    """1 is what Claude does by default, and is left out: newer models know no other, and no such field."""
    given = {"temperature": request.temperature, "top_p": request.top_p}
    asked = {name: value for name, value in given.items() if value is not None and not (limits.claude and value == 1)}
    if len(asked) > 1 and limits.claude:
        raise UnsupportedField("top_p", "Claude takes temperature or top_p, not both.")
    for name, value in asked.items():
        if value > 1:
            raise UnsupportedField(name, "Anthropic's temperature goes from 0 to 1.")
        if not limits.samples:
            raise UnsupportedField(name, f"This Claude model takes no {name} but 1.")
        if reasons:
            raise UnsupportedField(name, f"Claude takes no {name} but 1 beside reasoning_effort.")
    return asked


def _metadata(request: ChatRequest) -> Block | None:
    """Anthropic wants an opaque id, and OpenAI's `user` is often somebody's address: its digest serves both."""
    user = request.safety_identifier or request.user
    return {"user_id": sha256(user.encode()).hexdigest()} if user else None
