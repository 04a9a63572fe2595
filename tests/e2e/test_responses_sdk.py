"""OpenAI's SDK and its Responses, only the base URL changed, on a vendor of chat completions and on a real model."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.support import upstream as vendor
from tests.support.formats import BUDGET_USD, Setting, calls, formats_gateway
from tests.support.gateway import eventually

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": None,
}
ASK = {"role": "user", "content": "How is the weather in Paris and in London?"}
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


class Capital(BaseModel):
    city: str


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
def client(setting: Setting) -> openai.OpenAI:
    return setting.gateway.openai(max_retries=2)


def say(client: openai.OpenAI, streamed: bool, **fields: Any) -> Response:  # noqa: ANN401 - the SDK's own
    """One turn; a streamed one through the SDK's own accumulation."""
    asked: dict[str, Any] = {"model": "openai/m", "max_output_tokens": 50, "tools": [WEATHER], **fields}
    if not streamed:
        answer: Response = client.responses.create(**asked)
        return answer
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        assert kinds[:2] == ["response.created", "response.in_progress"]
        if kinds[-1] == "response.completed":
            return stream.get_final_response()
    raise AssertionError(kinds[-1])


def used(response: Response) -> list[ResponseFunctionToolCall]:
    return [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]


def results(response: Response, *row: str) -> list[dict[str, Any]]:
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": text}
        for call, text in zip(used(response), row, strict=True)
    ]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_conversation_with_tools_over_several_turns(setting: Setting, client: openai.OpenAI, streamed: bool) -> None:
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
    conversation: list[Any] = [ASK]
    one = say(client, streamed, input=conversation, instructions="Be brief.")
    assert one.status == "completed"
    assert [item.type for item in one.output] == ["message", "function_call", "function_call"]
    assert [json.loads(call.arguments) for call in used(one)] == [{"city": "Paris"}, {"city": "Zürich"}]
    conversation += [*one.output, *results(one, "sunny", "rain")]
    two = say(client, streamed, input=conversation, instructions="Be brief.")
    assert [item.type for item in two.output] == ["function_call"]
    conversation += [*two.output, *results(two, "fog")]
    three = say(client, streamed, input=conversation, instructions="Be brief.")
    assert three.output_text == "Paris."

    first, second, third = setting.upstream.requests
    system = {"role": "system", "content": "Be brief."}
    assert first["messages"] == [system, ASK]
    called = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}}
        for n, city in [(1, "Paris"), (2, "Zürich")]
    ]
    assert second["messages"][2:] == [
        {"role": "assistant", "content": "I look.", "tool_calls": called},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
    ]
    assert [message["role"] for message in third["messages"][5:]] == ["assistant", "tool"]
    for number, answer in enumerate((one, two, three)):
        into, out = setting.upstream.billed[first_call + number]
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (into, out)
        assert Decimal(str((answer.usage.model_extra or {})["cost"])) == setting.cost_of(first_call + number)


def test_a_vendors_signature_comes_back_through_the_sdk(setting: Setting, client: openai.OpenAI) -> None:
    for streamed in (False, True):
        setting.upstream.script.append(calls(("call_1", "weather", "{}"), extra=SIGNED))
        one = say(client, streamed, input=[ASK])
        raw = client.responses.with_raw_response.create(
            model="openai/m",
            tools=[WEATHER],
            input=[ASK, *one.output, *results(one, "sunny")],  # type: ignore[list-item] # the SDK's own answer, sent back
        )
        assert raw.headers["x-fusewire-dropped"] == "input.extra_content"


def test_a_streams_events_and_headers(setting: Setting, client: openai.OpenAI) -> None:
    before = len(setting.upstream.billed)
    with client.responses.with_streaming_response.create(model="openai/m", input="hi", stream=True) as raw:
        assert raw.headers["x-fusewire-provider"] == "openai"
        events = list(raw.parse())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Paris."
    assert last.response.usage is not None
    assert Decimal(str((last.response.usage.model_extra or {})["cost"])) == setting.cost_of(before)


