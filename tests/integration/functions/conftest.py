"""The handlers as Lambda runs them: loaded once under real settings, called with events from `events/`."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from fusewire.config import current_settings
from fusewire.core import core
from fusewire.http.app import StreamingResponse
from fusewire.http.identity import Identity
from fusewire.services import services
from tests.conftest import as_app_role
from tests.integration.ai.observing import Books, LogLines, logged, two_clouds
from tests.integration.functions.documented import assert_documented
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[3]
_numbers = count(1)
_SETTINGS = ("AI_", "AZURE_", "AWS_", "GCP_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "VLLM_", "LOG_LEVEL", "AUTH_MODE",
             "ADMIN_API_KEY", "CORS_ORIGINS", "DATABASE_URL", "POWERTOOLS_")  # fmt: skip


@dataclass
class Context:
    """Lambda's, as AWS's own client makes it: it can't stream."""

    aws_request_id: str = "lambda-request-1"
    remaining_ms: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass
class StreamingContext(Context):
    """And as our own loop makes it."""

    streams: bool = True


@dataclass
class Functions:
    """Loads `functions/<name>/app.py` afresh and calls its handler."""

    monkeypatch: pytest.MonkeyPatch
    variables: dict[str, str]
    loaded: dict[str, ModuleType] = field(default_factory=dict)

    def set(self, **variables: str) -> None:
        """Settings for the functions that are loaded from here on: a new execution environment."""
        self.variables |= variables
        self.forget()

    def forget(self) -> None:
        for module in self.loaded.values():
            module._core.database.close()
        self.loaded.clear()
        core.cache_clear()
        services.cache_clear()
        current_settings.cache_clear()

    def load(self, name: str) -> ModuleType:
        if name not in self.loaded:
            for variable in [each for each in os.environ if each.startswith(_SETTINGS)]:
                self.monkeypatch.delenv(variable)
            for variable, value in self.variables.items():
                self.monkeypatch.setenv(variable, value)
            path = ROOT / "functions" / name / "app.py"
            spec = importlib.util.spec_from_file_location(f"function_{name}_{next(_numbers)}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self.loaded[name] = module
        return self.loaded[name]

    def __call__(self, name: str, event: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
        """The answer of a handler that isn't streaming."""
        answer = self.load(name).handler(event, context or Context())
        assert isinstance(answer, dict)
        if "statusCode" in answer:
            assert_documented(event, answer)
        return answer

    def stream(self, name: str, event: dict[str, Any]) -> StreamingResponse:
        answer = self.load(name).handler(event, StreamingContext())
        assert isinstance(answer, StreamingResponse)
        return answer


def sample(name: str, body: object = None, **fields: object) -> dict[str, Any]:
    """A sample event, with another body and other fields where a test says so."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    return event | ({} if body is None else {"body": json.dumps(body)}) | fields


def as_caller(identity: Identity, event: dict[str, Any]) -> dict[str, Any]:
    """The event as it comes after the authorizer has let this caller in."""
    return event | {"requestContext": event["requestContext"] | {"authorizer": identity.context()}}


def asked(**fields: object) -> dict[str, Any]:
    """The chat sample with other fields in its body."""
    event = sample("complete")
    return event | {"body": json.dumps(json.loads(event["body"]) | fields)}


def make_key(database_url: str, **columns: object) -> None:
    """A key as it is kept, `key_team` unless it is told another id; its secret is `fw_` and its id."""
    row = {"id": "key_team", "name": "team", "scopes": ["complete"], "created_by": "bootstrap"} | columns
    names = ", ".join(row)
    places = ", ".join(f"%({name})s" for name in row)
    with psycopg.connect(database_url) as connection:
        statement = f"INSERT INTO api_key ({names}, created_at) VALUES ({places}, now())"  # noqa: S608 - a test's own
        connection.execute(statement.encode(), row)
        connection.execute(
            "INSERT INTO api_key_secret (hash, key_id, prefix, created_at) VALUES (%s, %s, 'fw_', now())",
            (hashlib.sha256(f"fw_{row['id']}".encode()).digest(), row["id"]),
        )


@pytest.fixture
def functions(
    monkeypatch: pytest.MonkeyPatch, database_url: str, upstream: Upstream, second_upstream: Upstream
) -> Iterator[Functions]:
    """Two cloud providers, no keys asked for; the ledger as the role that functions run as."""
    url = as_app_role(database_url)
    variables = two_clouds(upstream, second_upstream, DATABASE_URL=url, AUTH_MODE="open", LOG_LEVEL="DEBUG")
    made = Functions(monkeypatch, variables)
    made.forget()
    yield made
    made.forget()


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


@pytest.fixture
def log() -> Iterator[LogLines]:
    with logged() as lines:
        yield lines
