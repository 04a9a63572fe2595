"""Vertex's addresses, and every field in the words of its list; the wire is in tests/integration/ai/test_gcp.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fusewire.ai.providers.vertex.provider import GcpProvider
from fusewire.ai.schema import ChatRequest, EmbeddingRequest
from fusewire.config import ConfigurationError, load_settings

LAYER = Path(__file__).parents[5] / "layers/core/python"
PLACE = {"GCP_PROJECT_ID": "p", "GCP_LOCATION": "europe-west4"}
HELLO = [{"role": "user", "content": "Hello"}]
MODEL = "gemini-3.8-flash"


def provider(**variables: str) -> GcpProvider:
    return GcpProvider(load_settings({**PLACE, **variables}))


def asked(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps({"model": "sota", "messages": HELLO, **fields}))


def body(model: str = MODEL, **fields: object) -> dict[str, Any]:
    return provider().body(asked(**fields), model, 64)


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ("GCP_PROJECT_ID", "GCP_LOCATION", "GCP_SOTA_MODEL")),
        (PLACE, ("GCP_SOTA_MODEL",)),
        ({**PLACE, "GCP_EMBEDDING_MODEL": "m"}, ()),
        ({"GCP_PROJECT_ID": "p", "GCP_SOTA_MODEL": "m"}, ("GCP_LOCATION",)),
    ],
)
def test_it_is_configured_by_a_project_a_location_and_a_model(
    variables: dict[str, str], missing: tuple[str, ...]
) -> None:
    assert GcpProvider(load_settings(variables)).missing() == missing


POOL = "projects/123456/locations/global/workloadIdentityPools/fusewire/providers/aws-lambda"


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ("GCP_WORKLOAD_IDENTITY_PROVIDER",)),
        ({"GCP_WORKLOAD_IDENTITY_PROVIDER": POOL}, ()),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/opt/a.json"}, ()),
    ],
)
def test_on_lambda_it_needs_to_be_told_who_trusts_its_role(variables: dict[str, str], missing: tuple[str, ...]) -> None:
    on_lambda = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "GCP_SOTA_MODEL": "m"}
    assert provider(**on_lambda, **variables).missing() == missing


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GCP_WORKLOAD_IDENTITY_PROVIDER", POOL + "/"),
        ("GCP_WORKLOAD_IDENTITY_PROVIDER", f"//iam.googleapis.com/{POOL}"),
        ("GCP_WORKLOAD_IDENTITY_PROVIDER", POOL.replace("aws-lambda", "aws")),
        ("GCP_WORKLOAD_IDENTITY_PROVIDER", POOL.replace("123456", "a-project")),
        ("GCP_SERVICE_ACCOUNT", "someone@example.com"),
        ("GCP_SERVICE_ACCOUNT", "a/b@p.iam.gserviceaccount.com"),
        ("GCP_SERVICE_ACCOUNT", "a@p.iam.gserviceaccount.com:generateIdToken?"),
    ],
)
def test_a_pool_or_an_account_that_can_be_none_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        provider(**{name: value})


def test_only_with_a_pool_is_google_auths_federation_imported() -> None:
    module = "fusewire.ai.providers.vertex.federation"
    assert module not in provider().sdk
    assert module in provider(GCP_WORKLOAD_IDENTITY_PROVIDER=POOL).sdk
    script = (
        "import sys\n"
        "from fusewire.ai.providers.vertex.provider import GcpProvider\n"
        "from fusewire.config import load_settings\n"
        f"GcpProvider(load_settings({PLACE!r})).make_client().close()\n"
        "print(sorted({'botocore', 'boto3', 'google.auth.aws'} & sys.modules.keys()))\n"
    )
    output = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], env={"PYTHONPATH": str(LAYER)}, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


WHOLE = "http://gateway.invalid/v1/projects/p/locations/europe-west4/endpoints/openapi"


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/openapi"),
        ({"GCP_LOCATION": "global"}, "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi"),
        ({"GCP_LOCATION": "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/endpoints/openapi"),
        ({"GCP_LOCATION": "us"}, "https://aiplatform.us.rep.googleapis.com/v1/projects/p/locations/us/endpoints/openapi"),
        ({"GCP_BASE_URL": "http://gateway.invalid"}, WHOLE),
        ({"GCP_BASE_URL": "http://gateway.invalid/"}, WHOLE),
        ({"GCP_BASE_URL": "http://gateway.invalid/v1"}, WHOLE),
        ({"GCP_BASE_URL": WHOLE}, WHOLE),
    ],
)  # fmt: skip
def test_the_address_follows_the_settings(variables: dict[str, str], address: str) -> None:
    assert provider(**variables).base_url() == address
    with provider(**variables).make_client() as client:
        assert str(client.base_url) == address + "/"
        assert client.max_retries == 0


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "other"}}
STRICT = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}
NAMED = {"type": "function", "function": {"name": "weather"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True}}

# (fields of the request, what the body holds of them; None: nothing)
MAPPED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": f"google/{MODEL}", "max_tokens": 64, "messages": HELLO}),
    ({"max_completion_tokens": 9}, {"max_tokens": 64, "max_completion_tokens": None}),
    ({"temperature": 1.5, "top_p": 0.5}, {"temperature": 1.5, "top_p": 0.5}),
    ({"n": 2, "stop": ["x"], "seed": 7}, {"n": 2, "stop": ["x"], "seed": 7}),
    ({"presence_penalty": 0.5, "frequency_penalty": 0.25}, {"presence_penalty": 0.5, "frequency_penalty": 0.25}),
    ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
    ({"response_format": SCHEMA}, {"response_format": SCHEMA}),
    ({"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": None}),
    ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL], "tool_choice": "auto"}),
    ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": "none"}),
    ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "required"}),
    ({"tools": [OTHER, TOOL], "tool_choice": NAMED}, {"tools": [TOOL], "tool_choice": "required"}),
    ({"tools": [STRICT, OTHER]}, {"tools": [TOOL, OTHER], "tool_choice": "validated"}),
    ({"tools": [STRICT], "tool_choice": "auto"}, {"tools": [TOOL], "tool_choice": "validated"}),
    ({"tools": [STRICT], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "required"}),
    ({"tools": [STRICT], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": "none"}),
    ({"tools": [TOOL], "parallel_tool_calls": True}, {"tools": [TOOL], "parallel_tool_calls": None}),
    (
        {"user": "u", "logit_bias": {"1": 2.0}, "verbosity": "low"},
        {"user": None, "logit_bias": None, "verbosity": None},
    ),
    ({"safety_identifier": "s", "prompt_cache_key": "k"}, {"safety_identifier": None, "prompt_cache_key": None}),
    ({"metadata": {"a": "b"}}, {"metadata": None}),
]


@pytest.mark.parametrize(("fields", "expected"), MAPPED)
def test_a_field_is_said_in_vertexs_words(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    result = body(**fields)
    assert {name: result.get(name) for name in expected} == expected


LISTED = {
    "messages", "model", "max_tokens", "max_completion_tokens", "n", "frequency_penalty", "presence_penalty",
    "reasoning_effort", "response_format", "seed", "stop", "stream", "temperature", "top_p", "tools", "tool_choice",
}  # fmt: skip


@pytest.mark.parametrize("fields", [fields for fields, _ in MAPPED])
def test_nothing_travels_that_vertex_would_ignore_in_silence(fields: dict[str, Any]) -> None:
    assert body(**fields).keys() <= LISTED


def image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}]


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({}, ()),
        ({"parallel_tool_calls": False, "tools": [TOOL]}, ()),
        ({"logprobs": True}, ("logprobs",)),
        ({"reasoning_effort": "high"}, ()),
        ({"reasoning_effort": "none"}, ("reasoning_effort",)),
        ({"reasoning_effort": "xhigh"}, ("reasoning_effort",)),
        ({"messages": image("data:image/png;base64,iVBORw0KGgo=")}, ()),
        ({"messages": image("data:image/heic;base64,AAAA")}, ()),
        ({"messages": image("data:image/gif;base64,AAAA")}, ("messages",)),
        ({"messages": image("data:image/png;video/mp4;base64,AAAA")}, ("messages",)),
        ({"messages": image("gs://bucket/cat.png")}, ("messages",)),
        ({"messages": image("https://example.invalid/cat.png")}, ("messages",)),
        ({"messages": image("http://169.254.169.254/")}, ("messages",)),
        ({"messages": image("file:///etc/passwd")}, ("messages",)),
    ],
)
def test_what_vertex_would_ignore_is_named(fields: dict[str, Any], params: tuple[str, ...]) -> None:
    assert provider().unsupported(asked(**fields)) == params


def test_other_publishers_models_keep_their_names() -> None:
    assert body("meta/llama-4-maverick")["model"] == "meta/llama-4-maverick"
    assert body("google/gemini-3.8-flash")["model"] == "google/gemini-3.8-flash"


def test_messages_in_vertexs_words() -> None:
    request = asked(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hello", "name": "ann"},
            {"role": "assistant", "content": None, "refusal": "No.", "reasoning_content": "Hm."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Still no."}]},
            {"role": "user", "content": "Please."},
        ]
    )
    assert provider().body(request, MODEL, 1)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "No."},
        {"role": "assistant", "content": [{"type": "text", "text": "Still no."}]},
        {"role": "user", "content": "Please."},
    ]
    assert provider().dropped(request) == ("messages.name", "reasoning_content")


def test_advisory_fields_are_told_as_dropped() -> None:
    request = asked(user="u", seed=7, logit_bias={"1": 2.0})
    assert provider().dropped(request) == ("logit_bias", "user")
    assert provider().dropped(EmbeddingRequest(model="m", input="a", user="u")) == ("user",)


def call(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("model", "signed"),
    [
        ("gemini-3.8-flash", True),
        ("google/gemini-3-pro-preview", True),
        ("gemini-4-argon", True),
        ("gemini-flash-latest", True),
        ("gemini-2.5-pro", False),
        ("gemini-2.0-flash", False),
        ("meta/llama-4-maverick", False),
    ],
)
def test_calls_whose_signature_is_lost_say_so_where_gemini_insists(model: str, signed: bool) -> None:
    conversation = [*HELLO, {"role": "assistant", "tool_calls": [call("a"), call("b")]}]
    conversation += [{"role": "tool", "tool_call_id": id_, "content": "x"} for id_ in "ab"]
    first, second = body(model, messages=conversation, tools=[TOOL])["messages"][1]["tool_calls"]
    lost = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert first.get("extra_content") == (lost if signed else None)
    assert "extra_content" not in second, "the first of parallel calls bears the signature"


def test_a_signature_travels_as_it_came() -> None:
    signed = {**call("a"), "extra_content": {"google": {"thought_signature": "c2ln"}}}
    conversation = [*HELLO, {"role": "assistant", "tool_calls": [signed, call("b")]}]
    conversation += [{"role": "tool", "tool_call_id": id_, "content": "x"} for id_ in "ab"]
    request = asked(messages=conversation, tools=[TOOL])
    assert provider().body(request, MODEL, 1)["messages"][1]["tool_calls"] == [signed, call("b")]
    assert provider().dropped(request) == ()


def test_a_cache_mark_is_told_as_dropped() -> None:
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    request = asked(messages=[{"role": "user", "content": [part]}])
    assert provider().dropped(request) == ("cache_control",)
    assert provider().body(request, MODEL, 1)["messages"][0]["content"] == [{"type": "text", "text": "a"}]


def test_naming_it_imports_no_sdk() -> None:
    script = (
        "import sys\n"
        "from fusewire.ai.providers.vertex.provider import GcpProvider\n"
        "from fusewire.config import load_settings\n"
        "GcpProvider(load_settings({'GCP_LOCATION': 'global'})).missing()\n"
        "print(sorted({'boto3', 'openai', 'httpx2', 'google', 'google.auth'} & sys.modules.keys()))\n"
    )
    output = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], env={"PYTHONPATH": str(LAYER)}, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
