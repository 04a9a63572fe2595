"""Requests as Bedrock's Converse API takes them.

Source: the Converse API reference and botocore's `bedrock-runtime` service model. What Converse has no place for is
refused by the field's name. The mapping back is in `response.py`.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from fusewire.ai.failures import UnsupportedField
from fusewire.ai.providers.anthropic.models import Traits, traits
from fusewire.ai.providers.anthropic.thinking import as_asked, sent_back
from fusewire.ai.providers.bedrock.models import caches
from fusewire.ai.providers.call_ids import CallIds
from fusewire.ai.providers.json_schemas import SchemaError, closed, tool_schema
from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    FilePart,
    ImagePart,
    JsonObject,
    JsonSchemaFormat,
    NamedToolChoice,
    RefusalPart,
    SystemMessage,
    TextPart,
    ThinkingBlock,
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

_Block = dict[str, Any]


def converse_parameters(
    request: ChatRequest, model: str, output_cap: int, *, known_as: str | None = None
) -> dict[str, Any]:
    """The parameters of boto3's `converse` and `converse_stream`.

    :param known_as: the model behind an id that doesn't name it, such as an application inference profile's
    :raises UnsupportedField: for what Converse can't say, or this very model can't do
    """
    named = known_as or model
    claude = traits(named) if "claude" in named else None
    conversation = _Conversation(request, marks=caches(named), thoughts=claude is not None)
    thinking, asked_effort = None, _effort(request, claude)
    if claude is not None and request.thinking is not None:
        thinking, asked_effort, _ = as_asked(request, claude, output_cap)
    parameters = {
        "modelId": model,
        "messages": conversation.finished(),
        "system": conversation.system,
        "inferenceConfig": _inference(request, output_cap, claude, thinks=thinking is not None),
        # Converse has no field of its own for it (AWS, "Differences in thinking across model versions").
        "additionalModelRequestFields": {"thinking": thinking} if thinking else None,
        "toolConfig": _tool_config(request, claude, marks=caches(named)),
        "outputConfig": _output_config(request, asked_effort),
        # The tier of a call that names none is the default one too, as Bedrock's guide has it now ("Service tiers").
        "serviceTier": {"type": request.tier_asked or "default"},
    }
    return {name: value for name, value in parameters.items() if value}


def offers_tools(request: ChatRequest) -> bool:
    """Whether the model is shown tools. Converse has no `none`, so that then it is shown none."""
    return bool(request.tools) and request.tool_choice != "none"


# --- messages ----------------------------------------------------------------------------------------------------


class _Conversation:
    """The messages as turns that alternate, and the system text beside them.

    Converse insists on tools wherever a conversation holds tool blocks. Where the model isn't to be shown any, earlier
    calls and results are written as text: `[call_1] weather({...})` and `[call_1] sunny`.
    """

    def __init__(self, request: ChatRequest, *, marks: bool, thoughts: bool) -> None:
        """:param thoughts: whether the model takes Claude's signed thoughts"""
        self._marks = marks
        self._thoughts = thoughts
        self.system: list[_Block] = []
        self._turns: list[_Block] = []
        self._as_text = not offers_tools(request)
        self._ids = CallIds(_NOT_IN_IDS, 64)
        for message in request.messages:
            match message:
                case SystemMessage():
                    self.system += self._texts(message.content)
                case UserMessage():
                    if not (blocks := list(self._user(message))):
                        raise UnsupportedField("messages", "aws takes no user's message without content")
                    self._add("user", blocks)
                case AssistantMessage():
                    blocks = list(self._assistant(message))
                    if self._thoughts:
                        _insert_thoughts(blocks, message)
                    self._add("assistant", blocks)
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
                used = {
                    "toolUseId": self._ids.of_call(call.id),
                    "name": _named(name, "messages"),
                    "input": _arguments(call),
                }
                yield {"toolUse": used}

    def _result(self, message: ToolMessage) -> Iterator[_Block]:
        blocks = list(self._texts(message.content))
        texts = [block for block in blocks if "text" in block] or [{"text": "(empty)"}]
        if self._as_text:
            yield {"text": f"[{message.tool_call_id}] {texts[0]['text']}"}
            yield from texts[1:]
        else:
            call_id = message.tool_call_id
            yield {"toolResult": {"toolUseId": self._ids.of_result(call_id), "content": texts}}
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
            elif isinstance(part, FilePart):
                raise UnsupportedField("messages", "aws is sent no PDFs")
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


def _insert_thoughts(blocks: list[_Block], message: AssistantMessage) -> None:
    """Each at its place; none at the end, where Claude takes none."""
    places = [place for place, block in enumerate(blocks) if "cachePoint" not in block]
    for place, thought in reversed(list(sent_back(message, unsigned=False))):
        before = sum(1 for other, _ in sent_back(message, unsigned=False) if other < place)
        if (follows := place - before) < len(places) and (block := _reasoning(thought)) is not None:
            blocks.insert(places[follows], block)


def _reasoning(thought: ThinkingBlock) -> _Block | None:
    """None for an encrypted one that isn't base64, as Bedrock has it."""
    if thought.type == "thinking":
        said = {"text": thought.thinking or "", "signature": thought.signature}
        return {"reasoningContent": {"reasoningText": said}}
    try:
        return {"reasoningContent": {"redactedContent": base64.b64decode(thought.data or "", validate=True)}}
    except (binascii.Error, ValueError):
        return None


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


def _inference(request: ChatRequest, output_cap: int, claude: Traits | None, *, thinks: bool) -> dict[str, Any]:
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
        if sampling and (thinks or not claude.samples):
            param = "temperature" if "temperature" in sampling else "top_p"
            raise UnsupportedField(param, f"this Claude model takes no {param} but 1{' where it thinks' * thinks}")
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
    try:
        schema = tool_schema(function.parameters, strict=bool(function.strict))
    except SchemaError as error:
        raise UnsupportedField("tools", f"aws takes no tool whose parameters {error}") from None
    specification: dict[str, Any] = {"name": _named(function.name, "tools"), "inputSchema": {"json": schema}}
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


def _output_config(request: ChatRequest, effort: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {"effort": effort} if effort else {}
    if isinstance(request.response_format, JsonSchemaFormat):
        json_schema = request.response_format.json_schema
        if json_schema.schema_ is None:
            raise UnsupportedField("response_format", "aws needs the schema of a json_schema")
        try:
            schema = {"schema": dumps(closed(json_schema.schema_)), "name": json_schema.name}
        except SchemaError as error:
            raise UnsupportedField("response_format", f"aws takes no schema that {error}") from None
        if json_schema.description:
            schema["description"] = json_schema.description
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    return config


def _effort(request: ChatRequest, claude: Traits | None) -> str | None:
    effort = request.reasoning_effort
    if claude is not None and request.thinking is not None:
        return None  # Claude is asked in its own words
    if effort is None or (effort == "none" and claude is not None and claude.without_thinking == "left out"):
        return None
    known = [each for each in _EFFORTS if claude is None or each in claude.efforts]
    if effort not in known:
        raise UnsupportedField("reasoning_effort", f"aws has these levels here: {', '.join(known) or 'none'}")
    return effort
