"""Anthropic's SDK with nothing changed but the base URL, on a vendor of OpenAI's protocol and on a real small model."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import anthropic
import pytest
from anthropic.types import Message, MessageParam, ToolParam, ToolUseBlock

from tests.support import upstream as vendor
from tests.support.formats import BUDGET_USD, KEY, Setting, calls, formats_gateway
from tests.support.gateway import eventually
from tests.support.patience import PATIENCE_SECONDS

WEATHER: ToolParam = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASK: MessageParam = {"role": "user", "content": "How is the weather in Paris and in London?"}
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, postgres: str, template: str) -> Iterator[Setting]:
    with formats_gateway(tmp_path_factory.mktemp("formats"), postgres, template) as setting:
        yield setting


@pytest.fixture
def setting(kept: Setting) -> Iterator[Setting]:
    """The books balance after each test, and equal the vendor's bill."""
    kept.upstream.requests.clear()
    yield kept
    kept.upstream.script.clear()
    kept.upstream.delay = 0
    kept.settle()
    kept.books.forget_health()


@pytest.fixture
def client(setting: Setting) -> Iterator[anthropic.Anthropic]:
    base_url = setting.gateway.base.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=2, timeout=PATIENCE_SECONDS) as made:
        yield made


def say(client: anthropic.Anthropic, streamed: bool, model: str = "openai/m", **fields: Any) -> Message:  # noqa: ANN401 - the SDK's own
    """One turn; a streamed one through the SDK's own accumulation."""
    asked: dict[str, Any] = {"model": model, "max_tokens": 50, "tools": [WEATHER], **fields}
    if not streamed:
        answer: Message = client.messages.create(**asked)
        return answer
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


