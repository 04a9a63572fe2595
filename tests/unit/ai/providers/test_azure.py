"""Azure's two APIs: addresses, versions, deployments, and what each of them takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.schema import ChatRequest
from fusewire.config import ConfigurationError, load_settings

LAYER = Path(__file__).resolve().parents[4] / "layers/core/python"
KEY = {"AZURE_AI_API_KEY": "k"}
PLACE = {"AZURE_AI_ENDPOINT": "https://r.invalid", **KEY}
DATED = {**PLACE, "AZURE_AI_API_VERSION": "2024-10-21"}


def asked(**fields: object) -> ChatRequest:
    body = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ("AZURE_AI_ENDPOINT", "AZURE_AI_API_KEY", "AZURE_SOTA_DEPLOYMENT")),
        (KEY, ("AZURE_AI_ENDPOINT", "AZURE_SOTA_DEPLOYMENT")),
        ({**PLACE, "AZURE_EMBEDDING_DEPLOYMENT": "e"}, ()),
    ],
)
def test_it_is_configured_by_an_endpoint_a_key_and_a_deployment(
    variables: dict[str, str], missing: tuple[str, ...]
) -> None:
    assert AzureProvider(load_settings(variables)).missing() == missing


ENTRA = {"AZURE_TENANT_ID": "contoso.example", "AZURE_CLIENT_ID": "c"}
UNUSABLE = ("fusewire.ai.providers.entra", "fusewire.ai.providers.aws_identity")


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        (ENTRA, ()),
        ({"AZURE_TENANT_ID": "t"}, ("AZURE_CLIENT_ID",)),
        ({"AZURE_CLIENT_ID": "c"}, ("AZURE_TENANT_ID",)),
        ({"AZURE_CLIENT_ID": "c", **KEY}, ()),
    ],
)
def test_or_by_a_tenant_and_a_client_in_the_keys_place(variables: dict[str, str], missing: tuple[str, ...]) -> None:
    place = {"AZURE_AI_ENDPOINT": "https://r.invalid", "AZURE_SOTA_DEPLOYMENT": "d"}
    assert AzureProvider(load_settings({**place, **variables})).missing() == missing


def test_a_key_counts_before_a_tenant_and_a_client() -> None:
    provider = AzureProvider(load_settings({**PLACE, **ENTRA}))
    with provider.make_client() as client:
        assert client.default_headers["api-key"] == "k"
    assert "fusewire.ai.providers.entra" not in provider.sdk
    assert "fusewire.ai.providers.entra" in AzureProvider(load_settings(ENTRA)).sdk


@pytest.mark.parametrize("name", ENTRA)
@pytest.mark.parametrize("value", ["a/b", "..", "a b", "-", "a?b", "é"])
def test_a_tenant_or_a_client_that_can_be_none_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        AzureProvider(load_settings({**ENTRA, name: value}))


@pytest.mark.parametrize(
    ("endpoint", "authority", "scope"),
    [
        ("https://r.openai.azure.com", "https://login.microsoftonline.com/", "https://cognitiveservices.azure.com/"),
        ("https://r.openai.azure.us", "https://login.microsoftonline.us/", "https://cognitiveservices.azure.us/"),
        ("https://r.openai.azure.cn", "https://login.chinacloudapi.cn/", "https://cognitiveservices.azure.cn/"),
    ],
)
def test_each_cloud_of_azures_has_its_own_token_server(endpoint: str, authority: str, scope: str) -> None:
    tokens = AzureProvider(load_settings({**ENTRA, "AZURE_AI_ENDPOINT": endpoint}))._tokens
    assert tokens._url == f"{authority}contoso.example/oauth2/v2.0/token"
    assert tokens._scope == f"{scope}.default"


@pytest.mark.parametrize("variables", [PLACE, {**PLACE, **ENTRA}])
def test_by_key_nothing_of_entra_or_aws_is_imported(variables: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from fusewire.ai.providers.azure import AzureProvider\n"
        "from fusewire.config import load_settings\n"
        f"AzureProvider(load_settings({variables!r})).make_client().close()\n"
        f"print(sorted({{'botocore', 'boto3', *{UNUSABLE!r}}} & sys.modules.keys()))"
    )
    ran = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], env={"PYTHONPATH": str(LAYER)}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


V1 = "https://r.invalid/openai/v1/"


@pytest.mark.parametrize("version", [None, "v1", "latest", "preview"])
@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("https://r.invalid", V1),
        ("https://r.invalid/", V1),
        ("https://r.invalid/openai", V1),
        ("https://r.invalid/openai/", V1),
        ("https://r.invalid/openai/v1", V1),
        ("https://r.invalid/openai/v1/", V1),
        ("https://gateway.invalid/azure/v1", "https://gateway.invalid/azure/v1/"),
    ],
)
def test_the_v1_address(version: str | None, endpoint: str, address: str) -> None:
    variables = {**KEY, "AZURE_AI_ENDPOINT": endpoint, **({"AZURE_AI_API_VERSION": version} if version else {})}
    with AzureProvider(load_settings(variables)).make_client() as client:
        assert str(client.base_url) == address
        assert not isinstance(client, openai.AzureOpenAI)
        assert client.default_query == ({"api-version": "preview"} if version == "preview" else {})
        assert client.default_headers["api-key"] == "k"
        assert client.max_retries == 0


@pytest.mark.parametrize(
    "endpoint", ["https://r.invalid", "https://r.invalid/", "https://r.invalid/openai", "https://r.invalid/openai/v1/"]
)
@pytest.mark.parametrize("version", ["2024-10-21", "2024-09-01-preview", "2025-04-01-preview"])
def test_the_dated_address(endpoint: str, version: str) -> None:
    variables = {**KEY, "AZURE_AI_ENDPOINT": endpoint, "AZURE_AI_API_VERSION": version}
    with AzureProvider(load_settings(variables)).make_client() as client:
        assert isinstance(client, openai.AzureOpenAI)
        assert str(client.base_url) == "https://r.invalid/openai/"
        assert client.default_query == {"api-version": version}
        assert client.max_retries == 0


@pytest.mark.parametrize("version", ["2024-06-01", "2023-05-15", "v2", "2024-10", "today", "2024-10-21-beta"])
def test_a_version_that_is_none_or_cannot_be_metered_stops_the_start(version: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AzureProvider(load_settings({**PLACE, "AZURE_AI_API_VERSION": version}))
    assert f"AZURE_AI_API_VERSION={version!r}" in str(caught.value)
    assert "2024-09-01-preview" in str(caught.value)


def test_developers_messages_are_systems() -> None:
    messages = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    body = AzureProvider(load_settings(PLACE)).body(asked(messages=messages), "d", 1)["messages"]
    assert [message["role"] for message in body] == ["system", "system", "user"]


NEWER = {"safety_identifier": "s", "prompt_cache_key": "p", "verbosity": "low", "metadata": {"a": "b"}}


@pytest.mark.parametrize(("variables", "is_dated"), [(PLACE, False), (DATED, True)])
def test_fields_that_came_after_the_dated_versions(variables: dict[str, str], is_dated: bool) -> None:
    provider, request = AzureProvider(load_settings(variables)), asked(user="u", seed=7, **NEWER)
    body = provider.body(request, "d", 1)
    assert provider.dropped(request) == (tuple(sorted(NEWER)) if is_dated else ())
    assert {name for name in NEWER if name in body} == (set() if is_dated else set(NEWER))
    assert (body["user"], body["seed"], body["max_completion_tokens"]) == ("u", 7, 1)


BY_PROMPT = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
FILTERED = {"code": "content_filter", "message": BY_PROMPT, "param": "prompt", "innererror": {"code": "x"}}
TOO_LONG = {"code": None, "message": "This model's maximum context length is 8192 tokens, however you asked for more."}
INNER = {"code": "400", "message": "filtered", "innererror": {"code": "ResponsibleAIPolicyViolation"}}
FIREWALL = {"code": "403", "message": "Access denied due to Virtual Network/Firewall rules."}


@pytest.mark.parametrize(
    ("status", "error", "kind", "see"),
    [
        (400, FILTERED, FailureKind.PROMPT_REFUSED, ""),
        (400, INNER, FailureKind.CONTENT_POLICY, ""),
        (400, {"code": "context_length_exceeded", "param": "messages"}, FailureKind.INPUT_TOO_LONG, ""),
        (400, {"code": "string_above_max_length"}, FailureKind.INPUT_TOO_LONG, ""),
        (400, TOO_LONG, FailureKind.INPUT_TOO_LONG, ""),
        (400, {"code": "unsupported_value", "param": "temperature"}, FailureKind.FIELD_REFUSED, ""),
        (401, {"code": "401"}, FailureKind.CREDENTIAL_REJECTED, "AZURE_AI_API_KEY"),
        (403, FIREWALL, FailureKind.CREDENTIAL_REJECTED, "network rules"),
        (403, {"code": "AccessDenied"}, FailureKind.MODEL_DENIED, "AZURE_*_DEPLOYMENT"),
        (404, {"code": "DeploymentNotFound"}, FailureKind.MODEL_NOT_FOUND, "AZURE_*_DEPLOYMENT"),
        (404, {"code": "404", "message": "Resource not found"}, FailureKind.MODEL_NOT_FOUND, "AZURE_AI_API_VERSION"),
        (429, {"code": "insufficient_quota"}, FailureKind.OUT_OF_CREDIT, ""),
        (429, {"code": "RateLimitReached"}, FailureKind.RATE_LIMITED, ""),
    ],
)
def test_errors_name_the_setting_to_look_at(status: int, error: dict[str, Any], kind: FailureKind, see: str) -> None:
    request = httpx2.Request("POST", "https://r.invalid/")
    response = httpx2.Response(status, json={"error": error}, request=request)
    result = AzureProvider(load_settings(PLACE))._status_failure(
        openai.APIStatusError("told", response=response, body=error)
    )
    assert result.kind is kind
    assert see in result.message
    assert result.message.startswith("azure ") and f"HTTP {status}" in result.message


@pytest.mark.parametrize(
    ("version", "deployment", "asked_for", "sent"),
    [
        (None, "gpt-4o", None, "default"),
        ("preview", "our-deployment", "auto", "default"),
        ("2025-12-01", "gpt-4o", None, "default"),
        ("2025-10-01-preview", "gpt-4o", "priority", "priority"),
        (None, "gpt-4o", "fast", "priority"),
        (None, "gpt-4o", "flex", "flex"),
        # Neither older versions nor other vendors' models are known to take the field.
        ("2024-10-21", "gpt-4o", None, None),
        (None, "grok-4", None, None),
        (None, "DeepSeek-V3.2", "auto", None),
        (None, "gpt-oss-120b", None, None),
    ],
)
def test_the_default_service_tier_is_asked_for_where_it_is_known(
    version: str | None, deployment: str, asked_for: str | None, sent: str | None
) -> None:
    provider = AzureProvider(load_settings(PLACE | ({"AZURE_AI_API_VERSION": version} if version else {})))
    request = asked(**({"service_tier": asked_for} if asked_for else {}))
    assert provider.body(request, deployment, 64).get("service_tier") == sent


def test_an_older_version_has_no_other_tier() -> None:
    provider = AzureProvider(load_settings(DATED))
    assert provider.dropped(asked(service_tier="priority"), "gpt-4o") == ("service_tier",)


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("https://r.openai.azure.com", None),
        ("https://r.openai.azure.us/openai/v1", "Azure Government"),
        ("https://r.openai.azure.cn", "Azure China"),
    ],
)
def test_its_place_is_the_cloud_of_the_endpoint(endpoint: str, place: str | None) -> None:
    assert AzureProvider(load_settings({**KEY, "AZURE_AI_ENDPOINT": endpoint})).place() == place