def test_an_answer_that_is_cut_says_so(setting: Setting, client: openai.OpenAI) -> None:
    setting.upstream.script.append(cut_at_the_cap)
    answer = client.responses.create(model="openai/m", input="hi", max_output_tokens=2)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def cut_at_the_cap(handler: Any, body: dict[str, Any]) -> None:  # noqa: ANN401 - the server's handler
    usage = {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    handler.upstream.billed.append((2, 2))
    choice = {"index": 0, "message": {"role": "assistant", "content": "Pa"}, "finish_reason": "length"}
    result = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    handler.reply(200, result)


def test_a_typed_answer_is_parsed_by_the_sdk(setting: Setting, client: openai.OpenAI) -> None:
    words, setting.upstream.words = setting.upstream.words, ['{"city": ', '"Paris"}']
    try:
        parsed = client.responses.parse(model="openai/m", input="capital?", text_format=Capital)
        with client.responses.stream(model="openai/m", input="capital?", text_format=Capital) as stream:
            streamed = stream.get_final_response()
    finally:
        setting.upstream.words = words
    assert parsed.output_parsed == streamed.output_parsed == Capital(city="Paris")
    sent = setting.upstream.requests[0]["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "Capital")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_real_model_answers_and_calls_a_tool(client: openai.OpenAI, streamed: bool) -> None:
    model = "ollama/smollm2"
    answer = say(client, streamed, model=model, tools=[], input="What is the capital of France?")
    assert "Paris" in answer.output_text
    assert answer.usage is not None and answer.usage.output_tokens > 0
    again: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    called = say(client, streamed, model=model, max_output_tokens=200, input=again, tool_choice="required")
    assert {call.name for call in used(called)} == {"weather"}
    again += [*called.output, *results(called, *["sunny"] * len(used(called)))]
    last = client.responses.create(model=model, max_output_tokens=10, tools=[WEATHER], input=again)
    assert last.status in ("completed", "incomplete")


# --- when it doesn't work ---


@pytest.mark.parametrize(
    "fields",
    [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}],
    ids=lambda fields: next(iter(fields)),
)
def test_what_needs_a_store_is_refused_by_name(setting: Setting, client: openai.OpenAI, fields: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="openai/m", input="hi", **fields)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", next(iter(fields)))
    assert "nothing is stored here" in raised.value.message
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert not setting.upstream.requests


def test_the_sdk_raises_its_own_exceptions_and_tries_a_500_again_alone(setting: Setting, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="nobody", input="hi")
    assert unknown.value.code == "model_not_found"
    # Its worst case is dearer than the whole month.
    cap = int(BUDGET_USD / Decimal("0.0003")) + 1
    before = len(setting.gateway.events("circuit_breaker.blocked"))
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(
            model="openai/m",
            input="hi",
            max_output_tokens=cap,
            stream=True,
            extra_headers={"x-fusewire-output-cap": "strict"},
        )
    assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
    assert len(setting.gateway.events("circuit_breaker.blocked")) == before + 1
    assert not setting.upstream.requests
    setting.upstream.script.extend([vendor.status(500)] * 3)
    with pytest.raises(openai.InternalServerError) as failed:
        client.responses.create(model="openai/m", input="hi")
    assert failed.value.code == "all_providers_failed"
    assert len(setting.upstream.requests) == 3


def test_a_stream_that_breaks_ends_as_failed(setting: Setting, client: openai.OpenAI) -> None:
    setting.upstream.script.append(vendor.cut_stream(2))
    last = list(client.responses.create(model="openai/m", input="hi", stream=True))[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    assert last.response.output_text == "Paris"
    latest = "SELECT cost = bound, outcome FROM ledger ORDER BY reserved_at DESC LIMIT 1"
    assert setting.books.rows(latest) == [(True, "stream_broken_late")]


def test_a_stream_that_the_client_leaves_is_read_to_its_end(setting: Setting, client: openai.OpenAI) -> None:
    setting.upstream.delay = 1
    before = len(setting.upstream.billed)
    with client.responses.create(model="openai/m", input="hi", stream=True) as stream:
        next(iter(stream))
    eventually(lambda: not setting.gateway.budget()["reserved_usd"])
    last = "SELECT cost_basis, cost FROM ledger ORDER BY reserved_at DESC LIMIT 1"
    assert setting.books.rows(last) == [("actual", setting.cost_of(before))]
