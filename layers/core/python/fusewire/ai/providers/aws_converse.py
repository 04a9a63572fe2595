"""The vocabulary's requests as Bedrock's Converse API takes them.

Source: the Converse API reference and botocore's `bedrock-runtime` service model. What Converse has no place for is
refused by the field's name. The mapping back is in `aws_answers.py`.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
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
    NamedToolChoice,
    RefusalPart,
    SystemMessage,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from fusewire.json import dumps

_IMAGE: Final = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,", re.IGNORECASE)
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_.:-]")
_ARGUMENTS: Final = TypeAdapter[dict[str, Any]](JsonObject)
_ANY_OBJECT: Final = {"type": "object", "properties": {}}

_Block = dict[str, Any]


def converse_parameters(request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
    """The parameters of boto3's `converse` and `converse_stream`.

    :raises UnsupportedField: for what Converse can't say, or this very model can't do
    """
    claude = traits(model) if "anthropic.claude" in model else None
    conversation = _Conversation(request, marks=caches(model))
    parameters = {
        "modelId": model,
        "messages": conversation.finished(),
        "system": conversation.system,
        "inferenceConfig": _inference(request, output_cap, claude),
        "toolConfig": _tool_config(request, claude, marks=caches(model)),
        "outputConfig": _output_config(request, claude),
    }
    return {name: value for name, value in parameters.items() if value}


def told_dropped(request: ChatRequest, model: str) -> Iterator[str]:
    """What the messages hold that changes no meaning and that Converse, or this model, has no place for."""
    if any(message.name for message in request.messages):
        yield "messages.name"
    if any(image.image_url.detail != "auto" for image in request.images()):
        yield "messages.image_url.detail"
    # Bedrock takes its own reasoning back with its signature only.
    yield from request.extensions() - ({"cache_control"} if caches(model) else set())


def caches(model: str) -> bool:
    """Whether the model takes cache points. Others refuse them, and a mark that saves money must not cost an answer."""
    return "anthropic.claude" in model or "amazon.nova" in model


def offers_tools(request: ChatRequest) -> bool:
    """Whether the model is shown tools. Converse has no `none`, so that then it is shown none."""
    return bool(request.tools) and request.tool_choice != "none"


# --- messages ----------------------------------------------------------------------------------------------------


class _Conversation:
    """The messages as turns that alternate, and the system text beside them.

    Converse insists on tools wherever a conversation holds tool blocks. Where the model isn't to be shown any, earlier
    calls and results are told as text: `[call_1] weather({...})` and `[call_1] sunny`.
    """

    def __init__(self, request: ChatRequest, *, marks: bool) -> None:
        self._marks = marks
        self.system: list[_Block] = []
        self._turns: list[_Block] = []
        self._as_text = not offers_tools(request)
        self._ids: dict[str, str] = {}
        self._taken: set[str] = set()
        for message in request.messages:
            match message:
                case SystemMessage():
                    self.system += self._texts(message.content)
                case UserMessage():
                    if not (blocks := list(self._user(message))):
                        raise UnsupportedField("messages", "aws takes no user's message without content")
                    self._add("user", blocks)
                case AssistantMessage():
                    self._add("assistant", self._assistant(message))
                case ToolMessage():
                    self._add("user", self._result(message))

    def finished(self) -> list[_Block]:
        if not self._turns or self._turns[-1]["role"] == "assistant":
            # Some models would go on writing that very message, and others refuse to.
            raise UnsupportedField("messages", "aws needs a user's or a tool's message at the end")
        return self._turns

    def _add(self, role: str, blocks: Iterable[_Block]) -> None:
        added = list(blocks)
        if added and self._turns and self._turns[-1]["role"] == role:
            self._turns[-1]["content"] += added
        elif added:
            self._turns.append({"role": role, "content": added})

    def _assistant(self, message: AssistantMessage) -> Iterator[_Block]:
        yield from self._texts(message.content)
        yield from self._texts(message.refusal)
        for call in message.tool_calls or ():
            name = call.function.name
            if self._as_text:
                yield {"text": f"[{call.id}] {name}({call.function.arguments})"}
            else:
                used = {"toolUseId": self._new_id(call.id), "name": _named(name, "messages"), "input": _arguments(call)}
                yield {"toolUse": used}

    def _result(self, message: ToolMessage) -> Iterator[_Block]:
        blocks = list(self._texts(message.content))
        told = [block for block in blocks if "text" in block] or [{"text": "(empty)"}]
        if self._as_text:
            yield {"text": f"[{message.tool_call_id}] {told[0]['text']}"}
            yield from told[1:]
        else:
            asked = message.tool_call_id
            yield {"toolResult": {"toolUseId": self._ids.get(asked, _tidy(asked)), "content": told}}
        # A cache point can't stand within a result, but behind it.
        yield from [block for block in blocks if "cachePoint" in block][-1:]

    def _user(self, message: UserMessage) -> Iterator[_Block]:
        if isinstance(message.content, str):
            yield from self._texts(message.content)
            return
        for part in message.content:
            if isinstance(part, ImagePart):
                yield _image(part)
                yield from _cache_point(part, self._marks)
            else:
                yield from self._texts([part])

    def _texts(self, content: str | Sequence[TextPart | RefusalPart] | None) -> Iterator[_Block]:
        """The content's texts; blank ones are left out, since Bedrock refuses them."""
        if isinstance(content, str):
            if content.strip():
                yield {"text": content}
            return
        for part in content or ():
            text = part.refusal if isinstance(part, RefusalPart) else part.text
            if text.strip():
                yield {"text": text}
                yield from _cache_point(part, self._marks)

    def _new_id(self, asked: str) -> str:
        """The id under which a call is sent: each only once, and in Bedrock's alphabet."""
        unique = tidy = _tidy(asked)
        number = 1
        while unique in self._taken:
            number += 1
            unique = f"{tidy[:58]}_{number}"
        self._taken.add(unique)
        self._ids[asked] = unique
        return unique


