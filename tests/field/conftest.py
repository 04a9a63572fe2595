"""One gateway over every vendor, for all reports: the real handlers, over vendors that judge what they get."""

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from fusewire.ai.permissions import Permissions
from fusewire.http.identity import Identity
from tests.conftest import as_app_role, cloned
from tests.field import vendors
from tests.integration.functions.conftest import Functions, as_caller, make_key, sample
from tests.support.anthropic_vendor import Vendor, running_vendor
from tests.support.bedrock_vendor import Bedrock, running_bedrock
from tests.support.upstream import Upstream, running_upstream
from tests.support.wires import VertexWire

PRICE = {
    "input_mtok": 1,
    "output_mtok": 2,
    "cached_input_mtok": 1,
    "cache_write_mtok": 1.25,
    "cache_write_1h_mtok": 2,
}
ABSENT = "(absent)"
GPT, GPT5, OWN, QWEN = "openai/gpt-4.1", "openai/gpt-5", "openai/our-model", "vllm/qwen3"
LLAMA, GEMINI = "ollama/llama", "gcp/gemini-3.8-flash"
CLAUDE, OLD_CLAUDE = "anthropic/claude-opus-5-5", "anthropic/claude-sonnet-4-5"
NOVA, BEDROCK_CLAUDE = "aws/amazon.nova-2-lite-v1:0", "aws/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"

LONG_CONTEXT = (
    "azure/gpt-5.4",
    *(f"openai/{name}" for name in ("gpt-5.4", "gpt-5.4-mini", "gpt-5.5")),
    *(f"openai/{name}" for name in ("gpt-5.6", "gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna")),
    *(f"openai/{name}" for name in ("gpt-6-sol", "gpt-6-astra")),
)


@dataclass(frozen=True)
class Report:
    """One public report: where it stands, what a client sends in it, and what is right."""

    source: str
    """`owner/repository#number`."""
    to: str
    """The model that is asked."""
    sent: Mapping[str, Any]
    """The request's fields, beside a model and a message."""
    status: int = 200
    upstream: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the vendor gets: by a dotted path a value, or ABSENT."""
    answer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the client gets, likewise."""
    dropped: tuple[str, ...] = ()
    """What the client is told was left out."""
    script: tuple[Any, ...] = ()
    """What the vendor answers instead of its own."""
    streamed: bool = False


def at(value: Any, path: str) -> Any:  # noqa: ANN401 - JSON
    """What stands at a dotted path."""
    for part in path.split("."):
        if isinstance(value, list) and part.lstrip("-").isdigit():
            value = value[int(part)] if -len(value) <= int(part) < len(value) else ABSENT
        else:
            value = value.get(part, ABSENT) if isinstance(value, dict) else ABSENT
    return value


