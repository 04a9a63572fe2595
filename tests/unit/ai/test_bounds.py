"""No server can count more tokens than the bound: shown for the widest text that it may make of a request.

The tokenizer here is the worst that there can be, one token a byte, behind the worst that servers do to text on its way
to one: normalisation, JSON written anew, separators, markers. A real one stays far below.
"""

import base64
import json
import unicodedata
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusewire.ai import bounds, text_bounds
from fusewire.ai.bounds import MAX_PAGES, TOKENS_PER_PAGE, chat_input_bound, embedding_input_bound
from fusewire.ai.counting import MAX_IMAGE_TOKENS, TOKENS_PER_REQUEST
from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    EmbeddingRequest,
    ImagePart,
    NamedToolChoice,
    RefusalPart,
    TextPart,
    ToolMessage,
)
from fusewire.budget.price import TokenCounts
from fusewire.budget.pricing import PriceBook
from fusewire.price_overrides import PriceOverride
from tests.support.claude_code import pdf

ROLE_MARKERS = 6
"""The most that a template known to us puts around a message: Llama 3, Harmony."""
SYSTEM_TEXT = 70
HIDDEN_TOOL_TEXT = 804


def tokens(text: str) -> int:
    """One a byte, after whichever normalisation makes the most of it."""
    normal = unicodedata.normalize("NFKC", text)
    return max(len(form.encode()) for form in (text, normal, normal.lower(), normal.casefold()))


def written(value: object) -> int:
    """JSON as templates write it: compact, spaced, indented."""
    forms = (
        json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value, ensure_ascii=False, indent=4),
    )
    return max(map(tokens, forms))


def rendered(request: ChatRequest) -> int:
    """The tokens of the whole prompt as the widest template writes it; without images."""
    total = SYSTEM_TEXT
    for message in request.messages:
        total += ROLE_MARKERS + tokens(message.name or "")
        texts = [message.content] if isinstance(message.content, str) else list(map(_text, message.content or ()))
        joined = "\n".join(texts)
        if isinstance(message, ToolMessage):
            joined = max(joined, json.dumps(texts[0] if texts else "", ensure_ascii=False), _parts(texts), key=tokens)
            total += tokens(message.tool_call_id)
        total += tokens(joined)
        if isinstance(message, AssistantMessage):
            total += tokens((message.refusal or "") + (message.reasoning_content or ""))
            total += sum(
                _call(call.model_dump(exclude={"index"}, exclude_none=True)) for call in message.tool_calls or ()
            )
    if request.tools:
        total += HIDDEN_TOOL_TEXT + sum(written(tool.model_dump(exclude_none=True)) for tool in request.tools)
    if isinstance(request.tool_choice, NamedToolChoice):
        total += tokens(request.tool_choice.function.name)
    if request.response_format is not None:
        total += written(request.response_format.model_dump(exclude_none=True))
    return total


def _text(part: object) -> str:
    if isinstance(part, TextPart):
        return part.text
    return part.refusal if isinstance(part, RefusalPart) else ""


def _parts(texts: list[str]) -> str:
    return json.dumps([{"type": "text", "text": text} for text in texts], ensure_ascii=False)


def _call(call: dict[str, Any]) -> int:
    as_text = written(call)
    try:
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    except ValueError:
        return as_text
    return max(as_text, written(call))


# --- requests at random --------------------------------------------------------------------------------------------

# Code points that normalisation widens, that JSON escapes, that combine, and ordinary ones.
AWKWARD = (
    "\ufdfa\u3300\u33c7\u2474\u2026\u00bc\u0149\u0130\u1e9e\u01c5\ufb03\u212b\u0958\u0390"
    + 'e\u0323\u0301"\\\n\t\0\x1f'
)
texts = st.text(max_size=60) | st.text(st.sampled_from(AWKWARD), max_size=60) | st.text(st.characters(codec="ascii"))
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=15
)
objects = st.dictionaries(texts, json_values, max_size=4)
names = st.from_regex(r"[a-zA-Z0-9_.-]{1,64}", fullmatch=True)
text_parts = st.builds(lambda text: {"type": "text", "text": text}, texts)
contents = texts | st.lists(text_parts, min_size=1, max_size=12)


def _arguments(value: dict[str, object], numbers: str, style: int) -> str:
    """As a model wrote them: compact or spaced, with numbers in any notation."""
    text = json.dumps(value | {"n": "NUMBERS"}, separators=((",", ":"), (", ", ": "))[style], ensure_ascii=False)
    return text.replace('"NUMBERS"', numbers)


