"""Reports of base URLs, paths, keys and model names that a client brings along."""

import json
from typing import Any

import pytest

from tests.field.conftest import Field
from tests.integration.functions.conftest import sample


def asked(path: str, resource: str | None = None) -> dict[str, Any]:
    """The chat sample as it comes by this path."""
    body = {"model": "azure/gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
    return sample("complete", body) | {"path": path, "resource": resource or path}


PATHS = [
    ("BerriAI/litellm#8350", "/api/v1//chat/completions"),
    ("sipeed/picoclaw#133", "/v1//chat/completions"),
    ("Vivswan/litellm-vscode-chat#53", "//v1/chat/completions"),
    ("BerriAI/litellm#20812", "/v1/chat/completions/"),
    ("sigoden/aichat#767", "/v1/chat/completions"),
    ("lfnovo/esperanto#113", "/api/v1/chat//completions//"),
]


@pytest.mark.parametrize(("source", "path"), PATHS, ids=[row[0] for row in PATHS])
def test_a_base_urls_slashes_lead_where_they_should(field: Field, source: str, path: str) -> None:
    assert field.call("complete", asked(path))["statusCode"] == 200, source


@pytest.mark.parametrize(
    ("path", "scopes", "effect"),
    [
        ("/v1//chat/completions", {"complete"}, "Allow"),
        ("/v1//chat/completions", {"admin"}, "Deny"),
        ("/v1//models", {"admin"}, "Allow"),
        ("/v1//admin/keys", {"complete"}, "Allow"),  # to be told that it isn't there
        ("/v1/completions", {"complete"}, "Allow"),
    ],
)
def test_on_aws_a_slash_too_many_comes_by_the_route_for_whatever_is_no_other(
    field: Field, path: str, scopes: set[str], effect: str
) -> None:
    """The authorizer decides by what the path is once its slashes are one; the function that gets it has no admin's."""
    name = "key_" + "_".join(sorted(scopes))
    field.make_key(name, scopes)
    method = "GET" if path.endswith("models") else "POST"
    event = sample("authorizer") | {"httpMethod": method, "resource": "/v1/{proxy+}", "path": path}
    policy = field.functions.load("authorizer").handler(event | {"headers": {"api-key": f"fw_{name}"}}, field.context())
    assert policy["policyDocument"]["Statement"][0]["Effect"] == effect
    if "chat" not in path:
        answer = field.call("complete", asked(path, "/v1/{proxy+}"))
        assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("path", ["/api/v1//admin/keys", "/api/v1/admin//keys", "//api/v1/admin/keys"])
def test_what_is_for_admins_has_one_spelling(field: Field, path: str) -> None:
    answer = field.call("admin_keys", sample("admin_keys") | {"path": path})
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("path", ["/v1/completions", "/api/v1/completions"])
def test_the_legacy_completions_name_what_to_ask_instead(field: Field, path: str) -> None:
    """NousResearch/atropos#55: a 404 that said nothing."""
    answer = field.call("complete", asked(path))
    assert answer["statusCode"] == 404
    assert "POST /api/v1/chat/completions" in json.loads(answer["body"])["error"]["message"]


SHOWN = [
    ("azure/gpt-4.1", 200, "azure/gpt-4.1"),
    ("azure%2Fgpt-4.1", 200, "azure/gpt-4.1"),
    ("gpt-4.1", 200, "azure/gpt-4.1"),
    ("sota", 200, "sota"),
    ("bge-m3", 200, "vllm/bge-m3"),
    ("gpt-99", 404, None),
]


@pytest.mark.parametrize(("name", "status", "found"), SHOWN)
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_one_model_can_be_retrieved(field: Field, name: str, status: int, found: str | None, base: str) -> None:
    """kekzl/imp#1599: `models.retrieve()`, which clients check a name with."""
    answer = field.call(
        "models", sample("models") | {"path": f"{base}/models/{name}", "resource": f"{base}/models/{{id+}}"}
    )
    body = json.loads(answer["body"])
    assert answer["statusCode"] == status
    assert (body["id"], body["object"]) == (found, "model") if found else body["error"]["code"] == "model_not_found"


HEADERS = [
    ("BerriAI/litellm#4077", {"api-key": "fw_key_field"}),
    ("dongri/openai-api-rs#82", {"API-Key": " fw_key_field "}),
    ("bcgov/mds#3916", {"api-key": "fw_key_field", "Authorization": "Bearer fw_key_field"}),
    ("NousResearch/hermes-agent#28233", {"api-key": "fw_key_field", "Authorization": "Bearer entra-token"}),
    ("jeffdapaz/VisualChatGPTStudio#106", {"x-api-key": "fw_key_field"}),
]


@pytest.mark.parametrize(("source", "headers"), HEADERS, ids=[row[0] for row in HEADERS])
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_a_key_may_come_in_azures_header(field: Field, source: str, headers: dict[str, str], base: str) -> None:
    field.make_key()
    resource = f"{base}/chat/completions"
    event = sample("authorizer") | {"httpMethod": "POST", "resource": resource, "path": resource, "headers": headers}
    policy = field.functions.load("authorizer").handler(event, field.context())
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Allow", source
    assert policy["principalId"] == "key_field"


# (source, the name that a client has, what the setting says, who answers)
ALIASES = [
    ("stdapi-ai/stdapi.ai#151", "gpt-4o", {"gpt-4o": "sota"}, "azure"),
    ("fruitbars/simple-one-api#93", "gpt-4o-mini-2024-07-18", {"gpt-4o-mini*": "vllm/qwen3"}, "vllm"),
    (
        "BerriAI/litellm#203",
        "claude-sonnet-4-5",
        {"claude-sonnet-*": "claude-opus-5-5", "claude-*": "sota"},
        "anthropic",
    ),
]


@pytest.mark.parametrize(("source", "name", "aliases", "provider"), ALIASES, ids=[row[0] for row in ALIASES])
def test_a_clients_name_for_a_model_stands_for_another(
    field: Field, source: str, name: str, aliases: dict[str, str], provider: str
) -> None:
    field.functions.set(AI_MODEL_ALIASES=json.dumps(aliases), AI_FALLBACK_CHAIN="azure,vllm")
    answer = field.chat(name)
    assert answer["statusCode"] == 200, (source, answer["body"])
    assert answer["headers"]["x-fusewire-provider"] == provider


def test_a_keys_models_judge_what_a_name_stands_for(field: Field) -> None:
    """stdapi-ai/stdapi.ai#151: an alias opens nothing."""
    field.functions.set(AI_MODEL_ALIASES='{"gpt-4o": "sota", "mine": "vllm/qwen3"}', AI_FALLBACK_CHAIN="azure,vllm")
    for name in ("mine", "gpt-4o"):
        answer = field.chat_as("key_field", name, allowed_models=("vllm/*",))
        assert (answer["statusCode"], answer["headers"]["x-fusewire-provider"]) == (200, "vllm"), name
    for name, status in (("mine", 403), ("gpt-4o", 403)):
        assert field.chat_as("key_field", name, allowed_models=("mine", "gpt-4o"))["statusCode"] == status, name


def test_an_unknown_name_helps(field: Field) -> None:
    """stdapi-ai/stdapi.ai#151: the first thing that a new user sees."""
    field.functions.set(AI_MODE="local")
    error = json.loads(field.chat("gpt-4o")["body"])["error"]
    assert error["code"] == "model_not_found"
    for word in ("'gpt-4o'", "Available: sota", "vllm/qwen3", "AI_MODE=local keeps azure", "AI_MODEL_ALIASES"):
        assert word in error["message"], word
