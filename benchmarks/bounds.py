"""How much more is reserved for an input than it takes: bound / actual, by vendor.

    python -m benchmarks.bounds          prints the table and writes it into docs/bounds.md
    python -m benchmarks.bounds --local  with the embedded model beside the vendors

The actual count is the vendor's own: OpenAI's published tokenizer (tiktoken) with the markers that OpenAI's cookbook
documents, the documented formula for an image, llama.cpp's template and tokenizer for the embedded model. No tokenizer
of Claude or Gemini is published: for their texts there is no actual count here.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.counting import Counting
from fusewire.ai.exact_tokens import _PUBLISHED, token_ranks
from fusewire.ai.image_tokens import gemini_image_tokens
from fusewire.ai.providers.anthropic.models import claude_counting
from fusewire.ai.providers.openai_counting import openai_counting
from fusewire.ai.schema import ChatRequest
from tests.support.pictures import data_url, png

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/bounds.md"
_BEGIN, _END = "<!-- table:begin -->", "<!-- table:end -->"

_ENGLISH: Final = "What is the capital of France, and how many people live there?"
_JAPANESE: Final = (ROOT / "docs/operations.ja.md").read_text("utf-8")[2000:6000]
_CODE: Final = (ROOT / "layers/core/python/fusewire/ai/router.py").read_text("utf-8")
_DOCUMENT: Final = ((ROOT / "docs/operations.md").read_text("utf-8") * 20)[:400_000]
_PICTURE: Final = (1920, 1080)


def _tool(number: int) -> dict[str, Any]:
    properties = {
        "city": {"type": "string", "description": "The city, with its country where that isn't plain"},
        "days": {"type": "integer", "description": "How many days ahead"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    }
    parameters = {"type": "object", "properties": properties, "required": ["city"], "additionalProperties": False}
    described = {"name": f"get_weather_{number}", "description": "The weather of a city, for some days."}
    return {"type": "function", "function": {**described, "parameters": parameters}}


def _turns() -> list[dict[str, str]]:
    said = "And what would you do if it rained all day, as it often does at that time of the year?"
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": f"{said} {_ENGLISH}"} for n in range(11)] + [
        {"role": "user", "content": _ENGLISH}
    ]


def _request(content: object, **more: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": content}], **more})


CASES: Final[dict[str, ChatRequest]] = {
    "English, one sentence": _request(_ENGLISH),
    "Japanese, 4,000 letters": _request(_JAPANESE),
    "12 turns": ChatRequest.model_validate({"model": "m", "messages": _turns()}),
    "code, 16 kB": _request(_CODE),
    "20 tools": _request(_ENGLISH, tools=[_tool(n) for n in range(20)]),
    "a picture, 1920 x 1080": _request([{"type": "image_url", "image_url": {"url": data_url(png(*_PICTURE))}}]),
    "a document of 100k tokens": _request(_DOCUMENT),
}
"""Each is a prompt by itself."""


def _openai_actual(count: Callable[[str], int], image: int) -> dict[str, int]:
    """By the cookbook: 3 tokens a message and its role, 3 for the answer; tools as declarations."""
    found = {}
    for name, request in CASES.items():
        texts = [m.content for m in request.messages if isinstance(m.content, str)]
        total = 3 + 4 * len(request.messages) + sum(map(count, texts))
        if request.tools:
            total += count("# Tools\n\n## functions\n\nnamespace functions {\n\n} // namespace functions")
            total += sum(count(_declaration(tool.function.model_dump())) for tool in request.tools)
        found[name] = total + image * sum(1 for _ in request.images())
    return found


def _declaration(function: dict[str, Any]) -> str:
    lines = [f"// {function['description']}", f"type {function['name']} = (_: {{"]
    required = function["parameters"]["required"]
    for name, schema in function["parameters"]["properties"].items():
        if "description" in schema:
            lines.append(f"// {schema['description']}")
        kind = " | ".join(f'"{word}"' for word in schema["enum"]) if "enum" in schema else schema["type"]
        lines.append(f"{name}{'' if name in required else '?'}: {kind},")
    return "\n".join([*lines, "}) => any;", ""])


def _counter(encoding: str) -> Callable[[str], int]:
    core = import_module("tiktoken._tiktoken").CoreBPE
    made = core(token_ranks(encoding), {}, _PUBLISHED[encoding].pattern)  # type: ignore[arg-type,index] # one of the two
    return lambda text: len(made.encode_ordinary(text))


def _cell(bound: int, actual: int | None) -> str:
    return f"{bound:,}" if actual is None else f"{bound:,} / {actual:,} = **{bound / actual:.1f}**"


def table(local: dict[str, int] | None) -> str:
    """Markdown."""
    count = _counter("o200k_base")
    columns: list[tuple[str, Counting, dict[str, int]]] = [
        ("OpenAI, gpt-4o", openai_counting("gpt-4o"), _openai_actual(count, 1105)),
        ("OpenAI, gpt-5.4", openai_counting("gpt-5.4"), _openai_actual(count, 2448)),
        ("Claude Opus 5.5", claude_counting("claude-opus-5-5"), {"a picture, 1920 x 1080": 2691}),
        ("Gemini 3.8 Flash", _gemini(), {"a picture, 1920 x 1080": 1120}),
    ]
    rows = ["| bound / actual, tokens | " + " | ".join(name for name, *_ in columns) + " | any other server |"]
    rows.append("| --- |" + " ---: |" * (len(columns) + 1))
    for name, request in CASES.items():
        cells = [_cell(chat_input_bound(request, counting=way), actual.get(name)) for _, way, actual in columns]
        cells.append(_cell(chat_input_bound(request), (local or {}).get(name)))
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _gemini() -> Counting:
    return Counting(images=gemini_image_tokens("gemini-3.8-flash"), own_template=False)


def _embedded_model() -> dict[str, int]:
    """The tokens that llama.cpp makes of each prompt for the embedded model, by its template and tokenizer."""
    import httpx
    import xllamacpp

    from local.model import _parameters

    parameters = _parameters()
    parameters.n_parallel, parameters.n_ctx = 1, 8192
    server = xllamacpp.Server(parameters)
    found = {}
    for name, request in CASES.items():
        if any(request.images()):
            continue  # it reads none
        body = json.loads(request.model_dump_json(exclude_none=True))
        prompt = httpx.post(f"{server.listening_address}/apply-template", json=body, timeout=60).json()["prompt"]
        asked = {"content": prompt, "add_special": True, "parse_special": True}
        answer = httpx.post(f"{server.listening_address}/tokenize", json=asked, timeout=60).json()
        found[name] = len(answer["tokens"])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(description="bound / actual by vendor, into docs/bounds.md")
    parser.add_argument("--local", action="store_true", help="with the embedded model")
    made = table(_embedded_model() if parser.parse_args(arguments).local else None)
    text = PAGE.read_text("utf-8")
    start, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    PAGE.write_text(f"{text[:start]}\n{made}\n{text[end:]}", "utf-8")
    sys.stdout.write(made + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
