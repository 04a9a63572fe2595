"""Reports of calls that ended at one vendor's refusal of a field which the next one takes, and of retries."""

import json
from typing import Any

import pytest

from tests.field.conftest import Field
from tests.support.bedrock_vendor import error as bedrock_error
from tests.support.upstream import Upstream, hang, status

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def refusing(param: str | None, words: str, code: str = "unsupported_value") -> Any:  # noqa: ANN401 - any vendor's reply
    return status(400, error={"message": words, "param": param, "code": code})


@pytest.fixture
def chain(field: Field) -> Field:
    """Azure, then vLLM, as `sota`."""
    field.functions.set(AI_FALLBACK_CHAIN="azure,vllm")
    return field


# (source, the request's fields, what the first vendor answers)
PASSED_ON: list[tuple[str, dict[str, Any], Any]] = [
    (
        "johny-b/llmcomp#69",
        {"temperature": 0},
        refusing("temperature", "Unsupported value: 'temperature' does not support 0 with this model."),
    ),
    ("BerriAI/litellm#12503", {"top_p": 0.5}, refusing("top_p", "Unsupported parameter: 'top_p'")),
    (
        "Skyvern-AI/skyvern#4152",
        {"reasoning_effort": "low"},
        refusing("reasoning_effort", "Unsupported parameter: 'reasoning_effort'", "unsupported_parameter"),
    ),
    (
        "tashfeenahmed/freellmapi#80",
        {"max_tokens": 9000},
        refusing(None, "max_tokens must be between 1 and 4096 as `max_tokens` is limited"),
    ),
    ("JetBrains/koog#786", {"tools": [TOOL]}, refusing("tools", "tools is not supported on this model")),
    ("huggingface/huggingface.js#2268", {"stop": ["x"]}, refusing(None, "stop: property 'stop' is unsupported")),
]


@pytest.mark.parametrize(("source", "fields", "reply"), PASSED_ON, ids=[row[0] for row in PASSED_ON])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_chain_goes_on_where_a_vendor_refuses_a_field_by_name(
    chain: Field,
    source: str,
    fields: dict[str, Any],
    reply: Any,  # noqa: ANN401 - any vendor's
    streamed: bool,
) -> None:
    chain.servers["azure"].script.append(reply)
    answer = chain.chat("sota", stream=streamed, **fields)
    assert answer["statusCode"] == 200, (source, answer["body"])
    assert (answer["headers"]["x-fusewire-provider"], answer["headers"]["x-fusewire-attempts"]) == ("vllm", "2")
    assert "x-fusewire-dropped" not in answer["headers"]


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        ("BerriAI/litellm#8789", refusing("messages[0].content", "Invalid value", "invalid_value")),
        ("BerriAI/litellm#8789", refusing(None, "We could not parse the JSON body of your request.", "")),
        ("BerriAI/litellm#40406", refusing("prompt", "filtered", "content_filter")),
        ("BerriAI/litellm#8789", refusing("temperature", "not a field that was asked for", "invalid_value")),
    ],
)
def test_an_unknown_400_and_a_policys_end_the_call(chain: Field, source: str, reply: Any) -> None:  # noqa: ANN401
    chain.servers["azure"].script.append(reply)
    answer = chain.chat("sota", user="u")
    assert answer["statusCode"] == 400, source
    assert not chain.requests("vllm")


def test_where_nobody_else_is_left_a_preference_is_left_out(field: Field) -> None:
    """johny-b/llmcomp#69, with one provider."""
    field.servers["openai"].script.append(refusing("temperature", "Unsupported value: 'temperature'"))
    answer = field.chat("openai/gpt-5.4", temperature=0, user="u")
    assert answer["statusCode"] == 200
    assert answer["headers"]["x-fusewire-dropped"] == "temperature"
    first, second = field.requests("openai")
    assert first["temperature"] == 0 and "temperature" not in second and second["user"] == "u"


def test_and_a_hint_at_bedrock_and_elsewhere(field: Field) -> None:
    """BerriAI/litellm#13609: the model refuses what Converse has passed on."""
    words = "The model returned the following errors: reasoning: Extra inputs are not permitted"
    field.servers["aws"].script.append(bedrock_error(400, "ValidationException", words))  # type: ignore[arg-type]
    answer = field.chat("aws/amazon.nova-2-lite-v1:0", reasoning_effort="low")
    assert (answer["statusCode"], answer["headers"]["x-fusewire-dropped"]) == (200, "reasoning_effort")


def test_what_changes_the_meaning_is_not_left_out(field: Field) -> None:
    """vllm-project/vllm#39741 in spirit: without its tools the answer would be another."""
    field.servers["openai"].script.append(refusing("tools", "no tools here"))
    answer = field.chat("openai/gpt-4.1", tools=[TOOL])
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["param"], error["message"]) == (400, "tools", "no tools here")
    assert len(field.requests("openai")) == 1


def test_a_preference_passes_over_to_who_has_it(field: Field) -> None:
    """jentic/standard-agent#31: gpt-5 takes no temperature, and the next one does."""
    field.functions.set(AI_FALLBACK_CHAIN="openai,vllm")
    answer = field.chat("sota", temperature=0.2)
    assert answer["headers"]["x-fusewire-provider"] == "vllm"
    assert field.requests("vllm")[-1]["temperature"] == 0.2
    assert field.chat("sota", temperature=1)["headers"]["x-fusewire-provider"] == "openai"


# (source, what the only provider answers, x-should-retry, Retry-After)
RETRIES: list[tuple[str, Any, str, str | None]] = [
    ("karthink/gptel#1026", status(429), "true", None),
    ("earendil-works/pi#9595", status(429, {"retry-after": "30"}), "true", "30"),
    ("lidge-jun/opencodex#865", status(429, {"retry-after-ms": "2500"}), "true", "3"),
    ("kxxt/chatgpt-action#13", status(503), "true", None),
    ("openai/openai-python: 500 is retried", status(500), "true", None),
    ("anthropics/anthropic-sdk-python: 529 is retried", status(529), "true", None),
    ("earendil-works/pi#4991", status(429, error={"code": "insufficient_quota"}), "false", None),
    ("scalaone/azure-openai-proxy#26", status(401), "false", None),
]


@pytest.mark.parametrize(("source", "reply", "retry", "after"), RETRIES, ids=[row[0] for row in RETRIES])
def test_a_failure_that_passes_is_retryable_as_at_the_vendor(
    field: Field,
    source: str,
    reply: Any,  # noqa: ANN401 - any vendor's
    retry: str,
    after: str | None,
) -> None:
    server = field.servers["openai"]
    assert isinstance(server, Upstream)
    field.heal()
    server.script.append(reply)
    answer = field.chat("openai/gpt-4.1")
    assert answer["statusCode"] == 503, source
    assert answer["headers"]["x-should-retry"] == retry
    assert answer["headers"].get("Retry-After") == after
    field.heal()


def test_a_silence_is_retryable_too(field: Field) -> None:
    """BerriAI/litellm#3274: the only deployment timed out."""
    field.functions.set(AI_REQUEST_TIMEOUT_SECONDS="1")
    field.servers["openai"].script.append(hang(5))  # type: ignore[arg-type]
    answer = field.chat("openai/gpt-4.1")
    assert answer["statusCode"] in (503, 504)
    field.heal()
