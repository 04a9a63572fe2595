"""Answers, streams and errors in Anthropic's format; Anthropic's own SDK reads them back."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from fusewire.ai.router import StreamBrokenError
from fusewire.ai.vocabulary import ChatResponse, StreamChunk
from fusewire.errors import (
    AllProvidersFailedError,
    AuthenticationError,
    BudgetExceededError,
    BudgetReservedError,
    CallNotFoundError,
    ContentPolicyError,
    DeadlineExceededError,
    FusewireError,
    InvalidRequestError,
    KeyNotFoundError,
    LedgerUnavailableError,
    ModelNotFoundError,
    ModelNotPricedError,
    NoEligibleProviderError,
    PermissionDeniedError,
    ProviderOutcome,
    RateLimitedError,
    RequestTooLargeError,
    SecretsUnavailableError,
    UnsupportedParameterError,
)
from fusewire.http.doors import typed_events
from fusewire.http.messages_answers import MessageWriter, message, tell_error

COST = Decimal("0.00000012")
SECRET = "sentinel-prompt-51c2"  # noqa: S105 - what must not leak


def answer(message_told: dict[str, Any], finish: str = "stop", **more: object) -> dict[str, Any]:
    response = ChatResponse.model_validate(
        {
            "id": "chatcmpl-1",
            "created": 1,
            "model": "gpt",
            "choices": [{"index": 0, "message": {"role": "assistant", **message_told}, "finish_reason": finish}],
            **more,
        }
    )
    return message("msg_1", response, COST)


def tool_call(arguments: str, **more: object) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


def test_a_whole_answer() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "cache_write_1h_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    told = answer({"content": "Paris.", "reasoning_content": "hm"}, usage=usage)
    assert told == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "Paris."},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 3},
            "cost": COST,
        },
    }
    assert Message.model_validate(told | {"usage": told["usage"] | {"cost": float(COST)}}).usage.input_tokens == 10


def test_usage_that_nobody_told_is_zero_and_the_cost_is_what_was_booked() -> None:
    assert answer({"content": "x"})["usage"] == {"input_tokens": 0, "output_tokens": 0, "cost": COST}


CALL = {"content": None, "tool_calls": [tool_call("{}")]}


@pytest.mark.parametrize(
    ("told", "finish", "reason"),
    [
        ({"content": "x"}, "stop", "end_turn"),
        ({"content": "x"}, "length", "max_tokens"),
        ({"content": "x"}, "content_filter", "refusal"),
        (CALL, "tool_calls", "tool_use"),
        (CALL, "function_call", "tool_use"),
        (CALL, "stop", "tool_use"),
        (CALL, "length", "max_tokens"),
        ({"content": None, "refusal": "I can't."}, "stop", "refusal"),
    ],
)
def test_the_reason_for_stopping(told: dict[str, Any], finish: str, reason: str) -> None:
    made = answer(told, finish)
    assert made["stop_reason"] == reason
    assert (made["stop_details"] is not None) == (reason == "refusal")


def test_a_refusal_is_told_with_its_explanation_and_no_text() -> None:
    told = answer({"content": None, "refusal": "I can't."})
    assert told["content"] == []
    assert told["stop_details"] == {"type": "refusal", "category": None, "explanation": "I can't."}


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"city": "Zürich", "n": 1.5}', {"city": "Zürich", "n": 1.5}),
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ('{"city": "Pa', {"INVALID_JSON": '{"city": "Pa'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('{"n": NaN}', {"INVALID_JSON": '{"n": NaN}'}),
        ('{"s": "\\ud83d"}', {"INVALID_JSON": '{"s": "\\ud83d"}'}),
    ],
)
def test_a_tools_input_is_always_an_object(arguments: str, given: dict[str, Any]) -> None:
    told = answer({"content": "I look.", "tool_calls": [tool_call(arguments)]}, "tool_calls")
    assert told["content"][1] == {"type": "tool_use", "id": "call_1", "name": "weather", "input": given}
    json.dumps(told["content"], allow_nan=False)


def test_what_a_vendor_wants_back_goes_out_with_the_call() -> None:
    call = tool_call("{}", extra_content={"google": {"thought_signature": "x"}})
    told = answer({"tool_calls": [call]}, "tool_calls")
    assert told["content"][0]["extra_content"] == {"google": {"thought_signature": "x"}}


# --- streams ---


def chunk(delta: dict[str, Any], finish: str | None = None) -> StreamChunk:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return StreamChunk.model_validate({"id": "c", "created": 1, "model": "gpt", "choices": choices})


def usage_chunk() -> StreamChunk:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    made = StreamChunk.model_validate({"id": "c", "created": 1, "model": "gpt", "choices": [], "usage": usage})
    assert made.usage is not None
    made.usage.cost = COST
    return made


def events(chunks: Iterator[StreamChunk] | list[StreamChunk]) -> list[dict[str, Any]]:
    told = []
    for piece in typed_events(chunks, MessageWriter("msg_1", "req-1")):
        name, data, rest = piece.decode().split("\n", 2)
        assert rest == "\n"
        told.append(json.loads(data.removeprefix("data: "), parse_float=Decimal))
        assert name == f"event: {told[-1]['type']}"
    return told


def test_a_stream_in_anthropics_order() -> None:
    told = events(
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "hm"}),
            chunk({"content": "Pa"}),
            chunk({"content": "ris"}),
            chunk({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ""}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
            chunk({"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "time", "arguments": "{}"}}]}),
            chunk({}, "tool_calls"),
            usage_chunk(),
        ]
    )

    def delta(index: int, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": fields}

    def start(index: int, **fields: object) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": fields}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    assert told == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "gpt",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            },
        },
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        stop(0),
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="Pa"),
        delta(1, type="text_delta", text="ris"),
        stop(1),
        start(2, type="tool_use", id="call_1", name="weather", input={}),
        delta(2, type="input_json_delta", partial_json='{"a":'),
        delta(2, type="input_json_delta", partial_json="1}"),
        stop(2),
        start(3, type="tool_use", id="call_2", name="time", input={}),
        delta(3, type="input_json_delta", partial_json="{}"),
        stop(3),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None, "stop_details": None},
            "usage": {
                "input_tokens": 2,
                "cache_read_input_tokens": 1,
                "cache_creation_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 2,
                "cost": COST,
            },
        },
        {"type": "message_stop"},
    ]


def test_a_refusal_in_a_stream_is_told_at_its_end() -> None:
    told = events([chunk({"refusal": "I "}), chunk({"refusal": "can't."}), chunk({}, "stop")])
    assert [event["type"] for event in told] == ["message_start", "message_delta", "message_stop"]
    assert told[1]["delta"]["stop_reason"] == "refusal"
    assert told[1]["delta"]["stop_details"]["explanation"] == "I can't."
    assert told[1]["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_an_empty_stream_is_an_empty_message() -> None:
    assert [event["type"] for event in events([])] == ["message_start", "message_delta", "message_stop"]


def test_a_surrogate_pair_that_a_server_cut_in_two_arrives_whole() -> None:
    told = events([chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}), chunk({}, "stop")])
    halves = "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")
    assert halves.encode("utf-16", "surrogatepass").decode("utf-16") == "\N{GRINNING FACE}"


def broken(error: Exception) -> Iterator[StreamChunk]:
    yield chunk({"content": "Pa"})
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [(StreamBrokenError("openai dropped the connection"), "stream_broken"), (ValueError(SECRET), "internal_error")],
)
def test_a_stream_that_breaks_ends_with_an_error(error: Exception, code: str) -> None:
    told = events(broken(error))
    assert [event["type"] for event in told] == [
        "message_start", "content_block_start", "content_block_delta", "error",
    ]  # fmt: skip
    assert told[-1]["error"]["type"] == "api_error"
    assert told[-1]["error"]["details"] == {"error_code": code}
    assert told[-1]["request_id"] == "req-1"
    assert SECRET not in json.dumps(told, default=str)


def test_hanging_up_closes_the_chunks() -> None:
    ended = []

    def endless() -> Iterator[StreamChunk]:
        try:
            while True:
                yield chunk({"content": "x"})
        finally:
            ended.append(True)

    stream = typed_events(endless(), MessageWriter("msg_1", "req-1"))
    next(stream)
    stream.close()  # type: ignore[attr-defined] # a generator, seen as what it promises
    assert ended == [True]


# --- errors ---

RESETS = datetime(2027, 1, 1, tzinfo=UTC)
SILENT = ProviderOutcome("azure", "gpt-4o", "read_timeout", "azure didn't answer in time")
COMES_BACK = ProviderOutcome("openai", "gpt-4o", "rate_limited", "openai is throttling (HTTP 429)", 7.2)

# (error, status, Anthropic's type, the SDK's class, whether the SDK tries again)
ROWS: list[tuple[FusewireError, int, str, type[anthropic.APIStatusError], bool]] = [
    (InvalidRequestError("?", param="n"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (UnsupportedParameterError("?", param="n"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (ModelNotPricedError("azure", "x"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (ContentPolicyError("?"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (AuthenticationError("?"), 401, "authentication_error", anthropic.AuthenticationError, False),
    (
        BudgetExceededError("?", budget="global", resets_at=RESETS),
        402,
        "billing_error",
        anthropic.PaymentRequiredError,
        False,
    ),
    (PermissionDeniedError("?"), 403, "permission_error", anthropic.PermissionDeniedError, False),
    (CallNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (KeyNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (ModelNotFoundError("?", param="model"), 404, "not_found_error", anthropic.NotFoundError, False),
    (RequestTooLargeError("?"), 413, "request_too_large", anthropic.ContentTooLargeError, False),
    (BudgetReservedError("?"), 429, "rate_limit_error", anthropic.RateLimitError, True),
    (
        RateLimitedError("?", limit="tokens", retry_after=9),
        429,
        "rate_limit_error",
        anthropic.RateLimitError,
        True,
    ),
    (FusewireError("?"), 500, "api_error", anthropic.InternalServerError, True),
    (NoEligibleProviderError("?"), 503, "api_error", anthropic.ServiceUnavailableError, False),
    (AllProvidersFailedError([SILENT]), 503, "api_error", anthropic.ServiceUnavailableError, False),
    (AllProvidersFailedError([SILENT, COMES_BACK]), 503, "overloaded_error", anthropic.ServiceUnavailableError, True),
    (SecretsUnavailableError("AccessDenied"), 503, "api_error", anthropic.ServiceUnavailableError, True),
    (LedgerUnavailableError("?"), 503, "api_error", anthropic.ServiceUnavailableError, True),
    (DeadlineExceededError("?"), 504, "timeout_error", anthropic.GatewayTimeoutError, False),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]}-{type(row[0]).__name__}")
def test_an_error_is_anthropics(row: tuple[FusewireError, int, str, type[anthropic.APIStatusError], bool]) -> None:
    import httpx2

    error, status, kind, raised_as, retried = row
    body, headers = tell_error(error, "req-1")
    assert error.status == status
    response = httpx2.Response(status, json=body, headers=headers, request=httpx2.Request("POST", "http://x.invalid"))
    with anthropic.Anthropic(api_key="k", base_url="http://x.invalid") as client:
        raised = client._make_status_error_from_response(response)
        assert client._should_retry(response) is retried
    assert type(raised) is raised_as
    assert (raised.type, raised.error_code, raised.request_id) == (kind, error.code, "req-1")
    assert raised.api_message == error.message


def test_every_class_of_the_tree_has_a_row() -> None:
    def tree(root: type[FusewireError]) -> Iterator[type[FusewireError]]:
        yield root
        for child in root.__subclasses__():
            yield from tree(child)

    ours = {cls for cls in tree(FusewireError) if cls.__module__ == FusewireError.__module__}
    assert ours == {type(row[0]) for row in ROWS}


def test_the_details_hold_what_openais_body_would() -> None:
    body: Any = tell_error(BudgetExceededError("?", budget="key_1", resets_at=RESETS), "r")[0]
    assert body["type"] == "error"
    assert body["error"]["details"] == {
        "error_code": "budget_exceeded",
        "param": None,
        "budget": "key_1",
        "resets_at": "2027-01-01T00:00:00+00:00",
    }
    failed: Any = tell_error(AllProvidersFailedError([COMES_BACK]), "r")[0]
    assert failed["error"]["details"]["providers"][0]["kind"] == "rate_limited"


def test_a_field_is_told_by_anthropics_name() -> None:
    error = UnsupportedParameterError("Nobody can honour response_format.", param="response_format")
    body: Any = tell_error(error, "r")[0]
    assert body["error"]["details"]["param"] == "output_config.format"
    assert (
        body["error"]["message"] == "Nobody can honour response_format. Here response_format is output_config.format."
    )