def _tidy(call_id: str) -> str:
    return _NOT_IN_IDS.sub("_", call_id)[:64] or "_"


def _image(part: ImagePart) -> _Block:
    """An image given as data. A remote one is refused: fetching it from here would open the internal network."""
    url = part.image_url.url
    if (found := _IMAGE.match(url)) is None:
        raise UnsupportedField(
            "messages", "aws takes images as data: URLs of png, jpeg, gif or webp in base64, never as addresses"
        )
    try:
        data = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise UnsupportedField("messages", "an image's data: URL isn't base64")
    kind = found[1].lower()
    return {"image": {"format": "jpeg" if kind == "jpg" else kind, "source": {"bytes": data}}}


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        return _ARGUMENTS.validate_json(call.function.arguments.strip() or "{}")
    except ValidationError:
        raise UnsupportedField(
            "messages", "aws takes earlier tool calls only with a JSON object as arguments"
        ) from None


def _cache_point(part: TextPart | ImagePart | RefusalPart | Tool, marks: bool) -> Iterator[_Block]:
    """What follows a part that is marked with Anthropic's `cache_control`."""
    if marks and not isinstance(part, RefusalPart) and part.cache_control is not None:
        ttl = part.cache_control.ttl
        yield {"cachePoint": {"type": "default", **({"ttl": ttl} if ttl else {})}}


# --- the other fields --------------------------------------------------------------------------------------------


def _inference(request: ChatRequest, output_cap: int, claude: Traits | None) -> dict[str, Any]:
    if request.temperature is not None and request.temperature > 1:
        raise UnsupportedField("temperature", "aws takes a temperature from 0 to 1")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    if stop and not all(each.strip() if claude else each for each in stop):
        raise UnsupportedField("stop", "aws takes no empty stop sequence, and Claude none of white space alone")
    sampling = {"temperature": request.temperature, "topP": request.top_p}
    if claude is not None:
        # 1 is what Claude does by default, and the newer models know no other.
        sampling = {name: value for name, value in sampling.items() if value not in (None, 1)}
        if len(sampling) > 1:
            raise UnsupportedField("top_p", "Claude takes temperature or top_p, not both")
        if sampling and not claude.samples:
            param = "temperature" if "temperature" in sampling else "top_p"
            raise UnsupportedField(param, f"this Claude model takes no {param} but 1")
    fields = {"maxTokens": output_cap, **sampling, "stopSequences": stop or None}
    return {name: value for name, value in fields.items() if value is not None}


def _tool_config(request: ChatRequest, claude: Traits | None, *, marks: bool) -> dict[str, Any] | None:
    if not offers_tools(request):
        return None
    config: dict[str, Any] = {"tools": [block for tool in request.tools or () for block in _tool(tool, marks)]}
    if request.tool_choice in (None, "auto"):
        return config
    if claude is not None and not claude.forced_tools:
        raise UnsupportedField("tool_choice", "this Claude model can't be made to call a tool")
    if isinstance(request.tool_choice, NamedToolChoice):
        config["toolChoice"] = {"tool": {"name": _named(request.tool_choice.function.name, "tool_choice")}}
    else:
        config["toolChoice"] = {"any": {}}
    return config


def _tool(tool: Tool, marks: bool) -> Iterator[_Block]:
    function = tool.function
    specification: dict[str, Any] = {
        "name": _named(function.name, "tools"),
        "inputSchema": {"json": _ANY_OBJECT if function.parameters is None else function.parameters},
    }
    if function.description:
        specification["description"] = function.description
    if function.strict:
        specification["strict"] = True
    yield {"toolSpec": specification}
    yield from _cache_point(tool, marks)


def _named(name: str, param: str) -> str:
    if not _TOOL_NAME.fullmatch(name):
        raise UnsupportedField(param, "aws takes tools' names of up to 64 letters, digits, _ and -")
    return name


def _output_config(request: ChatRequest, claude: Traits | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if effort := _effort(request, claude):
        config["effort"] = effort
    if isinstance(request.response_format, JsonSchemaFormat):
        asked = request.response_format.json_schema
        if asked.schema_ is None:
            raise UnsupportedField("response_format", "aws needs the schema of a json_schema")
        schema = {"schema": dumps(asked.schema_), "name": asked.name}
        if asked.description:
            schema["description"] = asked.description
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    return config


def _effort(request: ChatRequest, claude: Traits | None) -> str | None:
    effort = request.reasoning_effort
    if effort is None or (effort == "none" and claude is not None and claude.without_thinking == "left out"):
        return None
    known = [each for each in _EFFORTS if claude is None or each in claude.efforts]
    if effort not in known:
        raise UnsupportedField("reasoning_effort", f"aws has these levels here: {', '.join(known) or 'none'}")
    return effort