def results(message: Message, *row: str) -> MessageParam:
    used = [block for block in message.content if isinstance(block, ToolUseBlock)]
    return {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": block.id, "content": text}
            for block, text in zip(used, row, strict=True)
        ],
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_a_conversation_with_tools_over_several_turns(
    setting: Setting, client: anthropic.Anthropic, streamed: bool
) -> None:
    first_call = len(setting.upstream.billed)
    setting.upstream.script.extend(
        [
            calls(
                ("call_1", "weather", '{"city": "Paris"}'),
                ("call_2", "weather", '{"city": "Zürich"}'),
                text="I look.",
                extra=SIGNED,
            ),
            calls(("call_3", "weather", '{"city": "London"}')),
        ]
    )
    conversation: list[MessageParam] = [ASK]
    one = say(client, streamed, messages=conversation)
    assert one.stop_reason == "tool_use"
    assert [block.type for block in one.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in one.content if isinstance(block, ToolUseBlock)] == [
        {"city": "Paris"},
        {"city": "Zürich"},
    ]
    conversation += [{"role": "assistant", "content": one.content}, results(one, "sunny", "rain")]
    two = say(client, streamed, messages=conversation)
    assert [block.type for block in two.content] == ["tool_use"]
    conversation += [{"role": "assistant", "content": two.content}, results(two, "fog")]
    three = say(client, streamed, messages=conversation)
    assert three.stop_reason == "end_turn"
    assert three.content[0].type == "text" and three.content[0].text == "Paris."

    first, second, third = setting.upstream.requests
    assert first["messages"] == [ASK]
    called = [
        {"id": f"call_{n}", "type": "function", "extra_content": SIGNED,
         "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
        for n, city in [(1, "Paris"), (2, "Zürich")]
    ]  # fmt: skip
    # OpenAI's own endpoint has no place for another vendor's signature; it left the gateway with the header's word.
    expected = [{name: value for name, value in call.items() if name != "extra_content"} for call in called]
    assert second["messages"][1:] == [
        {"role": "assistant", "content": "I look.", "tool_calls": expected},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
    ]
    assert [message["role"] for message in third["messages"][4:]] == ["assistant", "tool"]
    for number, answer in enumerate((one, two, three)):
        into, out = setting.upstream.billed[first_call + number]
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (into, out)
        if not streamed:  # the SDK's accumulation keeps the counts that it knows
            cost = Decimal(str((answer.usage.model_extra or {})["cost"]))
            assert cost == setting.cost_of(first_call + number)


def test_a_vendors_signature_comes_back_through_the_sdk(setting: Setting, client: anthropic.Anthropic) -> None:
    for streamed in (False, True):
        setting.upstream.script.append(calls(("call_1", "weather", "{}"), extra=SIGNED))
        one = say(client, streamed, messages=[ASK])
        again: list[MessageParam] = [ASK, {"role": "assistant", "content": one.content}, results(one, "sunny")]
        raw = client.messages.with_raw_response.create(model="openai/m", max_tokens=5, tools=[WEATHER], messages=again)
        assert raw.headers["x-fusewire-dropped"] == "messages.extra_content"


def test_a_streams_events_and_headers(setting: Setting, client: anthropic.Anthropic) -> None:
    before = len(setting.upstream.billed)
    with client.messages.with_streaming_response.create(
        model="openai/m", max_tokens=50, messages=[ASK], stream=True
    ) as raw:
        assert raw.headers["x-fusewire-provider"] == "openai"
        assert raw.headers["request-id"] == raw.headers["x-request-id"] == raw.request_id
        kinds, cost = [], None
        for event in raw.parse():
            kinds.append(event.type)
            if event.type == "message_delta":
                assert event.usage.input_tokens == setting.upstream.billed[before][0]
                cost = Decimal(str((event.usage.model_extra or {})["cost"]))
    assert kinds == [
        "message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert cost == setting.cost_of(before)


def test_the_beta_client_is_served_too(client: anthropic.Anthropic) -> None:
    raw = client.beta.messages.with_raw_response.create(
        model="openai/m",
        max_tokens=50,
        betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        thinking={"type": "adaptive"},
        messages=[{"role": "user", "content": "hi"}],
    )
    assert raw.parse().content[0].type == "text"
    assert raw.headers["x-fusewire-dropped"] == "context_management, anthropic-beta, cache_control, thinking"


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_the_key_is_taken_from_either_header_and_told_to_nobody(
    setting: Setting, client: anthropic.Anthropic, header: Literal["x-api-key", "authorization"]
) -> None:
    value = KEY if header == "x-api-key" else f"Bearer {KEY}"
    response = client.with_options(default_headers={header: value}).messages.create(
        model="openai/m", max_tokens=50, messages=[ASK]
    )
    assert response.content[0].type == "text"
    assert KEY not in setting.gateway.log + setting.gateway.progress
    assert KEY not in str(setting.upstream.headers)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_real_model_answers_and_calls_a_tool(client: anthropic.Anthropic, streamed: bool) -> None:
    model = "ollama/smollm2"
    asked: list[MessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
    answer = say(client, streamed, model, tools=[], messages=asked)
    assert answer.content[0].type == "text" and "Paris" in answer.content[0].text
    assert answer.usage.output_tokens > 0
    again: list[MessageParam] = [{"role": "user", "content": "How is the weather in Paris?"}]
    called = say(client, streamed, model, max_tokens=200, messages=again, tool_choice={"type": "any"})
    assert called.stop_reason == "tool_use"
    assert {block.name for block in called.content if isinstance(block, ToolUseBlock)} == {"weather"}
    used = sum(isinstance(block, ToolUseBlock) for block in called.content)
    again += [{"role": "assistant", "content": called.content}, results(called, *["sunny"] * used)]
    last = say(client, streamed, model, max_tokens=10, messages=again)
    assert last.stop_reason in ("end_turn", "max_tokens", "tool_use")


# --- when it doesn't work ---


def test_the_sdk_raises_its_own_exceptions_and_does_not_try_again(
    setting: Setting, client: anthropic.Anthropic
) -> None:
    fine: dict[str, Any] = {"model": "openai/m", "max_tokens": 5, "messages": [ASK]}
    rows: list[tuple[dict[str, Any], type[anthropic.APIStatusError], str, str, str]] = [
        ({"model": "nobody"}, anthropic.NotFoundError, "not_found_error", "model_not_found", "model"),
        (
            {"extra_body": {"temperature": 1.5}},
            anthropic.BadRequestError,
            "invalid_request_error",
            "invalid_request_error",
            "temperature",
        ),
        (
            {"extra_body": {"no_such_field": 1}},
            anthropic.BadRequestError,
            "invalid_request_error",
            "invalid_request_error",
            "no_such_field",
        ),
    ]
    for fields, raised_as, kind, code, named in rows:
        for stream in (False, True):
            with pytest.raises(raised_as) as raised:
                client.messages.create(**fine | fields | {"stream": stream})
            assert type(raised.value) is raised_as
            assert (raised.value.type, raised.value.error_code) == (kind, code)
            assert named in (raised.value.api_message or "")
            assert raised.value.request_id == raised.value.response.headers["x-request-id"]
            assert raised.value.response.headers["x-should-retry"] == "false"
            assert "x-stainless-retry-count" in raised.value.request.headers
            assert raised.value.request.headers["x-stainless-retry-count"] == "0"
    assert not setting.upstream.requests


def test_a_call_that_does_not_fit_the_budget_is_refused_once(setting: Setting, client: anthropic.Anthropic) -> None:
    # Its worst case is dearer than the whole month.
    cap = int(BUDGET_USD / Decimal("0.0003")) + 1
    before = len(setting.gateway.events("circuit_breaker.blocked"))
    with pytest.raises(anthropic.PaymentRequiredError) as raised:
        client.messages.create(
            model="openai/m",
            max_tokens=cap,
            messages=[ASK],
            stream=True,
            extra_headers={"x-fusewire-output-cap": "strict"},
        )
    assert (raised.value.status_code, raised.value.type) == (402, "billing_error")
    assert raised.value.error_code == "budget_exceeded"
    assert "resets" in (raised.value.api_message or "")
    assert len(setting.gateway.events("circuit_breaker.blocked")) == before + 1
    assert not setting.upstream.requests


def test_when_every_provider_failed_for_now_the_sdk_tries_again(setting: Setting, client: anthropic.Anthropic) -> None:
    setting.upstream.script.extend([vendor.status(500)] * 3)
    with pytest.raises(anthropic.ServiceUnavailableError) as raised:
        client.messages.create(model="openai/m", max_tokens=5, messages=[ASK])
    assert (raised.value.type, raised.value.error_code) == ("overloaded_error", "all_providers_failed")
    assert len(setting.upstream.requests) == 3


def test_a_stream_that_breaks_raises_what_arrived_first(setting: Setting, client: anthropic.Anthropic) -> None:
    setting.upstream.script.append(vendor.cut_stream(2))
    arrived: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as raised:
        with client.messages.stream(model="openai/m", max_tokens=5, messages=[ASK]) as stream:
            arrived.extend(stream.text_stream)
    assert arrived == ["Pa", "ris"]
    assert (raised.value.type, raised.value.error_code) == ("api_error", "stream_broken")
    assert setting.books.rows("SELECT cost = bound, outcome FROM ledger ORDER BY reserved_at DESC LIMIT 1") == [
        (True, "stream_broken_late")
    ]


def test_a_stream_that_the_client_leaves_is_read_to_its_end(setting: Setting, client: anthropic.Anthropic) -> None:
    setting.upstream.delay = 1
    before = len(setting.upstream.billed)
    with client.messages.create(model="openai/m", max_tokens=5, messages=[ASK], stream=True) as stream:
        next(iter(stream))
    eventually(lambda: not setting.gateway.budget()["reserved_usd"])
    last = "SELECT cost_basis, cost FROM ledger ORDER BY reserved_at DESC LIMIT 1"
    assert setting.books.rows(last) == [("actual", setting.cost_of(before))]


def test_tokens_are_counted(setting: Setting, client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="openai/m", messages=[ASK])
    assert counted.input_tokens > 0
    assert not setting.upstream.requests
