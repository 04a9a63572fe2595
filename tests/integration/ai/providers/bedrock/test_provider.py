"""boto3 itself against a server that speaks Bedrock's wire format: what is sent, and what comes back."""

import json
from pathlib import Path
from typing import Any

import pytest

from fusewire.ai.failures import ProviderFailure
from fusewire.ai.providers.bedrock.provider import AwsProvider
from tests.integration.ai.contract import CAP, TIMES, chat, embedding
from tests.integration.ai.providers.bedrock.cases import (
    HOWS,
    MODEL,
    TITAN,
    TOOL,
    K,
    failed,
    made,
    raw_answer,
    say,
)
from tests.support.bedrock_vendor import (
    Bedrock,
    Handler,
    running_bedrock,
    whole,
)
from tests.support.certificates import self_signed

pytestmark = pytest.mark.usefixtures("aws_credentials")


def test_chat(aws: AwsProvider, bedrock: Bedrock) -> None:
    response = aws.complete(chat(temperature=0.5, stop=["END"]), MODEL, CAP, TIMES)
    assert response.choices[0].message.content == "Paris."
    assert (response.id, response.model) == ("chatcmpl-request-7", MODEL)
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == bedrock.billed[0]
    assert bedrock.paths == [f"/model/{MODEL}/converse"]
    assert bedrock.requests == [
        {
            "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
            "inferenceConfig": {"maxTokens": CAP, "temperature": 0.5, "stopSequences": ["END"]},
            "serviceTier": {"type": "default"},
        }
    ]


def test_a_model_may_be_an_arn(aws: AwsProvider, bedrock: Bedrock) -> None:
    arn = f"arn:aws:bedrock:eu-west-1:123456789012:inference-profile/{MODEL}"
    assert aws.complete(chat(), arn, CAP, TIMES).model == arn
    assert bedrock.paths == [f"/model/{arn}/converse"]


def test_its_requests_are_signed_and_never_repeated(aws: AwsProvider, bedrock: Bedrock) -> None:
    aws.complete(chat(), MODEL, CAP, TIMES)
    (headers,) = bedrock.headers
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-west-1/bedrock/aws4_request" in headers["authorization"]
    assert "sentinel-secret" not in json.dumps(headers)
    assert headers["amz-sdk-request"] == "attempt=1; max=1"


def test_a_bedrock_api_key_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "sentinel-token")
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.certificate))
    with running_bedrock(certificate.context()) as secured:
        response = made(secured.url).complete(chat(), MODEL, CAP, TIMES)
    assert response.choices[0].message.content == "Paris."
    assert secured.headers[0]["authorization"] == "Bearer sentinel-token"


def test_stream(aws: AwsProvider, bedrock: Bedrock) -> None:
    chunks = list(aws.stream(chat(stream=True), MODEL, CAP, TIMES))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Paris."
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
    assert (usage.prompt_tokens, usage.completion_tokens) == bedrock.billed[0]
    assert bedrock.paths == [f"/model/{MODEL}/converse-stream"]


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_a_conversation_with_tools(aws: AwsProvider, bedrock: Bedrock, streamed: bool) -> None:
    if streamed:
        chunks = list(aws.stream(chat(stream=True, tools=[TOOL], tool_choice="required"), MODEL, CAP, TIMES))
        calls = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or ()]
        id_, arguments = calls[0].id, "".join((c.function and c.function.arguments) or "" for c in calls)
    else:
        response = aws.complete(chat(tools=[TOOL], tool_choice="required"), MODEL, CAP, TIMES)
        call = (response.choices[0].message.tool_calls or [])[0]
        id_, arguments = call.id, call.function.arguments
    assert (id_, json.loads(arguments)) == ("tooluse_1", {"city": "Paris"})
    conversation = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": id_, "type": "function", "function": {"name": "weather", "arguments": arguments}},
            ],
        },
        {"role": "tool", "tool_call_id": id_, "content": "sunny"},
    ]
    aws.complete(chat(messages=conversation, tools=[TOOL]), MODEL, CAP, TIMES)
    _, asked, answered = bedrock.requests[1]["messages"]
    assert asked["content"][0]["toolUse"]["input"] == {"city": "Paris"}
    assert answered["content"][0]["toolResult"]["toolUseId"] == asked["content"][0]["toolUse"]["toolUseId"]


