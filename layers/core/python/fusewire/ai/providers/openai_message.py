"""What a whole answer and the parts of a streamed one have in common in OpenAI's protocol.

Servers that speak it leave things out, and put other types in their place. What is there is taken; what a caller can do
without is filled in; a value of the wrong type is as if it weren't there.

Sources: OpenAI's API reference, "Chat completions"; the servers' differences from public reports, each a case of
tests/integration/ai/envelopes.py.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fusewire.ai.providers.json_values import fields, flat_text, new_id, objects, text, token_count
from fusewire.ai.schema import FinishReason
from fusewire.json import is_finite

CUT_SHORT: Final[FinishReason] = "length"
_FINISHED: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "function_call",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
}
"""In small letters, and without what follows a colon. Any other is `CUT_SHORT`: what isn't known to be whole (`abort`,
`error`, `function_call_filter: MALFORMED_FUNCTION_CALL`) is told to be cut."""

_THOUGHTS: Final = ("reasoning_content", "reasoning", "reasoning_details")
"""By preference: DeepSeek's name, the one of newer vLLM, Ollama and OpenRouter, and OpenRouter's parts of it."""
_THINKING: Final = ("thinking", "reasoning")
"""The types of the parts of a content that are thoughts."""


def finish_reason(reason: object, *, calls: bool) -> FinishReason:
    """OpenAI's word for a vendor's; of an answer that came to its end, by whether it calls tools.

    Some servers say `stop` of calls, and agents that read nothing else stop (anomalyco/opencode#14972); others say
    `tool_calls` where there are none, and agents ask for ever (mastra-ai/mastra#14187).

    :param calls: whether the answer has tool calls
    """
    word = (text(reason) or "").lower().partition(":")[0].strip()
    found = _FINISHED.get(word, CUT_SHORT) if word else "stop"
    if found in ("stop", "tool_calls"):
        return "tool_calls" if calls else "stop"
    return found


_CONTENT: Final = {"content", "refusal", "reasoning_content", "tool_calls"}


def holds_content(said: Mapping[str, Any]) -> bool:
    """Whether a message or delta, as it is made here, says anything."""
    return any(said.get(name) for name in _CONTENT)


def words_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """Content, refusal and thoughts, as far as they are there."""
    content, thought = message.get("content"), ""
    if isinstance(content, list | dict):
        parts = content if isinstance(content, list) else [content]
        thought = flat_text([part for part in objects(parts) if part.get("type") in _THINKING])
        content = flat_text([part for part in parts if fields(part).get("type") not in _THINKING])
    thought = next((said for name in _THOUGHTS if (said := flat_text(message.get(name)))), thought)
    found: dict[str, Any] = {}
    if "content" in message:
        found["content"] = text(content)
    if "refusal" in message:
        found["refusal"] = text(message["refusal"])
    if thought:
        found["reasoning_content"] = thought
    return found


def logprobs_of(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice's `logprobs`; nothing where the server has no such field."""
    if "logprobs" not in choice:
        return {}
    found = choice["logprobs"]
    return {"logprobs": found if isinstance(found, dict) and is_finite(found) else None}


def extra_content_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Google's signature, which has to come back with the call."""
    extra = call.get("extra_content")
    return {"extra_content": extra} if isinstance(extra, dict) and is_finite(extra) else {}


def index_of(value: object, place: int) -> int:
    """An index as the server tells it, or else the place in its list."""
    index = token_count(value)
    return place if index is None else index


@dataclass(slots=True)
class Frame:
    """What every part of one answer repeats, filled in where the server says nothing."""

    model: str
    id: str = ""
    created: int = 0

    def of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of this part, completed by those of earlier ones."""
        self.id = text(answer.get("id")) or self.id or new_id("chatcmpl-")
        self.created = token_count(answer.get("created")) or self.created or int(time.time())
        self.model = text(answer.get("model")) or self.model
        frame: dict[str, Any] = {"id": self.id, "created": self.created, "model": self.model}
        if "system_fingerprint" in answer:
            frame["system_fingerprint"] = text(answer["system_fingerprint"])
        if "service_tier" in answer:
            frame["service_tier"] = text(answer["service_tier"])
        return frame
