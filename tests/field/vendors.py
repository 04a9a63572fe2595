"""What vendors refuse, as the public reports tell it: each complaint is the rule behind some of them.

A vendor here judges what it is sent before it answers, so that a case says nothing of how the gateway made it fit.
"""

import re
from collections.abc import Callable
from typing import Any

from tests.support import bedrock_vendor, upstream

Body = dict[str, Any]
Complaint = Callable[[Body], tuple[str, str] | None]
"""From a request to the field that is refused and the vendor's words; None where nothing is wrong."""

_OPENAI_FIELDS = {
    "model", "messages", "stream", "stream_options", "max_completion_tokens", "temperature", "top_p", "n", "stop",
    "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user",
    "safety_identifier", "prompt_cache_key", "metadata", "store", "service_tier", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity",
}  # fmt: skip
_LOCAL_FIELDS = {
    "model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p", "n", "stop", "seed",
    "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "reasoning_effort",
}  # fmt: skip
_REASONING = re.compile(r"o[134](-|$)|gpt-5(-(?!chat)|$)")


def openai(body: Body) -> tuple[str, str] | None:
    """OpenAI's Chat Completions."""
    if unknown := body.keys() - _OPENAI_FIELDS:
        return min(unknown), f"Unknown parameter: '{min(unknown)}'."
    if "tools" not in body:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in body:
                return name, f"Invalid value for '{name}': it is only allowed when 'tools' are specified."
    if body.get("tools") == []:
        return "tools", "Invalid 'tools': empty array. Expected an array with minimum length 1."
    return _refused_by_model(body) or _conversation(body, most=40)


def _refused_by_model(body: Body) -> tuple[str, str] | None:
    newest = re.match(r"gpt-(5\.[4-9]|6)", body["model"])
    default = "medium" if newest and newest[1] >= "5.5" else "none"
    if newest and body.get("tools") and (body.get("reasoning_effort", default) != "none" or "astra" in body["model"]):
        words = f"Function tools with reasoning_effort are not supported for {body['model']} in /v1/chat/completions."
        return "reasoning_effort", words
    if _REASONING.match(body["model"]):
        for name in ("temperature", "top_p"):
            if body.get(name, 1) != 1:
                return name, f"Unsupported value: '{name}' does not support {body[name]} with this model."
        for name in ("stop", "presence_penalty", "logit_bias"):
            if name in body:
                return name, f"Unsupported parameter: '{name}' is not supported with this model."
    if body["model"].startswith("o") and "parallel_tool_calls" in body:
        return "parallel_tool_calls", "Unsupported parameter: 'parallel_tool_calls' is not supported with this model."
    return None


def _conversation(body: Body, *, most: int) -> tuple[str, str] | None:
    for number, message in enumerate(body["messages"]):
        if message.get("tool_calls") == []:
            return f"messages[{number}].tool_calls", "Invalid 'tool_calls': empty array."
        for call in message.get("tool_calls") or ():
            if call.get("type") != "function":
                return f"messages[{number}].tool_calls[0].type", "Missing required parameter: 'type'."
            if len(call["id"]) > most:
                return f"messages[{number}].tool_calls[0].id", f"string too long. Expected a maximum length {most}"
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if unknown := part.keys() - {"type", "text", "image_url", "refusal"}:
                return f"messages[{number}].content[0].{min(unknown)}", f"Unknown parameter: '{min(unknown)}'."
    return None


def template(body: Body) -> tuple[str, str] | None:
    """vLLM and Ollama with a chat template such as Qwen's."""
    if unknown := body.keys() - _LOCAL_FIELDS:
        return min(unknown), f"property '{min(unknown)}' is unsupported"
    if body.get("tools") == []:
        return "tools", "[] is too short - 'tools'"
    roles = [message["role"] for message in body["messages"]]
    if "developer" in roles:
        return "messages", "Unexpected message role."
    if "system" in roles[1:]:
        return "messages", "System message must be at the beginning."
    for message in body["messages"]:
        if not isinstance(message.get("content"), str):
            return "messages", "invalid message content type: <nil>"
        for call in message.get("tool_calls") or ():
            if not re.fullmatch(r"{.*}", call["function"]["arguments"], re.DOTALL):
                return "messages", "unexpected end of JSON input"
    return _conversation(body, most=40)


def mistral(body: Body) -> tuple[str, str] | None:
    """vLLM with one of Mistral's models."""
    calls = [call["id"] for message in body["messages"] for call in message.get("tool_calls") or ()]
    results = [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]
    for call_id in (*calls, *results):
        if not re.fullmatch(r"[a-zA-Z0-9]{9}", call_id):
            return "messages", f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."
    return template(body)


def vertex(body: Body) -> tuple[str, str] | None:
    """Vertex AI's OpenAI-compatible endpoint."""
    if unknown := body.keys() - (_LOCAL_FIELDS - {"parallel_tool_calls", "user", "logit_bias"}):
        return min(unknown), f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find field.'
    calls = [call for message in body["messages"] for call in message.get("tool_calls") or ()]
    if any(not call["function"]["arguments"].startswith("{") for call in calls):
        return "messages", "Expected a valid JSON object in the request"
    return None


def converse(body: Body) -> tuple[str, str] | None:
    """Bedrock's Converse, with a Claude behind it."""
    for number, tool in enumerate(body.get("toolConfig", {}).get("tools", ())):
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {"type": "object"})
        if schema.get("type") != "object":
            place = f"toolConfig.tools.{number}.toolSpec.inputSchema.json.type"
            return place, f"The value at {place} must be one of the following: object."
        if {"anyOf", "oneOf", "allOf"} & schema.keys():
            return "tools", "input_schema does not support oneOf, allOf, or anyOf at the top level"
    if {"temperature", "topP"} <= body["inferenceConfig"].keys():
        return "top_p", "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    return _converse_messages(body)


def _converse_messages(body: Body) -> tuple[str, str] | None:
    for number, message in enumerate(body["messages"]):
        if not message["content"]:
            return "messages", f"The content field in the Message object at messages.{number} is empty."
        for block in message["content"]:
            if not block.get("text", "x").strip():
                return "messages", "The text field in the ContentBlock object is blank."
            if len(block.get("toolUse", {}).get("toolUseId", "")) > 64:
                return "messages", "Member must have length less than or equal to 64"
            if not isinstance(block.get("toolUse", {}).get("input", {}), dict):
                return "messages", "The format of the value at toolUse.input is invalid."
    return None


def judging(complaint: Complaint) -> upstream.Reply:
    """A vendor of OpenAI's protocol that answers what it has nothing to say against."""

    def reply(handler: upstream.Handler, body: Body) -> None:
        is_chat = "/chat/" in handler.path
        if is_chat and (wrong := complaint(body)):
            error = {"message": wrong[1], "type": "invalid_request_error", "param": wrong[0], "code": None}
            handler.reply(400, {"error": error})
        else:
            upstream.properly(handler, body)

    return reply


def judging_converse(handler: bedrock_vendor.Handler, body: Body) -> None:
    """The same for Bedrock."""
    if wrong := converse(body):
        bedrock_vendor.error(400, "ValidationException", wrong[1])(handler, body)
    elif handler.action[1] == "converse":
        bedrock_vendor.answer(handler, body)
    else:
        bedrock_vendor.stream(handler, body)
