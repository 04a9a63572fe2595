"""Whole responses of OpenAI's protocol as the schema has them, from whatever server sends them.

Only what has no answer in it at all, neither a choice nor usage, can't be read.

Sources: OpenAI's API reference, "Chat completions" and "Embeddings"; the servers' differences from public reports,
each a case of tests/integration/ai/envelopes.py.
"""

from collections.abc import Mapping
from typing import Any

from fusewire.ai.providers.json_values import arguments_of, fields, joined, new_id, objects, parsed, text
from fusewire.ai.providers.openai_message import (
    CUT_SHORT,
    Frame,
    extra_content_of,
    finish_reason,
    holds_content,
    index_of,
    logprobs_of,
    words_of,
)
from fusewire.ai.providers.openai_usage import embedding_usage, usage_of
from fusewire.ai.schema import ChatResponse, EmbeddingResponse


def whole_response(raw: bytes, model: str) -> ChatResponse:
    """
    :param model: that was asked, for a server that doesn't repeat it
    :raises ValueError: for what has no answer in it
    """
    answer = parsed(raw)
    choices = [made for place, each in enumerate(objects(answer.get("choices"))) if (made := _choice(place, each))]
    has_content = any(holds_content(choice["message"]) for choice in choices)
    usage = usage_of(answer.get("usage"), has_content=has_content)
    if not choices:
        if usage is None or answer.get("error"):
            raise ValueError("neither choices nor usage")
        choices = [{"index": 0, "message": {"content": None}, "finish_reason": CUT_SHORT}]
    response = ChatResponse.model_validate({**Frame(model).of(answer), "choices": choices})
    if usage is not None:
        usage.service_tier = response.service_tier
        response.usage = usage
    return response


def _choice(place: int, choice: Mapping[str, Any]) -> dict[str, Any] | None:
    """None for what says nothing."""
    message = fields(choice.get("message")) or fields(choice.get("delta"))
    if not message and not text(choice.get("finish_reason")):
        return None
    said = {"content": None, **{name: value and joined(value) for name, value in words_of(message).items()}}
    calls = [made for call in objects(message.get("tool_calls")) if (made := _call(call))]
    if calls:
        said["tool_calls"] = calls
    return {
        "index": index_of(choice.get("index"), place),
        "message": said,
        "finish_reason": finish_reason(choice.get("finish_reason"), calls=bool(calls)),
        **logprobs_of(choice),
    }


def _call(call: Mapping[str, Any]) -> dict[str, Any] | None:
    """None for a call of nothing."""
    function = fields(call.get("function"))
    name = text(function.get("name"))
    if not name:
        return None
    return {
        "id": text(call.get("id")) or new_id("call_"),
        "type": "function",
        "function": {"name": name, "arguments": joined(arguments_of(function.get("arguments")))},
        **extra_content_of(call),
    }


def embeddings_of(raw: bytes, model: str) -> EmbeddingResponse:
    """
    :param model: that was asked, for a server that doesn't repeat it
    :raises ValueError: for what has no vectors in it
    """
    answer = parsed(raw)
    data = [
        {"index": index_of(item.get("index"), place), "embedding": item.get("embedding")}
        for place, item in enumerate(objects(answer.get("data")))
    ]
    made = {"data": data, "model": text(answer.get("model")) or model}
    usage = embedding_usage(fields(answer.get("usage")))
    return EmbeddingResponse.model_validate(made if usage is None else made | {"usage": usage})
