"""The gateway asks an authorizer before a route's own function, as API Gateway does, and does what its policy says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
import uvloop

from fusewire.budget.audit_context import AuditContext
from fusewire.config import load_settings
from fusewire.services import assemble
from local.template import Route, Template, read_template
from tests.integration.local.serving import Client, Code, code_of, eventually, logged, serving_template
from tests.support.memory import growing_by_less_than

ROOT: Final = Path(__file__).resolve().parents[3]
TEMPLATE: Final = ROOT / "infra" / "template.yaml"
# Answers with the policy that the request itself holds: a test says what an authorizer made of a key.
AUTHORIZER: Final = """
def handler(event, context):
    note("asked", json.dumps(event))
    answer = event["headers"].get("x-answer", "Unauthorized")
    if not answer.startswith(("{", "[", "null")):
        raise RuntimeError(answer)
    return json.loads(answer.replace("ITSELF", event["methodArn"]))
"""
ECHO: Final = """
def handler(event, context):
    return reply(json.dumps(event["requestContext"]), **{"content-type": "application/json"})
"""


@asynccontextmanager
async def guarded(folder: Path, **variables: str) -> AsyncIterator[tuple[Client, Code]]:
    """`/echo/{item}` behind an authorizer, `/open` without one."""
    guard, echo = Code(folder, "guard", AUTHORIZER), Code(folder, "echo", ECHO)
    routes = tuple(Route(method, "/echo/{item}", "echo", "guard") for method in ("GET", "POST"))
    refusals = read_template(TEMPLATE, {}).refusals
    template = Template((guard.function, echo.function), (*routes, Route("GET", "/open", "echo")), (), refusals)
    async with serving_template(template, variables, concurrency=2) as client:
        yield client, guard


def policy(*statements: tuple[str, object], action: object = "execute-api:Invoke", **more: object) -> dict[str, str]:
    """A header whose answer is this policy: pairs of an effect and a resource."""
    result = [{"Action": action, "Effect": effect, "Resource": resource} for effect, resource in statements]
    document = {"Version": "2012-10-17", "Statement": result}
    return {"x-answer": json.dumps({"principalId": "someone", "policyDocument": document} | more)}


ALLOWED: Final = policy(("Allow", "ITSELF"))


def test_an_authorizer_is_asked_as_api_gateway_asks_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guarded(tmp_path) as (client, guard):
            context = {"text": "a", "number": 7, "yes": True}
            headers = policy(("Allow", "ITSELF"), context=context) | {"authorization": "Bearer k"}
            answer = await client.post("/echo/a%20b?x=1", content="not for it", headers=headers)
            assert answer.status_code == 200
            assert (await client.get("/open")).json().get("authorizer") is None
        [asked] = map(json.loads, guard.notes("asked"))
        sample = json.loads((ROOT / "events" / "authorizer.json").read_text())
        assert set(asked) == set(sample), "what API Gateway sends: no body"
        assert (asked["type"], asked["httpMethod"]) == ("REQUEST", "POST")
        assert (asked["resource"], asked["path"]) == ("/echo/{item}", "/echo/a b")
        assert (asked["pathParameters"], asked["queryStringParameters"]) == ({"item": "a b"}, {"x": "1"})
        assert asked["headers"]["authorization"] == "Bearer k"
        arn, _, rest = asked["methodArn"].partition("/")
        assert arn.split(":")[:3] == ["arn", "aws", "execute-api"]
        assert rest.partition("/")[2] == "POST/echo/a b"
        # What it says of the caller comes to the route's function as strings, under the same request's id.
        body = answer.json()
        assert body["authorizer"] == {"text": "a", "number": "7", "yes": "true", "principalId": "someone"}
        assert body["requestId"] == asked["requestContext"]["requestId"]

    uvloop.run(scenario())


def test_without_keys_nobody_is_asked_but_about_a_fusewire_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guarded(tmp_path, AUTH_MODE="open") as (client, guard):
            for sent in ({}, {"authorization": "Bearer none"}, {"x-api-key": "sk-x"}, {"cookie": "fw_k"}):
                answer = await client.get("/echo/x", headers=sent)
                assert (answer.status_code, answer.json().get("authorizer")) == (200, None)
            assert guard.spawned == []
            for sent in ({"authorization": "Bearer fw_k"}, {"authorization": "Bearer none", "x-api-key": "fw_k"}):
                assert (await client.get("/echo/x", headers=sent)).status_code == 401
                answer = await client.get("/echo/x", headers=policy(("Allow", "ITSELF"), context={"a": "b"}) | sent)
                assert answer.json()["authorizer"] == {"a": "b", "principalId": "someone"}
                denied = await client.get("/echo/x", headers=policy(("Deny", "ITSELF")) | sent)
                assert (denied.status_code, code_of(denied)) == (403, "permission_denied")
            assert (await client.get("/open", headers={"x-api-key": "fw_k"})).status_code == 200
        assert len(guard.notes("asked")) == 6

    uvloop.run(scenario())


def test_a_policy_is_read_as_iam_reads_it(tmp_path: Path) -> None:
    every = "arn:aws:execute-api:*"
    cases = [
        (ALLOWED, 200),
        (policy(("Allow", every)), 200),
        (policy(("Allow", ["arn:nothing", "ITSELF"]), action=["execute-api:*"]), 200),
        (policy(("Allow", "*/GET/echo/?")), 200),
        (policy(("Deny", "ITSELF")), 403),
        (policy(("Allow", every), ("Deny", "ITSELF")), 403),
        (policy(("Allow", "*/POST/*")), 403),
        (policy(("Allow", "*/GET/echo/[a-z]")), 403),
        (policy(("Allow", "ITSELF"), action="s3:GetObject"), 403),
        (policy(), 403),
    ]

    async def scenario() -> None:
        async with guarded(tmp_path) as (client, _):
            for headers, status in cases:
                assert (await client.get("/echo/x", headers=headers)).status_code == status, headers
            # A path is only text, whatever it holds.
            for item in ("[a-z]", "]", "!", "*", "?"):
                path = f"/echo/{httpx.URL(f'http://x/{item}').raw_path[1:].decode()}".replace("?", "%3F")
                assert (await client.get(path, headers=ALLOWED)).status_code == 200, item

    uvloop.run(scenario())


def test_who_is_refused_hears_what_the_template_has_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    no_answers = [
        "anything but that word",
        "null",
        "[]",
        "{}",
        json.dumps({"policyDocument": {"Statement": []}}),
        *(policy(("Allow", "ITSELF"), context={"names": value})["x-answer"] for value in (["a"], {"a": 1}, None)),
    ]

    async def scenario() -> None:
        async with guarded(tmp_path) as (client, _):
            unknown = await client.get("/echo/x")
            assert (unknown.status_code, code_of(unknown)) == (401, "invalid_api_key")
            denied = await client.get("/echo/x", headers=policy(("Deny", "ITSELF")))
            assert (denied.status_code, code_of(denied)) == (403, "permission_denied")
            for answer in (unknown, denied):
                assert answer.headers["x-should-retry"] == "false"
                assert len(answer.headers["x-request-id"]) == 36
            assert not caplog.records, "nothing is wrong with the gateway"
            for result in no_answers:
                failed = await client.get("/echo/x", headers={"x-answer": result})
                assert (failed.status_code, code_of(failed)) == (503, "ledger_unavailable"), result
                assert failed.headers["retry-after"] == "1"
        assert len(logged(caplog, "gateway.function_failed", "request_id")) == len(no_answers)

    uvloop.run(scenario())


def test_a_revoked_key_passes_an_authorizer_that_has_just_seen_it_and_spends_and_changes_nothing(
    tmp_path: Path, database_url: str
) -> None:
    """The product's own function behind the gateway: a verdict is kept for 60 s, but not where a key could be made, and
    the ledger is asked each time."""
    core = assemble(load_settings({"DATABASE_URL": database_url}))
    audit_context = AuditContext("test", None, "request")
    fields: dict[str, Any] = {"name": "team", "scopes": ["complete", "admin"], "tags": {}}
    seen, secret = core.keys.create(fields, audit_context)
    unseen, other = core.keys.create(fields, audit_context)
    variables = {
        "AUTH_MODE": "keys",
        "DATABASE_URL": database_url,
        "AI_MODE": "cloud",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_SOTA_MODEL": "gpt-4o",
    }
    chat = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}]}

    async def scenario() -> None:
        async with serving_template(read_template(TEMPLATE, variables), variables) as client:

            async def status(key: str, route: str) -> int:
                answer = await client.get(f"/api/v1/{route}", headers={"x-api-key": key})
                return answer.status_code

            assert (await status(secret, "models"), await status(secret, "admin/keys")) == (200, 200)
            for key in (seen, unseen):
                core.keys.revoke(key.id, audit_context)
            assert (await status(secret, "models"), await status(other, "models")) == (200, 401)
            assert await status(secret, "admin/keys") == 401
            response = await client.post("/api/v1/chat/completions", json=chat, headers={"x-api-key": secret})
            assert (response.status_code, code_of(response)) == (401, "invalid_api_key")

    uvloop.run(scenario())
    core.database.close()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (0,)


def test_nothing_of_a_body_is_kept_for_a_caller_without_a_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guarded(tmp_path) as (client, guard):
            piece = b"x" * 60_000
            head = b"POST /echo/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
            waiting = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(20)]
            with growing_by_less_than(60):  # of 180 MB
                for _, writer in waiting:
                    writer.write(head)
                for _ in range(149):
                    for _, writer in waiting:
                        writer.write(piece)
                        await writer.drain()
                assert client.gateway._held == 0
                for reader, writer in waiting:
                    writer.write(piece)
                    assert (await reader.read(100)).startswith(b"HTTP/1.1 401 ")
                    writer.close()
            assert len(guard.notes("asked")) == 20

    uvloop.run(scenario())


def test_the_authorizer_is_asked_before_the_body_has_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guarded(tmp_path) as (client, guard):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(b"POST /echo/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
            await eventually(lambda: len(guard.notes("asked")) == 1)
            writer.close()
            answer = await client.post("/echo/1", content=b"{}", headers=ALLOWED)
            assert answer.status_code == 200

    uvloop.run(scenario())