@dataclass
class Field:
    """The gateway and its vendors."""

    functions: Functions
    servers: dict[str, Upstream | Vendor | Bedrock]
    database_url: str

    def requests(self, provider: str) -> list[dict[str, Any]]:
        return self.servers[provider].requests

    def call(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        answer = self.functions.load(function).handler(event, Context())
        return answer if isinstance(answer, dict) else answer.buffered()

    def chat(self, model: str, **fields: object) -> dict[str, Any]:
        """A chat completion, from API Gateway's event to its answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}
        return self.call("complete", sample("complete", body))

    def chat_as(self, key: str, model: str, *, allowed_models: tuple[str, ...]) -> dict[str, Any]:
        """The same of a caller whose key the authorizer has let in, and which may ask for these models alone."""
        self.make_key()
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        identity = Identity(key, frozenset({"complete"}), Permissions(allowed_models))
        return self.call("complete", as_caller(identity, sample("complete", body)))

    def make_key(self, name: str = "key_field", scopes: Collection[str] = ("complete",)) -> None:
        """A key whose secret is `fw_` and its id, where it isn't there yet."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute("SELECT FROM api_key WHERE id = %s", [name]).fetchone()
        if found is None:
            make_key(self.database_url, id=name, name=name, scopes=[*scopes])

    @staticmethod
    def context() -> "Context":
        return Context()

    def heal(self) -> None:
        """As if no provider had ever failed."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute("DELETE FROM provider_health")

    def forget(self) -> None:
        for server in self.servers.values():
            for seen in (server.requests, server.headers, server.script):
                seen.clear()


@dataclass
class Context:
    aws_request_id: str = "lambda-request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def check(field: Field, report: Report) -> None:
    """:raises AssertionError: where the gateway doesn't do what is right"""
    provider = report.to.partition("/")[0]
    server = field.servers[provider]
    server.script.extend(report.script)
    if isinstance(server, Bedrock) and not report.script:
        server.script.append(vendors.judging_converse)
    answer = field.chat(report.to, **{"stream": True, **report.sent} if report.streamed else report.sent)
    body = answer["body"] if report.streamed else json.loads(answer["body"])
    assert answer["statusCode"] == report.status, body
    if report.status == 200:
        sent = field.requests(provider)[-1]
        for path, value in report.upstream.items():
            assert at(sent, path) == value, (path, sent)
        dropped = answer["headers"].get("x-fusewire-dropped", "")
        assert tuple(filter(None, dropped.split(", "))) == report.dropped
    for path, value in report.answer.items():
        assert at(body, path) == value, (path, body)


@pytest.fixture(scope="module")
def lasting_field(postgres: str, template: str) -> Iterator[Field]:
    """Every vendor configured, with prices, and no keys asked for."""
    with (
        cloned(postgres, template) as url,
        running_upstream() as azure,
        running_upstream() as openai,
        running_upstream() as vllm,
        running_upstream() as ollama,
        running_vendor() as anthropic,
        running_bedrock() as bedrock,
        VertexWire.running() as google,
        pytest.MonkeyPatch.context() as patch,
    ):
        azure.otherwise = openai.otherwise = vendors.judging(vendors.openai)
        vllm.otherwise = ollama.otherwise = vendors.judging(vendors.template)
        google.server.otherwise = vendors.judging(vendors.vertex)
        variables = {
            "DATABASE_URL": as_app_role(url),
            "AUTH_MODE": "open",
            "AI_MODE": "hybrid",
            "AI_MONTHLY_BUDGET_USD": "1000000",
            "AI_PRICE_OVERRIDES": json.dumps(
                dict.fromkeys(("azure/*", "openai/*", "gcp/*", "anthropic/*", NOVA), PRICE)
                # A long input costs more of them, which such a price would leave out.
                | {name: {"multiply": 1} for name in (OLD_CLAUDE, *LONG_CONTEXT)}
            ),
            "AZURE_AI_ENDPOINT": azure.url.removesuffix("/v1"),
            "AZURE_AI_API_KEY": "key",
            "AZURE_SOTA_DEPLOYMENT": "gpt-4.1",
            "AZURE_EMBEDDING_DEPLOYMENT": "text-embedding-3-small",
            "OPENAI_BASE_URL": openai.url,
            "OPENAI_API_KEY": "key",
            "OPENAI_SOTA_MODEL": "gpt-5",
            "VLLM_BASE_URL": vllm.url,
            "VLLM_MODEL": "qwen3",
            "VLLM_EMBEDDING_MODEL": "bge-m3",
            "OLLAMA_BASE_URL": ollama.url,
            "OLLAMA_SOTA_MODEL": "llama",
            "OLLAMA_EMBEDDING_MODEL": "nomic-embed-text",
            "ANTHROPIC_BASE_URL": anthropic.url,
            "ANTHROPIC_API_KEY": "key",
            "ANTHROPIC_SOTA_MODEL": "claude-opus-5-5",
            "AWS_REGION": "eu-west-1",
            "AWS_BEDROCK_SOTA_MODEL": "amazon.nova-2-lite-v1:0",
            "AWS_BEDROCK_ENDPOINT_URL": bedrock.url,
            "GCP_PROJECT_ID": "a-project",
            "GCP_LOCATION": "europe-west4",
            "GCP_BASE_URL": google.url,
            "GCP_SOTA_MODEL": "gemini-3.8-flash",
        }
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        own = {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        functions = Functions(patch, variables | own | google.environment)
        functions.forget()
        servers: dict[str, Upstream | Vendor | Bedrock] = {
            "azure": azure, "openai": openai, "vllm": vllm, "ollama": ollama, "anthropic": anthropic, "aws": bedrock,
            "gcp": google.server,
        }  # fmt: skip
        yield Field(functions, servers, url)
        functions.forget()


@pytest.fixture
def field(lasting_field: Field) -> Iterator[Field]:
    """The same, with nothing asked of anybody yet."""
    lasting_field.forget()
    before = dict(lasting_field.functions.variables)
    yield lasting_field
    if lasting_field.functions.variables != before:
        lasting_field.functions.forget()
        lasting_field.functions.variables.clear()
        lasting_field.functions.variables.update(before)