notations = st.sampled_from(
    ["[1e15,1e15,1E5,-1e-7,1e300]", "[1,2,3,4,5,6,7,8,9]", "[[[[[[1,2],[3]]]]]]", "[true,false]"]
)
arguments = st.builds(_arguments, objects, notations, st.sampled_from([0, 1])) | texts
calls = st.fixed_dictionaries(
    {"id": texts, "function": st.fixed_dictionaries({"name": names, "arguments": arguments})},
    optional={"extra_content": objects},
)
messages = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": contents}, optional={"name": texts}),
    st.fixed_dictionaries({"role": st.just("tool"), "content": contents, "tool_call_id": texts}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.none() | contents},
        optional={"tool_calls": st.lists(calls, max_size=3), "refusal": texts, "reasoning_content": texts},
    ),
)
tools = st.builds(
    lambda name, description, parameters: {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    },
    names,
    texts,
    objects,
)
formats = st.builds(
    lambda name, schema: {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}, names, objects
)
requests = st.builds(
    ChatRequest.model_validate,
    st.fixed_dictionaries(
        {"model": st.just("sota"), "messages": st.lists(messages, min_size=1, max_size=5)},
        optional={"tools": st.lists(tools, min_size=1, max_size=3), "response_format": formats},
    ),
)


@settings(max_examples=200, deadline=None)
@given(requests)
def test_no_rendering_of_a_request_has_more_tokens_than_its_bound(request: ChatRequest) -> None:
    assert rendered(request) <= chat_input_bound(request)


