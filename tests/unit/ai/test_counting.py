"""What each provider knows of how its models count, and the bounds that follow: tighter, and bounds all the same."""

import json
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusewire.ai import exact_tokens
from fusewire.ai.bounds import WORTH_COUNTING, InputBound, chat_input_bound
from fusewire.ai.counting import ANY_SERVER, MAX_IMAGE_TOKENS, Counting
from fusewire.ai.provider import AIProvider
from fusewire.ai.providers.openai_counting import openai_counting
from fusewire.ai.registry import Registry
from fusewire.ai.request_bound import RequestBound
from fusewire.ai.schema import ChatRequest
from fusewire.budget.pricing import PriceBook
from fusewire.config import load_settings
from tests.support.pictures import data_url, png
from tests.unit.ai.test_bounds import requests

CLAUDE = "claude-opus-5-5"
SETTINGS = {
    "OPENAI_API_KEY": "k",
    "ANTHROPIC_API_KEY": "k",
    "AZURE_AI_ENDPOINT": "https://ours.openai.azure.com",
    "AZURE_AI_API_KEY": "k",
    "AZURE_SOTA_DEPLOYMENT": "ours",
    "AI_PRICE_ALIASES": '{"azure/ours": "gpt-4o"}',
    "AWS_REGION": "us-east-1",
    "AWS_BEDROCK_SOTA_MODEL": f"us.anthropic.{CLAUDE}",
    "GCP_PROJECT_ID": "p",
    "GCP_LOCATION": "global",
    "GCP_SOTA_MODEL": "gemini-3.8-flash",
    "VLLM_BASE_URL": "http://127.0.0.1:1",
    "VLLM_MODEL": "gpt-4o",
}


def provider(name: str, **more: str) -> AIProvider:
    return Registry(load_settings({**SETTINGS, **more})).get(name)


def prices() -> PriceBook:
    return PriceBook(overrides={}, aliases={"azure/ours": "gpt-4o"}, local_providers=("vllm", "ollama"))


