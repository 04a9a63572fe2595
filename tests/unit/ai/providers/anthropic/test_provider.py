"""Anthropic's provider: addresses, credentials, what it declares of itself, and when its SDK is imported."""

import os
import subprocess
import sys
from typing import Any

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.schema import EmbeddingRequest
from fusewire.config import ConfigurationError, load_settings
from tests.unit.ai.providers.anthropic.requests import NEW, OLD, PNG, USER, request

KEY = "sentinel-key-c2d9"
TIMES = Timeouts(connect=1, first=1, total=1)


def made(**variables: str) -> AnthropicProvider:
    return AnthropicProvider(load_settings(variables))


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (None, "https://api.anthropic.com"),
        ("http://proxy.invalid", "http://proxy.invalid"),
        ("http://proxy.invalid/", "http://proxy.invalid"),
        ("http://proxy.invalid/v1", "http://proxy.invalid"),
        ("https://proxy.invalid/anthropic/v1/", "https://proxy.invalid/anthropic"),
        ("https://proxy.invalid/v1beta", "https://proxy.invalid/v1beta"),
    ],
)
def test_the_address_follows_the_settings(given: str | None, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK reads this by itself; the settings' word is the only one that counts.
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://elsewhere.invalid")
    variables = {"ANTHROPIC_API_KEY": KEY} | ({} if given is None else {"ANTHROPIC_BASE_URL": given})
    with made(**variables).make_client() as client:
        assert str(client.base_url).rstrip("/") == address
        assert client.max_retries == 0
        assert client.api_key == KEY


def test_without_a_key_no_other_one_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    with made(ANTHROPIC_BASE_URL="http://proxy.invalid").make_client() as client:
        assert client.auth_headers == {"Authorization": "Bearer none"}


def test_an_endpoint_that_is_no_address_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="ANTHROPIC_BASE_URL"):
        made(ANTHROPIC_BASE_URL="proxy.invalid")


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ("ANTHROPIC_API_KEY",)),
        ({"ANTHROPIC_API_KEY": KEY}, ()),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://proxy.invalid"}, ("ANTHROPIC_SOTA_MODEL",)),
        ({"ANTHROPIC_COST_EFFECTIVE_MODEL": OLD}, ("ANTHROPIC_API_KEY",)),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_COST_EFFECTIVE_MODEL": OLD}, ()),
        ({"ANTHROPIC_BASE_URL": "http://proxy.invalid", "ANTHROPIC_SOTA_MODEL": NEW}, ()),
    ],
)
def test_what_is_missing(variables: dict[str, str], missing: tuple[str, ...]) -> None:
    assert made(**variables).missing() == missing


def test_its_models() -> None:
    provider = made(ANTHROPIC_SOTA_MODEL=NEW, ANTHROPIC_COST_EFFECTIVE_MODEL=OLD)
    assert (provider.tier_model("sota"), provider.tier_model("cost_effective")) == (NEW, OLD)
    assert provider.embedding_model() is None
    assert not provider.local


def test_embeddings_are_declined_without_a_call() -> None:
    with pytest.raises(ProviderFailure) as caught:
        made().embed(EmbeddingRequest(model="anthropic/x", input="Hello"), "x", TIMES)
    assert caught.value.kind is FailureKind.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({}, ()),
        ({"n": 2}, ("n",)),
        ({"logprobs": True}, ("logprobs",)),
        ({"response_format": {"type": "json_object"}}, ("response_format",)),
        ({"n": 2, "logprobs": True}, ("n", "logprobs")),
    ],
)
def test_what_no_claude_can(fields: dict[str, object], params: tuple[str, ...]) -> None:
    assert made().unsupported(request(**fields)) == params
    assert made().unsupported(request(**fields), NEW) == params