def test_an_image_arrives_as_it_was(aws: AwsProvider, bedrock: Bedrock) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    aws.complete(chat(messages=[{"role": "user", "content": [part]}]), MODEL, CAP, TIMES)
    (block,) = bedrock.requests[0]["messages"][0]["content"]
    assert block == {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_choice_that_the_model_ignores_is_no_answer(
    aws: AwsProvider, bedrock: Bedrock, streamed: bool, choice: object
) -> None:
    bedrock.script.append(say("Paris.") if streamed else raw_answer([{"text": "Paris."}], "end_turn"))
    assert failed(aws, streamed, tools=[TOOL], tool_choice=choice).kind is K.FIELD_IGNORED


@pytest.mark.parametrize("stop", ["max_tokens", "guardrail_intervened"])
def test_a_forced_call_that_was_cut_off_or_filtered_is_an_answer(aws: AwsProvider, bedrock: Bedrock, stop: str) -> None:
    bedrock.script.append(raw_answer([{"text": "No."}], stop))
    response = aws.complete(chat(tools=[TOOL], tool_choice="required"), MODEL, CAP, TIMES)
    assert response.choices[0].finish_reason in ("length", "content_filter")


def test_one_client_and_one_connection_serve_many_calls(aws: AwsProvider, bedrock: Bedrock) -> None:
    seen = set()

    def noting(handler: Handler, body: dict[str, Any]) -> None:
        seen.add(handler.client_address)
        handler.reply(200, whole([{"text": "x"}], "end_turn", None))

    bedrock.script.extend([noting] * 5)
    for _ in range(5):
        aws.complete(chat(), MODEL, CAP, TIMES)
    assert len(seen) == 1
    assert len(aws._calls._clients) == 1


# --- embeddings ---


def test_titan_embeds_one_text_a_call(aws: AwsProvider, bedrock: Bedrock) -> None:
    response = aws.embed(embedding(input=["a", "bc"], dimensions=256), TITAN, TIMES)
    assert bedrock.requests == [{"inputText": "a", "dimensions": 256}, {"inputText": "bc", "dimensions": 256}]
    assert bedrock.paths == [f"/model/{TITAN}/invoke"] * 2
    assert [(item.index, item.embedding) for item in response.data] == [(0, [0.5, -0.25]), (1, [0.5, -0.25])]
    assert response.usage is not None
    assert response.usage.prompt_tokens == sum(tokens for tokens, _ in bedrock.billed) == 3


def test_cohere_embeds_96_texts_a_call(aws: AwsProvider, bedrock: Bedrock) -> None:
    response = aws.embed(embedding(input=["a" * (i % 7 + 1) for i in range(100)]), "cohere.embed-v4:0", TIMES)
    assert [len(request["texts"]) for request in bedrock.requests] == [96, 4]
    assert [item.embedding for item in response.data] == [[float(i % 7 + 1), -0.25] for i in range(100)]
    assert response.usage is not None
    assert response.usage.prompt_tokens == sum(tokens for tokens, _ in bedrock.billed)


# --- credentials and settings ---


def test_no_credentials_is_no_outage(bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    bare = made(bedrock.url)
    for how in HOWS:
        result = failed(bare, how)
        assert result.kind is K.CREDENTIAL_REJECTED
        assert "AWS_ACCESS_KEY_ID" in result.message
    assert bedrock.requests == []


def test_a_profile_that_does_not_exist(bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    result = failed(made(bedrock.url), "chat")
    assert result.kind is K.CREDENTIAL_REJECTED
    assert "AWS_PROFILE" in result.message


def test_a_region_that_is_none(bedrock: Bedrock) -> None:
    result = failed(made(bedrock.url, "not a region"), "chat")
    assert result.kind is K.CONNECT_FAILED
    assert "AWS_REGION" in result.message


def test_a_request_that_only_this_model_cannot_honour(aws: AwsProvider, bedrock: Bedrock) -> None:
    with pytest.raises(ProviderFailure) as caught:
        aws.complete(chat(temperature=0.5), "eu.anthropic.claude-opus-5-5", CAP, TIMES)
    assert (caught.value.kind, caught.value.param) == (K.REJECTED_REQUEST, "temperature")
    assert bedrock.requests == []