@settings(max_examples=100, deadline=None)
@given(
    requests,
    st.integers(0, 4096),
    st.tuples(*[st.decimals(0, 1000, places=6)] * 2),
    st.tuples(*[st.none() | st.decimals(0, 1000, places=6)] * 2),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_no_bill_is_higher_than_the_bound(
    request: ChatRequest,
    cap: int,
    base: tuple[Decimal, Decimal],
    extra: tuple[Decimal | None, Decimal | None],
    shares: tuple[float, float, float, float],
) -> None:
    override = PriceOverride(
        input_mtok=base[0], output_mtok=base[1], cached_input_mtok=extra[0], cache_write_mtok=extra[1]
    )
    price = PriceBook(overrides={"vllm/*": override}, aliases={}, local_providers=()).price("vllm", "any")
    size = int(rendered(request) * shares[0])
    cached = int(size * shares[1])
    counts = TokenCounts(size, int(cap * shares[2]), cached, int((size - cached) * shares[3]))
    assert price.cost(counts) <= price.bound(chat_input_bound(request), cap)


@settings(max_examples=200, deadline=None)
@given(st.lists(texts.filter(bool), min_size=1, max_size=8))
def test_no_embedding_has_more_tokens_than_its_bound(inputs: list[str]) -> None:
    """[CLS] and [SEP], or <s> and </s>, and SentencePiece's first space, around each."""
    marked = sum(tokens(text) + 3 for text in inputs)
    assert marked <= embedding_input_bound(EmbeddingRequest(model="m", input=inputs))
    assert tokens(inputs[0]) + 3 <= embedding_input_bound(EmbeddingRequest(model="m", input=inputs[0]))


def test_token_ids_count_as_they_are() -> None:
    one = EmbeddingRequest(model="m", input=[1, 2, 3])
    two = EmbeddingRequest(model="m", input=[[1, 2, 3], [4]])
    assert embedding_input_bound(one) == 3 + bounds.TOKENS_PER_MESSAGE
    assert embedding_input_bound(two) == 4 + 2 * bounds.TOKENS_PER_MESSAGE


# --- each thing that widens a request, by itself -------------------------------------------------------------------


def user(content: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": content}]})


def test_plain_text_is_bound_by_its_bytes_and_the_allowances() -> None:
    plain = chat_input_bound(user("x" * 1000))
    assert plain == 1000 + TOKENS_PER_REQUEST + bounds.TOKENS_PER_MESSAGE


@pytest.mark.parametrize(
    ("text", "least"), [("日本", 6), ("é", 2), ("\ufdfa", 33), ("\u33ff", 3), ("e\u0323\u0301", 5)]
)
def test_the_bytes_that_count_are_those_after_normalisation(text: str, least: int) -> None:
    assert least <= chat_input_bound(user(text)) - chat_input_bound(user("")) <= least + 16


def test_a_mark_that_is_composed_across_two_pieces() -> None:
    """Normalised in pieces; wherever the seam falls, the whole has no more bytes than the pieces allow for."""
    for lead, end in product(
        range(1018, 1028), ("é\u0323", "\u1ea4\u0323\u0327", "\u1fa2\u0331", "\u1100\u1161\u11a8")
    ):
        text = "a" * lead + end
        assert tokens(text) <= text_bounds.text_bytes(text), (lead, end)


def test_a_long_run_of_combining_marks_takes_no_time_by_its_square() -> None:
    """Normalising it whole would: the test would run for minutes instead of a moment."""
    text = "a" + "\u0301\u0323" * 500_000
    assert text_bounds.text_bytes(text) >= len(text.encode())


def test_every_message_and_every_part_has_its_allowance() -> None:
    assert chat_input_bound(user([{"type": "text", "text": ""}] * 100)) >= chat_input_bound(user("")) + 100
    many = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": ""}] * 100})
    assert chat_input_bound(many) >= 100 * ROLE_MARKERS


@pytest.mark.parametrize(("data", "pages"), [(pdf(1), 1), (pdf(30), 30), (b"%PDF encrypted", MAX_PAGES)])
def test_a_pdf_is_bounded_by_its_pages(data: bytes, pages: int) -> None:
    words = {"type": "text", "text": "What is it?"}
    encoded = base64.b64encode(data).decode()
    file = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{encoded}"}}
    none, one, two = (chat_input_bound(user([words, *[file] * n])) for n in (0, 1, 2))
    assert one - none >= pages * TOKENS_PER_PAGE
    assert two - one >= pages * TOKENS_PER_PAGE


def test_thoughts_that_go_back_are_bounded() -> None:
    def bound(*thoughts: dict[str, str]) -> int:
        answer = {"role": "assistant", "content": "x", "thinking_blocks": [*thoughts]}
        user = {"role": "user", "content": "x"}
        return chat_input_bound(ChatRequest.model_validate({"model": "m", "messages": [user, answer, user]}))

    thought = {"type": "thinking", "thinking": "t" * 100, "signature": "s" * 1000}
    assert bound(thought) - bound() >= 1100
    assert bound({"type": "redacted_thinking", "data": "d" * 1000}) - bound() >= 1000


def test_each_image_is_bound_by_the_dearest_known() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    words = {"type": "text", "text": "what is it?"}
    none, one, two = (chat_input_bound(user([words, *[image] * n])) for n in (0, 1, 2))
    assert one - none >= MAX_IMAGE_TOKENS
    assert two - one >= MAX_IMAGE_TOKENS
    assert [type(part) for part in user([words, image]).images()] == [ImagePart]


def test_an_open_string_and_a_trailing_backslash_are_read_once() -> None:
    """Arguments that a model broke off; reading them again from every quote would take time by the square."""
    for broken in ('"' + '\\"' * 200_000, '"' * 200_001, '"' + "\\" * 200_001, "[" * 1000, '{"a":' * 1000):
        assert text_bounds.json_bytes(broken) >= len(broken)


def test_a_number_may_come_back_longer_than_it_was_written() -> None:
    text = "[" + ",".join(["1e15", "-2E15"] * 50) + "]"
    assert text_bounds.json_bytes(text) >= len(json.dumps(json.loads(text), indent=4))


def test_what_comes_with_a_call_is_bound_too() -> None:
    def with_extra(**extra: object) -> int:
        call = {"id": "1", "function": {"name": "f", "arguments": "{}"}, **extra}
        said = {"role": "assistant", "tool_calls": [call]}
        return chat_input_bound(ChatRequest.model_validate({"model": "m", "messages": [said]}))

    for extra in ({"google": {"thought_signature": "c2ln" * 500}}, {"x": "\ufdfa" * 100}, {"x": [1] * 50}):
        assert with_extra(extra_content=extra) - with_extra() >= written(extra)


def test_a_tools_result_is_bound_as_json() -> None:
    def with_result(content: str) -> int:
        result = {"role": "tool", "tool_call_id": "1", "content": content}
        return chat_input_bound(ChatRequest.model_validate({"model": "m", "messages": [result]}))

    assert with_result('"\n' * 500) - with_result("") >= 2000


@pytest.mark.parametrize(
    ("value", "notation"), list(product([[1] * 50, {"a": {"b": {"c": [1, 2, {}]}}}, []], ["compact", "indented"]))
)
def test_json_is_bound_in_its_indented_form(value: object, notation: str) -> None:
    text = json.dumps(value, separators=(",", ":"), indent=4 if notation == "indented" else None)
    assert text_bounds.json_bytes(text) >= len(json.dumps(value, indent=4))