@pytest.mark.parametrize(
    ("model", "fields", "params"),
    [
        (NEW, {"temperature": 0.2}, ("temperature",)),
        (OLD, {"temperature": 0.2}, ()),
        (NEW, {"stop": " "}, ("stop",)),
        (NEW, {"temperature": 0.2, "n": 2}, ("n",)),
        (NEW, {"reasoning_effort": "minimal"}, ("reasoning_effort",)),
        (NEW, {"messages": [USER, {"role": "assistant", "content": "Once"}]}, ("messages",)),
    ],
)
def test_what_this_claude_cannot(model: str, fields: dict[str, object], params: tuple[str, ...]) -> None:
    assert made().unsupported(request(**fields), model) == params


@pytest.mark.parametrize("streamed", [False, True])
def test_a_field_that_came_through_all_the_same_is_the_callers_mistake(streamed: bool) -> None:
    provider = made()
    with pytest.raises(ProviderFailure, match="anthropic") as caught:
        if streamed:
            list(provider.stream(request(temperature=0.2), NEW, 9, TIMES))
        else:
            provider.complete(request(temperature=0.2), NEW, 9, TIMES)
    assert (caught.value.kind, caught.value.param) == (FailureKind.REJECTED_REQUEST, "temperature")
    assert caught.value.caller_message is not None


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ()),
        ({"user": "u"}, ()),
        ({"user": "u", "safety_identifier": "s"}, ("user",)),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, ("messages.name",)),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]}
                ]
            },
            ("messages.image_url.detail",),
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "a", "reasoning_content": "hm"}, USER]},
            ("reasoning_content",),
        ),
    ],
)
def test_hints_without_a_place_are_named(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    assert made().dropped(request(**fields), NEW) == names


def test_advisory_fields_are_told_as_dropped() -> None:
    asked = request(
        seed=1, presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"1": 1}, prompt_cache_key="p",
        metadata={"a": "b"}, verbosity="low", user="u", safety_identifier="s",
        messages=[{"role": "user", "content": "x", "name": "Ann"}],
    )  # fmt: skip
    assert made().dropped(asked) == (
        "frequency_penalty", "logit_bias", "messages.name", "metadata", "presence_penalty", "prompt_cache_key", "seed",
        "user", "verbosity",
    )  # fmt: skip
    assert made().dropped(EmbeddingRequest(model="x", input="y", user="u")) == ()


@pytest.mark.parametrize(
    ("variables", "takes"),
    [
        ({}, True),
        ({"ANTHROPIC_BASE_URL": "https://api.anthropic.com/v1"}, True),
        ({"ANTHROPIC_BASE_URL": "https://gateway.example.org"}, False),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:8000"}, False),
    ],
)
def test_addresses_of_images_go_to_anthropic_alone(variables: dict[str, str], takes: bool) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = request(messages=[{"role": "user", "content": [part]}])
    assert made(**variables).unsupported(asked, NEW) == (() if takes else ("messages",))


def test_the_sdk_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, fusewire.ai.providers.anthropic.provider as module;"
        "module.AnthropicProvider(__import__('fusewire.config').config.load_settings({})).missing();"
        "assert not {'anthropic', 'openai', 'boto3', 'httpx2'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})  # noqa: S603


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-opus-5-5", {"service_tier": "standard_only", "inference_geo": "global"}),
        ("claude-opus-4-6", {"service_tier": "standard_only", "inference_geo": "global"}),
        # "Older models return a 400 error" (Anthropic, "Data residency").
        ("claude-haiku-4-5", {"service_tier": "standard_only"}),
        ("claude-sonnet-4-20250514", {"service_tier": "standard_only"}),
    ],
)
def test_the_list_price_is_asked_for_whatever_the_workspaces_settings(model: str, sent: dict[str, str]) -> None:
    body = made(ANTHROPIC_API_KEY=KEY).body(request(), model, 64)
    assert {name: body[name] for name in ("service_tier", "inference_geo") if name in body} == sent


def test_other_servers_are_not_sent_what_only_anthropic_has() -> None:
    body = made(ANTHROPIC_BASE_URL="http://proxy.invalid").body(request(), "claude-opus-5-5", 64)
    assert body.keys().isdisjoint({"service_tier", "inference_geo"})