def chat(content: object, **more: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": content}], **more})


def picture(url: str) -> ChatRequest:
    return chat([{"type": "image_url", "image_url": {"url": url}}])


MEGABYTE = data_url(png(1920, 1080, size=1_000_000))


@pytest.mark.parametrize(
    ("name", "model", "most"),
    [
        ("openai", "gpt-5.4", 2448),
        ("openai", "gpt-4o", 1105),
        ("azure", "ours", 1105),
        ("anthropic", CLAUDE, 2765),
        ("anthropic", "claude-haiku-4-5", 1600),
        ("aws", f"us.anthropic.{CLAUDE}", 2765),
        ("aws", "us.amazon.nova-pro-v1:0", MAX_IMAGE_TOKENS),
        ("gcp", "gemini-3.8-flash", 1120),
        ("gcp", "meta/llama-4-maverick-17b-128e-instruct-maas", MAX_IMAGE_TOKENS),
        ("vllm", "gpt-4o", MAX_IMAGE_TOKENS),
        ("openai", "somebodys-model", MAX_IMAGE_TOKENS),
    ],
)
def test_a_picture_is_bounded_by_its_models_formula(name: str, model: str, most: int) -> None:
    bound = InputBound(picture(MEGABYTE)).of(provider(name).counting(model))
    empty = InputBound(chat([{"type": "text", "text": ""}])).of(provider(name).counting(model))
    assert bound - empty == most


def test_another_server_than_openais_counts_as_it_likes() -> None:
    elsewhere = provider("openai", OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    assert elsewhere.counting("llama-3") is ANY_SERVER
    known = elsewhere.counting("gpt-4o")
    assert known.encoding == "o200k_base"
    assert not known.refuses_over_window
    assert provider("anthropic", ANTHROPIC_BASE_URL="http://127.0.0.1:1").counting("glm-5") == ANY_SERVER


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4.1-mini-2025-04-14", "o200k_base"),
        ("o3", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("gpt-5.4-mini", "o200k_base"),
        ("ft:gpt-4o-mini:acme::1", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        # tiktoken doesn't say.
        ("gpt-6.1-sol", None),
        ("gpt-oss-120b", None),
        ("claude-opus-5-5", None),
    ],
)
def test_the_vocabulary_is_what_tiktoken_says(model: str, encoding: str | None) -> None:
    assert openai_counting(model).encoding == encoding
    if encoding is not None:
        said = pytest.importorskip("tiktoken.model")
        assert said.encoding_name_for_model(model.replace("gpt-35", "gpt-3.5")) == encoding


# --- texts ---


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are counted in a vocabulary, by a tokenizer that makes a token of four bytes."""
    texts: list[str] = []

    def count(text: str, encoding: str) -> int:
        texts.append(text)
        return -(-len(text.encode()) // 4)

    monkeypatch.setattr(exact_tokens, "text_tokens", count)
    return texts


def test_a_short_prompt_isnt_worth_a_vocabulary(counted: list[str]) -> None:
    counting = openai_counting("gpt-4o")
    short, long = chat("x" * (WORTH_COUNTING - 1)), chat("x" * WORTH_COUNTING)
    assert chat_input_bound(short, 0, counting) >= WORTH_COUNTING - 1
    assert counted == []
    assert chat_input_bound(long, 0, counting) < WORTH_COUNTING / 3
    assert len(counted) == 1


def test_each_way_of_counting_is_computed_once(counted: list[str]) -> None:
    bound = InputBound(chat("x" * 10_000))
    assert bound.of(openai_counting("gpt-4o")) == bound.of(openai_counting("chatgpt-4o-latest")) < 10_000
    assert len(counted) == 1
    assert bound.of(ANY_SERVER) >= 10_000


def test_every_text_of_a_conversation_is_counted(counted: list[str]) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    request = ChatRequest.model_validate({
        "model": "m",
        "messages": [
            {"role": "system", "content": "S" * 5000},
            {"role": "user", "content": [{"type": "text", "text": "U" * 5000}]},
            {"role": "assistant", "content": "A" * 5000, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "T" * 5000},
        ],
    })  # fmt: skip
    bound = chat_input_bound(request, 0, openai_counting("gpt-5"))
    assert {text[0] for text in counted if text} == set("SUAT")
    assert 5000 < bound < 6500


HOSTED = [
    openai_counting("gpt-5"),
    provider("anthropic").counting(CLAUDE),
    provider("gcp").counting("gemini-3.8-flash"),
]


def flat(value: object) -> int:
    """Bytes of JSON on one line: compact or spaced, its letters as they are or escaped."""
    return max(
        len(json.dumps(value, ensure_ascii=escaped, separators=separators).encode("utf-8", "surrogatepass"))
        for escaped, separators in product((True, False), ((",", ":"), (", ", ": ")))
    )


@settings(max_examples=100, deadline=None)
@given(requests, st.sampled_from(HOSTED))
def test_a_hosted_prompt_has_no_more_bytes_than_its_bound(request: ChatRequest, counting: Counting) -> None:
    """Where each byte is a token, before any vocabulary."""
    total = sum(flat(tool.model_dump(exclude_none=True)) for tool in request.tools or ())
    if request.response_format is not None:
        total += flat(request.response_format.model_dump(exclude_none=True))
    for message in request.messages:
        content = message.content
        texts = [content] if isinstance(content, str) else [getattr(part, "text", "") for part in content or ()]
        total += 4 + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        total += sum(flat(call.model_dump(exclude_none=True)) for call in getattr(message, "tool_calls", None) or ())
    assert total <= chat_input_bound(request, 0, counting)


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.\nIn a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Which\none"}, "unit": {"enum": ["C", "F", "K"]}},
            "required": ["city"],
        },
    },
}
AS_TYPESCRIPT = """# Tools

## functions

namespace functions {

// The weather.
// In a city.
type weather = (_: {
// Which
// one
city: string,
unit?: "C" | "F" | "K",
}) => any;

} // namespace functions"""


def test_tools_are_bounded_as_declarations_too() -> None:
    counting = openai_counting("gpt-4o")
    with_tool, without = (chat_input_bound(chat("", **more), 0, counting) for more in ({"tools": [TOOL]}, {}))
    assert len(AS_TYPESCRIPT) - len(TYPESCRIPT_FRAME) <= with_tool - without - counting.hidden_tool_tokens


TYPESCRIPT_FRAME = "# Tools\n\n## functions\n\nnamespace functions {\n\n\n\n} // namespace functions"


def test_hidden_texts_are_the_vendors() -> None:
    hidden = {model: provider("anthropic").counting(model).hidden_tool_tokens for model in (CLAUDE, "claude-haiku-4-5")}
    assert hidden == {CLAUDE: 804, "claude-haiku-4-5": 530}
    assert openai_counting("gpt-5").hidden_tool_tokens == 256
    assert provider("vllm").counting("any").hidden_tool_tokens == 1024


# --- windows ---


@pytest.mark.parametrize(
    ("name", "model", "window"),
    [
        ("openai", "gpt-4o", 134_218),
        ("anthropic", CLAUDE, 1_048_576),
        ("aws", f"us.anthropic.{CLAUDE}", 1_048_576),
        ("gcp", "gemini-3.8-flash", 1_048_576),
        # It may bill an input that is too long.
        ("azure", "ours", None),
        # Nobody knows how a server of one's own is set up.
        ("vllm", "gpt-4o", None),
    ],
)
def test_no_bound_passes_the_window_of_who_refuses_more(name: str, model: str, window: int | None) -> None:
    request = chat("\u00e9" * 2_500_000)
    bound = RequestBound(request, prices())(provider(name), model)
    assert bound == window if window is not None else bound > 2_000_000


# --- cache writes ---

MARKED = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]
FOR_AN_HOUR = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]


