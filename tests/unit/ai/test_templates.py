"""The input bound against prompts that Jinja2 really renders, by the constructs of published chat templates.

What a server makes of JSON depends on its writer, not on the template alone, so every construct is rendered with every
writer that is known. The tokenizer is the worst that there can be, as in `test_bounds.py`.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.counting import TEMPLATE_TOKENS
from fusewire.ai.schema import AssistantMessage, ChatRequest, ToolMessage
from tests.unit.ai.test_bounds import requests, tokens

Writer = Callable[..., str]


def letters_kept(value: object, indent: int | None = None) -> str:
    """Hugging Face's, which vLLM and SGLang use (transformers#31100)."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def letters_escaped(value: object, indent: int | None = None) -> str:
    """llama.cpp's with minja (minja#7), and TabbyAPI's (tabbyAPI#459)."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def of_go(value: object, indent: int | None = None) -> str:
    """Ollama's, by Go's `json.Marshal`, which escapes what HTML or a script would take amiss (ollama#798)."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def of_rust(value: object, indent: int | None = None) -> str:
    """minijinja's (text-generation-inference, mistral.rs): letters are kept, what HTML would take amiss isn't."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    for letter in "<>&'":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


WRITERS: dict[str, Writer | None] = {
    "letters kept": letters_kept,
    "letters escaped": letters_escaped,
    "Go": of_go,
    "Rust": of_rust,
    "Jinja2's own": None,
}
"""None: the filter that Jinja2 brings, as in llama-cpp-python and mistral-common's templates (mistral-common#311)."""

TOOLS = {
    "one list, indented by four": "{{ tools | tojson(indent=4) }}",
    "one list on one line": "{{ tools | tojson }}",
    "one a line": "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}",
    "indented, one by one": "{% for tool in tools %}{{ tool.function | tojson(indent=4) }}\n\n{% endfor %}",
    "as Python writes them": "{{ tools }}",
}

CALLS = {
    "one list": "{{ message.tool_calls | tojson }}",
    "one list, indented by four": "{{ message.tool_calls | tojson(indent=4) }}",
    "an object with the list": '{{ {"tool_calls": message.tool_calls} | tojson(indent=2) }}',
    "name and arguments": (
        "{% for call in message.tool_calls %}<c>"
        '{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}</c>'
        "{% endfor %}"
    ),
    "arguments as they came": (
        "{% for call in message.tool_calls %}{{ call.function.name }}\n{{ call.function.arguments }}{{ call.id }}\n"
        "{% endfor %}"
    ),
    "punctuation that the filter escapes": (
        "{% for call in message.tool_calls %}"
        """{{ '{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}' }}"""
        "{% endfor %}"
    ),
}

RESULTS = {
    "a JSON text": "{{ text | tojson }}{{ message.tool_call_id }}",
    "as it came": "{{ text }}\n{{ message.tool_call_id }}",
    "in an object": (
        '{{ {"tool_response": {"tool": name, "content": text, "tool_call_id": message.tool_call_id}}'
        " | tojson(indent=2) }}"
    ),
    "in an object of objects": (
        '[\n    {\n        "tool_call_id": "{{ message.tool_call_id }}",\n        "results": {\n            "0": '
        '{{ text | tojson }}\n        },\n        "is_error": null\n    }\n]'
    ),
}


def _environment(writer: Writer | None) -> Environment:
    environment = Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - a prompt is no HTML
    if writer is not None:
        environment.filters["tojson"] = writer
    return environment


ENVIRONMENTS = {name: _environment(writer) for name, writer in WRITERS.items()}


def parsed(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls with their arguments as a server reads them: vLLM, Ollama and llama.cpp parse the text."""
    result = []
    for call in calls:
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            arguments = call["function"]["arguments"]
        result.append({**call, "function": {**call["function"], "arguments": arguments}})
    return result


def rendered(request: ChatRequest, writer: str, tools: str, calls: str, result: str) -> int:
    """The most tokens of the prompt that these constructs make, without a default system text."""
    render = {
        kind: ENVIRONMENTS[writer].from_string(text).render
        for kind, text in (("tools", TOOLS[tools]), ("calls", CALLS[calls]), ("result", RESULTS[result]))
    }
    total = 0
    names = [
        call.function.name
        for message in request.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or ()
    ]
    for message in request.messages:
        total += tokens(message.name or "")
        content = message.content
        texts = [content] if isinstance(content, str) else [getattr(part, "text", "") for part in content or ()]
        text = "\n".join(texts)
        if isinstance(message, ToolMessage):
            name = max(names, key=len, default="")
            total += tokens(render["result"](message=message, text=text, name=name))
            continue
        total += tokens(text)
        if isinstance(message, AssistantMessage):
            total += tokens((message.refusal or "") + (message.reasoning_content or ""))
            made = [call.model_dump(exclude={"index"}, exclude_none=True) for call in message.tool_calls or ()]
            if made:
                forms = [{"tool_calls": made}, {"tool_calls": parsed(made)}]
                total += max(tokens(render["calls"](message=form)) for form in forms)
    if request.tools:
        total += tokens(render["tools"](tools=[tool.model_dump(exclude_none=True) for tool in request.tools]))
    return total


@settings(max_examples=300, deadline=None)
@given(requests, *map(st.sampled_from, (list(WRITERS), list(TOOLS), list(CALLS), list(RESULTS))))
def test_no_prompt_that_a_template_renders_has_more_tokens_than_the_bound(
    request: ChatRequest, writer: str, tools: str, calls: str, result: str
) -> None:
    assert rendered(request, writer, tools, calls, result) <= chat_input_bound(request, 0)


# --- what people met, each by itself -------------------------------------------------------------------------------

CHINESE = "查询指定城市的天气，返回温度和湿度。" * 40
MARKUP = "if (a < b && c > d) { say('<b>it\\'s</b>') }" * 40
REPORTED = {
    "tools in Chinese, escaped (tabbyAPI#459)": ("tools", "letters escaped", CHINESE),
    "tools in Korean, by Jinja2's own filter (transformers#31100)": ("tools", "Jinja2's own", "안녕하세요 " * 200),
    "always ASCII (minja#7)": ("tools", "letters escaped", "naïve café — Größe 😀 " * 60),
    "code within arguments (ollama#798)": ("arguments", "Go", MARKUP),
    "arguments as a text within JSON (llama.cpp#19553)": ("arguments", "Jinja2's own", MARKUP),
    "a result as a text within JSON (llama.cpp#19553)": ("result", "Jinja2's own", '{"a": "' + MARKUP + '"}'),
    "a page within a result (brave-browser#39665)": ("result", "Rust", "<page>it's &amp; done</page>" * 80),
    "a field's name in Chinese (PaddleNLP#11134)": ("field", "letters escaped", "天气" * 32),
    "line ends that Go escapes": ("result", "Go", "\u2028\u2029" * 200),
    "letters outside the basic plane": ("arguments", "letters escaped", "😀" * 200),
}


def asking(where: str, text: str) -> ChatRequest:
    """One tool, its call and its result, with the text in one of them."""
    parts = {"tools": "x", "arguments": "x", "result": "x", "field": "x"} | {where: text}
    arguments = json.dumps({"q": parts["arguments"]}, ensure_ascii=False)
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    schema = {"type": "object", "properties": {parts["field"]: {"type": "string"}}}
    tool = {"name": "get_weather", "description": parts["tools"], "parameters": schema}
    return ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": parts["result"]},
            ],
            "tools": [{"type": "function", "function": tool}],
        }
    )


@pytest.mark.parametrize("case", REPORTED)
def test_what_people_met_is_within_the_bound(case: str) -> None:
    where, writer, text = REPORTED[case]
    request = asking(where, text)
    size = max(
        rendered(request, writer, tools, calls, result) for tools in TOOLS for calls in CALLS for result in RESULTS
    )
    assert size <= chat_input_bound(request, 0)


def test_twenty_five_thousand_tokens_of_escapes_are_within_the_bound() -> None:
    """Tools whose text is 16,000 bytes as it is and 25,000 escaped, each letter of an escape a token."""
    request = asking("tools", "ü" * 3_600 + "x" * 3_400)
    written = json.dumps([tool.model_dump(exclude_none=True) for tool in request.tools or ()])
    assert 25_000 < len(written) <= chat_input_bound(request, 0)


def test_text_that_no_template_writes_as_json_is_bound_as_before() -> None:
    plain = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": CHINESE + MARKUP}]})
    assert chat_input_bound(plain, 0) <= len((CHINESE + MARKUP).encode()) + 100


DEFAULT_SYSTEM_TEXTS = {
    "SmolLM2, Llama 3": 30,
    "Harmony": 70,
    "Mistral Small 3 under llama.cpp": 200,
    "Mistral Small 3.2 (kekzl/imp#78)": 600,
}


@pytest.mark.parametrize("template", DEFAULT_SYSTEM_TEXTS)
def test_the_default_allowance_is_larger_than_a_default_system_text(template: str) -> None:
    assert DEFAULT_SYSTEM_TEXTS[template] < TEMPLATE_TOKENS
