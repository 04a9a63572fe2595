"""Reports of retries that didn't come, or came too soon: the only provider's passing failure, in every API format."""

import json
from typing import Any

import pytest

from tests.field.conftest import Field
from tests.integration.functions.conftest import sample
from tests.support import anthropic_vendor, bedrock_vendor, upstream

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("complete", {"messages": [{"role": "user", "content": "Hello"}]}),
    "messages": ("complete_messages", {"max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}),
    "responses": ("complete_responses", {"input": "Hello"}),
}
GPT, CLAUDE, NOVA = "openai/gpt-4.1", "anthropic/claude-opus-5-5", "aws/amazon.nova-2-lite-v1:0"

# (source, the model, what its vendor answers, x-should-retry, Retry-After)
REPORTS: list[tuple[str, str, Any, str, str | None]] = [
    ("api7/aisix#144", GPT, upstream.status(429, {"retry-after": "30"}), "true", "30"),
    ("majiayu000/litellm-rs#833", GPT, upstream.status(429), "true", None),
    ("openai/openai-python: 500 is retried", GPT, upstream.status(500), "true", None),
    (
        "headroomlabs-ai/headroom#1495",
        CLAUDE,
        anthropic_vendor.status(529, "overloaded_error", {"retry-after": "7"}),
        "true",
        "7",
    ),
    ("huggingface/tau#333", CLAUDE, anthropic_vendor.status(529, "overloaded_error"), "true", None),
    ("agentscope-ai/QwenPaw#1891", CLAUDE, anthropic_vendor.status(500), "true", None),
    ("agentgateway/agentgateway#3329", CLAUDE, anthropic_vendor.status(429, "rate_limit_error"), "true", None),
    ("AWS, Common errors", NOVA, bedrock_vendor.error(429, "ThrottlingException"), "true", None),
    ("AWS, Common errors", NOVA, bedrock_vendor.error(503, "ServiceUnavailableException"), "true", None),
    ("AWS, Common errors", NOVA, bedrock_vendor.error(500, "InternalServerException"), "true", None),
    # What no waiting mends isn't tried again.
    ("earendil-works/pi#4991", GPT, upstream.status(429, error={"code": "insufficient_quota"}), "false", None),
    ("anthropics/claude-code#19028", CLAUDE, anthropic_vendor.status(401, "authentication_error"), "false", None),
]


@pytest.mark.parametrize("format", ASKED)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("source", "model", "reply", "retry", "after"), REPORTS, ids=[f"{n}-{row[0]}" for n, row in enumerate(REPORTS)]
)
def test_a_failure_that_passes_is_retryable_in_every_format(
    field: Field,
    source: str,
    model: str,
    reply: Any,  # noqa: ANN401 - any vendor's
    retry: str,
    after: str | None,
    format: str,
    streamed: bool,
) -> None:
    field.heal()
    field.servers[model.partition("/")[0]].script.append(reply)
    name, body = ASKED[format]
    answer = field.call("complete", sample(name, {"model": model, "stream": streamed, **body}))
    assert answer["statusCode"] == 503, source
    assert (answer["headers"]["x-should-retry"], answer["headers"].get("Retry-After")) == (retry, after)
    error = json.loads(answer["body"])
    assert error["error"]["message"]
    assert (error.get("type") == "error") == (format == "messages")
    field.heal()


@pytest.mark.parametrize("after", ["30", None])
def test_embeddings_too(field: Field, after: str | None) -> None:
    """api7/aisix#144."""
    field.heal()
    headers = {} if after is None else {"retry-after": after}
    field.servers["azure"].script.append(upstream.status(429, headers))  # type: ignore[arg-type]
    answer = field.call("embed", sample("embed", {"model": "azure/text-embedding-3-small", "input": "a"}))
    assert answer["statusCode"] == 503
    assert (answer["headers"]["x-should-retry"], answer["headers"].get("Retry-After")) == ("true", after)
    field.heal()