@pytest.mark.parametrize(
    ("name", "model", "writes"),
    [
        ("anthropic", CLAUDE, ("none", "5m", "1h")),
        ("aws", f"us.anthropic.{CLAUDE}", ("none", "5m", "1h")),
        ("aws", "us.amazon.nova-pro-v1:0", ("none", "5m", "1h")),
        # OpenAI bills writes from GPT-5.6 on, whoever asks: "Prompt caching".
        ("openai", "gpt-5.6-sol", ("1h", "1h", "1h")),
        ("aws", "us.openai.gpt-5.6-sol", ("1h", "1h", "1h")),
    ],
)
def test_a_write_is_bounded_where_it_may_be_billed(name: str, model: str, writes: tuple[str, ...]) -> None:
    asked = (chat("x"), chat(MARKED), chat(FOR_AN_HOUR))
    assert tuple(provider(name).cache_writes(each, model) for each in asked) == writes


def test_a_mark_on_a_tool_or_a_result_asks_for_a_write() -> None:
    marked = chat("x", tools=[{**TOOL, "cache_control": {"type": "ephemeral"}}])
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    result = ChatRequest.model_validate({
        "model": "m",
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": FOR_AN_HOUR},
        ],
    })  # fmt: skip
    assert provider("anthropic").cache_writes(marked, CLAUDE) == "5m"
    assert provider("anthropic").cache_writes(result, CLAUDE) == "1h"


def test_a_server_that_isnt_anthropics_may_write_unasked() -> None:
    other = provider("anthropic", ANTHROPIC_BASE_URL="http://127.0.0.1:1")
    assert other.cache_writes(chat("x"), "glm-5") == "1h"
    assert other.cache_writes(chat("x"), CLAUDE) == "none"


def test_claudes_input_is_reserved_at_its_own_price() -> None:
    price = prices().price("anthropic", CLAUDE)
    plain = price.kinds()["input"].base
    million = {writes: price.bound(1_000_000, 0, cache_writes=writes) for writes in ("none", "5m", "1h")}
    assert million == {"none": plain, "5m": plain * Decimal("1.25"), "1h": plain * 2}
