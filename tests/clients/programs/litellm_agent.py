"""LiteLLM's client with a loop of tools, streamed, a second turn, an object, and vectors."""

import json
import os
import sys
from collections.abc import Callable

import litellm
from litellm.exceptions import APIError, PaymentRequiredError

from tests.clients.programs.tools import read_file, report, write_file

name, task, api = sys.argv[1:]
RUNS: dict[str, Callable[..., str]] = {"read_file": read_file, "write_file": write_file}
PROPERTIES = {
    "read_file": {"path": {"type": "string"}},
    "write_file": {"path": {"type": "string"}, "text": {"type": "string"}},
}
TOOLS = [
    {"type": "function", "function": {"name": tool, "parameters": {"type": "object", "properties": properties}}}
    for tool, properties in PROPERTIES.items()
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
AT = {
    "chat": {"model": f"openai/{name}", "api_base": os.environ["OPENAI_BASE_URL"]},
    "messages": {"model": f"anthropic/{name}", "api_base": os.environ["ANTHROPIC_BASE_URL"]},
}[api]


def main() -> dict[str, object]:
    messages: list[object] = [{"role": "user", "content": task}]
    pieces, tokens = 0, [0, 0]
    while True:
        chunks = list(
            litellm.completion(
                **AT, messages=messages, tools=TOOLS, stream=True, stream_options={"include_usage": True}
            )
        )
        pieces += sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks)
        whole = litellm.stream_chunk_builder(chunks, messages=messages)
        tokens = [tokens[0] + whole.usage.prompt_tokens, tokens[1] + whole.usage.completion_tokens]
        message = whole.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            output = RUNS[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": output})
    messages.append({"role": "user", "content": "And now?"})
    second = litellm.completion(**AT, messages=messages, tools=TOOLS)
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
    city = litellm.completion(
        **AT, messages=[{"role": "user", "content": "The capital, as an object"}], response_format=form
    )
    return {
        "text": message.content,
        "pieces": pieces,
        "second": second.choices[0].message.content,
        "object": json.loads(city.choices[0].message.content),
        "tokens": tokens,
    }


report(main, APIError, PaymentRequiredError)
