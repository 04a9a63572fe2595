"""Which fields of a request may be left out so that somebody answers it, and the request without them.

A preference is left out where none of the route's providers has it. Where none of them reads documents, a note stands
for those of earlier turns and of tools' results, so that a conversation that holds one goes on; one that the user has
just sent is refused. A field that a vendor refuses by its name sends the call to the next provider; where none is left,
a preference or a hint is left out and the same provider asked again. Thoughts of earlier answers that Claude refuses
are left out at once.
Everything that is left out is named to the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from fusewire.ai.failures import OF_FORM, FailureKind, ProviderFailure
from fusewire.ai.provider import Target
from fusewire.ai.schema import (
    SEND_TEXT_INSTEAD,
    AssistantMessage,
    ChatRequest,
    EmbeddingRequest,
    FilePart,
    Message,
    TextPart,
    ToolMessage,
    UserMessage,
    fields_of,
    holds_token_ids,
    kept,
)
from fusewire.ai.targets import BoundedTarget
from fusewire.errors import UnsupportedParameterError

_Request = TypeVar("_Request", ChatRequest, EmbeddingRequest)
THOUGHTS: Final = "thinking_blocks"
"""The `param` of a failure in which a vendor refuses the thoughts of earlier answers."""
_CAPS: Final = ("max_tokens", "max_completion_tokens")


@dataclass(slots=True)
class Asked(Generic[_Request]):
    """A request on its way, with what had to be left out of it."""

    request: _Request
    left_out: list[str] = field(default_factory=list)

    def leave_out(self, *names: str) -> None:
        self.request = self.request.model_copy(update=dict.fromkeys(names))
        self.left_out += names

    def of(self, target: BoundedTarget) -> _Request:
        """The request as this provider is sent it: without a service tier that it can't be asked for, or not bounded
        in."""
        return self.request.model_copy(update={"service_tier": None}) if self._loses_tier(target) else self.request

    def dropped(self, target: BoundedTarget) -> tuple[str, ...]:
        """Everything that this provider isn't sent, for `x-fusewire-dropped` and the log."""
        dropped = {*self.left_out, *target.provider.dropped(self.request, target.model)}
        return tuple(sorted(dropped | {"service_tier"} if self._loses_tier(target) else dropped))

    def _loses_tier(self, target: BoundedTarget) -> bool:
        request = self.request
        return isinstance(request, ChatRequest) and request.tier_asked is not None and target.service_tier is None

    def wants_first_call(self, target: BoundedTarget) -> bool:
        """Whether the gateway has to see to it that the answer holds one tool call at most."""
        return "serial_tool_calls" in kept(self.request) - target.provider.supports(target.model)

    def refused_field(self, failure: ProviderFailure, *, others_left: bool) -> bool:
        """Read a vendor's refusal that names an optional field of this request as that: its `kind` becomes
        FIELD_REFUSED, where the code or the words have not said so.

        :return: whether the field was left out, so that the same provider may be asked again
        """
        if failure.kind not in OF_FORM or failure.param is None:
            return False
        if failure.param == THOUGHTS and isinstance(self.request, ChatRequest) and _has_thoughts(self.request):
            # They are another account's, or what stood before them has changed: they would be refused at every turn.
            failure.kind = FailureKind.FIELD_REFUSED
            self.request = _without_thoughts(self.request)
            self.left_out.append(THOUGHTS)
            return True
        name = failure.param.partition(".")[0].partition("[")[0]
        asks = fields_of(type(self.request), "meaning", "preference", "kept", "hint")
        # The output cap is always sent, and what one vendor finds too large another may take.
        if name not in _CAPS and (name not in asks or getattr(self.request, name) is None):
            return False
        failure.kind = FailureKind.FIELD_REFUSED
        if others_left or name not in fields_of(type(self.request), "preference", "hint"):
            return False
        self.leave_out(name)
        return True


def able_targets(targets: Sequence[Target], request: _Request) -> tuple[list[Target], Asked[_Request]]:
    """Who of them can honour the request, and the request without the preferences that none of them has.

    :raises UnsupportedParameterError: where nobody can
    """
    asked = Asked(request)
    while not (able := [target for target in targets if not target.provider.unsupported(asked.request, target.model)]):
        unsupported = [p.unsupported(asked.request, m) for p, m in targets]
        if isinstance(asked.request, ChatRequest) and _holds_old_files_alone(asked.request):
            asked.request = _without_files(asked.request)
            asked.left_out.append("files")
            continue
        preferences = fields_of(type(request), "preference")
        left_out = next((params for params in unsupported if preferences.issuperset(params)), None)
        if left_out is None:
            raise _unsupported(targets, unsupported[0], request)
        asked.leave_out(*left_out)
    return able, asked


def _holds_old_files_alone(request: ChatRequest) -> bool:
    """Whether there are documents, and none that the user has just sent."""
    *before, last = request.messages
    is_from_tool = bool(before) and isinstance(before[-1], ToolMessage)
    sent = last.content if isinstance(last, UserMessage) and not is_from_tool else ()
    return any(request.files()) and not any(isinstance(part, FilePart) for part in sent)


def _without_files(request: ChatRequest) -> ChatRequest:
    """The same with a note in each document's place."""
    messages: list[Message] = []
    for message in request.messages:
        if isinstance(message, UserMessage) and not isinstance(message.content, str):
            parts = [_noted(part) if isinstance(part, FilePart) else part for part in message.content]
            message = message.model_copy(update={"content": parts})
        messages.append(message)
    return request.model_copy(update={"messages": messages})


def _noted(part: FilePart) -> TextPart:
    name = f" {part.file.filename}" if part.file.filename else ""
    text = f"(The PDF{name} was here. This model can't read PDFs: its text can be shown instead.)"
    return TextPart(type="text", text=text, cache_control=part.cache_control)


def _has_thoughts(request: ChatRequest) -> bool:
    """Whether an earlier answer holds thoughts that would go back to Claude."""
    answers = (message for message in request.messages if isinstance(message, AssistantMessage))
    return any(block.is_signed for message in answers for block in message.thinking_blocks or ())


def _without_thoughts(request: ChatRequest) -> ChatRequest:
    none = {"thinking_blocks": None}
    messages = [m.model_copy(update=none) if isinstance(m, AssistantMessage) else m for m in request.messages]
    return request.model_copy(update={"messages": messages})


def _unsupported(
    targets: Sequence[Target], params: Sequence[str], request: ChatRequest | EmbeddingRequest
) -> UnsupportedParameterError:
    names = ", ".join(dict.fromkeys(p.id for p, _ in targets))
    if isinstance(request, EmbeddingRequest) and "input" in params and holds_token_ids(request.input):
        message = (
            f"These token ids would be other words to this model (tried: {names}): only OpenAI's own embedding models "
            f"have that vocabulary. {SEND_TEXT_INSTEAD}. Or set AI_EMBEDDING_ENCODING to that of the ids."
        )
    else:
        message = (
            f"No provider for this model can honour {', '.join(params)} as asked (tried: {names}). "
            "Leave it out, or ask for another model."
        )
    return UnsupportedParameterError(message, param=params[0])
