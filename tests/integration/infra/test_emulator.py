"""The built functions with their built layer under AWS's emulator, with `events/*.json`, against real Postgres."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ai.observing import Books
from tests.integration.infra.emulating import Emulated, emulated, runtime, sample
from tests.integration.infra.sam import PROJECT, build_layer
from tests.support.expiry import expire_reservations
from tests.support.gateway import eventually
from tests.support.postgres_proxy import postgres_proxy
from tests.support.upstream import Upstream, hang

PRICES = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_layer(tmp_path_factory.mktemp("opt"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtime(tmp_path_factory.mktemp("var") / "runtime")


class Functions:
    """`functions("health")` is that function under the emulator, with these variables."""

    def __init__(self, layer: Path, client: Path, folder: Path, variables: dict[str, str]) -> None:
        self._layer = layer
        self._client = client
        self._folder = folder
        self.variables = variables

    @contextmanager
    def __call__(self, name: str, *, timeout: int = 60, **variables: str) -> Iterator[Emulated]:
        folder = PROJECT / "functions" / name
        log = self._folder / f"{name}.log"
        result = self.variables | variables
        with emulated(folder, self._layer, self._client, result, log=log, timeout=timeout) as function:
            yield function


@pytest.fixture
def functions(layer: Path, client: Path, tmp_path: Path, database_url: str, upstream: Upstream) -> Functions:
    variables = {
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "OPENAI_EMBEDDING_MODEL": "m",
        "AI_PRICE_OVERRIDES": PRICES,
        "DATABASE_URL": database_url,
    }
    return Functions(layer, client, tmp_path, variables)


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


def answered(row: bytes) -> tuple[int, Any]:
    """Status and body of a proxy response."""
    answer = json.loads(row)
    return answer["statusCode"], json.loads(answer["body"])


def streamed(row: bytes) -> tuple[dict[str, Any], str]:
    """Prelude and body of an answer in streaming mode, which the emulator passes on as it came, in one piece."""
    prelude, end, body = row.partition(b"\0" * 8)
    assert end, row
    return json.loads(prelude), body.decode()


IMPORTS = """
import pkgutil, sys
sys.path.append(sys.argv[1])
import fusewire
from fusewire.ai.provider import AIProvider
for module in pkgutil.walk_packages(fusewire.__path__, "fusewire."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
def kinds(kind):
    return {kind}.union(*map(kinds, kind.__subclasses__()))
for sdk in {sdk for kind in kinds(AIProvider) for sdk in kind.sdk}:
    __import__(sdk)
import boto3, google.auth.aws, google.oauth2.service_account, openai, anthropic
import aws_lambda_powertools.utilities.parameters
boto3.client("bedrock-runtime", region_name="eu-west-1")
openai.OpenAI(api_key="x").chat.completions, openai.OpenAI(api_key="x").embeddings
anthropic.Anthropic(api_key="x").messages
"""


def test_all_that_is_ever_imported_is_in_the_layer(layer: Path) -> None:
    code = [sys.executable, "-I", "-S", "-W", "ignore", "-c", IMPORTS, str(layer / "python")]
    output = subprocess.run(code, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    assert (output.returncode, output.stderr) == (0, "")


def test_completions_and_streams_by_the_loop_and_in_one_piece_without(functions: Functions, books: Books) -> None:
    with functions("complete", AWS_LAMBDA_EXEC_WRAPPER="/opt/bin/stream") as complete:
        prelude, body = streamed(complete.invoke(sample("complete")))
        assert (prelude["statusCode"], json.loads(body)["object"]) == (200, "chat.completion")
        prelude, events = streamed(complete.invoke(sample("complete", stream=True)))
        assert prelude["headers"]["Content-Type"].startswith("text/event-stream")
        assert events.endswith("data: [DONE]\n\n")
        prelude, body = streamed(complete.invoke(sample("complete_messages")))
        assert (prelude["statusCode"], json.loads(body)["type"]) == (200, "message")
    with functions("complete", AWS_LAMBDA_EXEC_WRAPPER="/opt/bin/stream", FUSEWIRE_STREAMING="off") as complete:
        whole = json.loads(complete.invoke(sample("complete", stream=True)))
        assert whole["statusCode"] == 200
        assert whole["body"].endswith("data: [DONE]\n\n")
    assert [end[1:3] for end in books.ends()] == [("settled", "actual")] * 4
    books.check()


@pytest.mark.parametrize(
    ("name", "event", "has"),
    [
        ("health", "health", {"status": "ok", "database": "ok"}),
        ("models", "models", {"object": "list"}),
        ("embed", "embed", {"object": "list"}),
        ("admin_budget", "admin_budget", {"state": "CLOSED"}),
        ("admin_providers", "admin_providers", {"chain": ["openai"]}),
        ("admin_keys", "admin_keys", {"rows": []}),
    ],
)
def test_the_other_functions(functions: Functions, name: str, event: str, has: dict[str, Any]) -> None:
    with functions(name) as function:
        status, body = answered(function.invoke(sample(event)))
    assert status == 200, body
    assert has.items() <= body.items()


def test_what_was_spent_one_calls_story_and_the_audit(functions: Functions, books: Books) -> None:
    with functions("complete") as complete:
        answered(complete.invoke(sample("complete")))
    with functions("admin_budget") as admin:
        answered(admin.invoke(sample("admin_budget_reset")))
    with functions("admin_usage") as admin:
        result = {
            name: answered(admin.invoke(sample(name)))
            for name in ("admin_usage", "admin_usage_calls", "admin_usage_call", "admin_usage_audit")
        }
    assert {status for status, _ in result.values()} == {200}
    usage, calls, call, audit = (body for _, body in result.values())
    request_id = sample("complete")["requestContext"]["requestId"]
    assert Decimal(str(usage["total"]["cost_usd"])) == books.spent() > 0
    assert [row["request_id"] for row in calls["rows"]] == [call["request_id"]] == [request_id]
    assert [row["action"] for row in audit["rows"]] == ["budget.reset"]


def test_a_key_is_made_and_let_in_and_no_other_is(functions: Functions) -> None:
    with functions("admin_keys") as admin:
        status, made = answered(admin.invoke(sample("admin_keys_create")))
    assert status == 201, made
    event = sample("authorizer")
    with functions("authorizer") as authorizer:
        refused = json.loads(authorizer.invoke(event))
        # API Gateway answers 401 to this very word and 500 to any other.
        assert refused["errorMessage"] == "Unauthorized"
        event["headers"] = {"Authorization": f"Bearer {made['key']}"}
        policy = json.loads(authorizer.invoke(event))
    [statement] = policy["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Allow", event["methodArn"])
    assert policy["context"]["key_id"] == made["id"]


def test_resets_by_hand_and_by_schedule(functions: Functions, books: Books) -> None:
    with functions("admin_budget") as admin:
        status, body = answered(admin.invoke(sample("admin_budget_reset")))
        assert (status, body["closed"]["id"] + 1) == (200, body["opened"]["id"])
    with functions("monthly_reset") as reset:
        assert json.loads(reset.invoke(sample("monthly_reset"))).keys() == {"closed"}
    assert len(books.query("SELECT id FROM budget_window")) >= 2


def test_a_refusal_and_a_database_that_is_away(functions: Functions) -> None:
    with functions("complete", AI_MONTHLY_BUDGET_USD="0.000001") as complete:
        status, body = answered(complete.invoke(sample("complete")))
        assert (status, body["error"]["code"]) == (402, "budget_exceeded")
    with functions("complete", DATABASE_URL="host=127.0.0.1 port=1 user=x dbname=x") as complete:
        status, body = answered(complete.invoke(sample("complete")))
        assert (status, body["error"]["code"]) == (503, "ledger_unavailable")


def test_a_call_that_is_killed_at_the_functions_timeout_loses_no_cent(
    functions: Functions, database_url: str, books: Books
) -> None:
    """Postgres does what it is asked and falls silent, for longer than the function may run.

    The emulator starts the function within a call's own time, so on a busy machine a first call may find too little.
    """
    with (
        postgres_proxy(database_url) as proxy,
        functions("complete", timeout=5, DATABASE_URL=proxy.url()) as complete,
    ):
        eventually(lambda: _answered_well(complete))
        proxy.silent.set()
        assert b"timed out after 5.00 seconds" in complete.invoke(sample("complete"))
        proxy.silent.clear()
        expire_reservations(database_url)
        eventually(lambda: _settled_at_bound(complete, books))
    assert books.spent() > 0


def _answered_well(complete: Emulated) -> bool:
    return b'"statusCode": 200' in complete.invoke(sample("complete"))


def _settled_at_bound(complete: Emulated, books: Books) -> bool:
    """Whether a call finds what the lost one left behind."""
    return _answered_well(complete) and ("openai", "settled", "bound", "expired") in books.ends()


def test_a_crash_in_mid_call_loses_no_cent(
    functions: Functions, upstream: Upstream, database_url: str, books: Books
) -> None:
    upstream.script.append(hang(30))
    with functions("complete") as complete:
        answers: list[bytes] = []
        call = threading.Thread(target=lambda: answers.append(complete.invoke(sample("complete"))))
        call.start()
        eventually(lambda: len(upstream.requests) == 1)
        [worker] = complete.workers()
        os.kill(worker, signal.SIGKILL)
        call.join(20)
        assert b"Runtime.ExitError" in answers[0]
        expire_reservations(database_url)
        eventually(lambda: _settled_at_bound(complete, books))


def test_migrate(functions: Functions) -> None:
    with functions("migrate") as migrate:
        assert json.loads(migrate.invoke(sample("migrate"))) == {"applied": []}
