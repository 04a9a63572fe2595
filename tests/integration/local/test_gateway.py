"""The gateway over real HTTP, in front of real functions: routes, refusals, preflights and what passes through."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
import uvloop

from fusewire.http.cors import PREFLIGHT_SECONDS
from fusewire.http.headers import ALLOWED
from local import gateway
from local.template import Route, Template
from tests.integration.local.serving import STREAM, Code, code_of, eventually, logged, serving, serving_template

ECHO = """
def handler(event, context):
    note("handled", event["path"])
    return reply(json.dumps({"event": event, "pid": os.getpid()}), **{"content-type": "application/json"})
"""


def test_routes_and_refusals(tmp_path: Path) -> None:
    async def scenario() -> None:
        echo = Code(tmp_path, "echo", ECHO)
        async with serving(echo) as client:
            missing = await client.get("/nowhere")
            assert (missing.status_code, code_of(missing)) == (404, "route_not_found")
            assert missing.json()["error"]["type"] == "invalid_request_error"
            assert "/nowhere" in missing.json()["error"]["message"]
            for path in ("/echo/", "/echo/a/b", "/ECHO", "/echo/a%2Fb"):
                assert (await client.get(path)).status_code == 404, path
            wrong = await client.delete("/echo")
            assert (wrong.status_code, code_of(wrong)) == (405, "method_not_allowed")
            assert wrong.headers["allow"] == "GET, POST"
            head = await client.head("/echo/1")
            assert (head.status_code, head.content) == (405, b"")
            assert all(answer.headers["x-request-id"] for answer in (missing, wrong, head))
            assert echo.spawned == []

    uvloop.run(scenario())


def test_what_a_function_gets(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Code(tmp_path, "echo", ECHO)) as client:
            answer = await client.post("/echo/a%20b%C3%A9?x=1&x=2", content="日本", headers={"X-Thing": "y"})
            event = answer.json()["event"]
            assert (event["path"], event["resource"]) == ("/echo/a bé", "/echo/{item}")
            assert event["pathParameters"] == {"item": "a bé"}
            assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
            assert (event["body"], event["isBase64Encoded"]) == ("日本", False)
            assert event["headers"]["x-thing"] == "y"
            assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
            plain = (await client.get("/echo")).json()["event"]
            assert (plain["pathParameters"], plain["body"]) == (None, None)
            assert (await client.post("/echo", content=b"\xff\x00")).json()["event"]["isBase64Encoded"] is True

    uvloop.run(scenario())


def test_nobody_says_of_himself_where_he_comes_from(tmp_path: Path) -> None:
    """The audit has this address, and API Gateway takes it from the connection."""

    async def scenario() -> None:
        async with serving(Code(tmp_path, "echo", ECHO)) as client:
            claimed = {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https"}
            event = (await client.get("/echo", headers=claimed)).json()["event"]
            assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
            assert event["headers"]["x-forwarded-for"] == "192.0.2.7"

    uvloop.run(scenario())


def test_where_a_function_runs(tmp_path: Path) -> None:
    code = """
    def handler(event, context):
        names = [name for name in os.environ if name.startswith(("AWS_LAMBDA_", "LAMBDA_", "_HANDLER"))]
        return reply(json.dumps({"cwd": os.getcwd()} | {name: os.environ[name] for name in names}))
    """

    async def scenario() -> None:
        where = Code(tmp_path, "where", code)
        async with serving(where) as client:
            body = (await client.get("/where")).json()
        assert body["cwd"] == body["LAMBDA_TASK_ROOT"] == str(where.folder)
        assert body["AWS_LAMBDA_FUNCTION_NAME"] == "where"
        assert body["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
        assert body["_HANDLER"] == "app.handler"

    uvloop.run(scenario())


def test_bodies_up_to_ten_megabytes(tmp_path: Path) -> None:
    code = "def handler(event, context):\n    return reply(str(len(event['body'])))\n"

    async def scenario() -> None:
        size = Code(tmp_path, "size", code)
        async with serving(size) as client:
            limit = 10 * 1024 * 1024
            assert (await client.post("/size", content=b"x" * limit)).text == str(limit)
            refused = await client.post("/size", content=b"x" * (limit + 1))
            assert (refused.status_code, code_of(refused)) == (413, "request_too_large")
            refused = await client.post("/nowhere", content=b"x" * (limit + 1))
            assert (refused.status_code, code_of(refused)) == (404, "route_not_found")

    uvloop.run(scenario())


def test_all_bodies_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_MAX_HELD_BYTES", 3_000_000)
    code = """
    def handler(event, context):
        wait_for("go")
        return reply(str(len(event["body"])))
    """

    async def scenario() -> None:
        size = Code(tmp_path, "size", code)
        async with serving(size, concurrency=1) as client:
            held = [asyncio.create_task(client.post("/size", content=b"x" * 1_000_000)) for _ in range(3)]
            await eventually(lambda: client.gateway._held == 3_000_000)
            refused = await client.post("/size", content=b"x" * 1_000_000)
            assert (refused.status_code, code_of(refused)) == (503, "gateway_busy")
            assert refused.headers["retry-after"] == "1"
            size.let("go")
            assert [answer.text for answer in await asyncio.gather(*held)] == ["1000000"] * 3
            assert client.gateway._held == 0
            assert (await client.post("/size", content=b"x" * 1_000_000)).text == "1000000"

    uvloop.run(scenario())


def test_preflights(tmp_path: Path) -> None:
    async def scenario() -> None:
        echo = Code(tmp_path, "echo", ECHO)
        asked = {
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-a, x-b",
        }
        async with serving(echo, origins=("https://app.example", "https://other.example")) as client:
            allowed = await client.options("/echo", headers=asked)
            assert (allowed.status_code, allowed.content) == (204, b"")
            assert allowed.headers["access-control-allow-origin"] == "https://app.example"
            assert allowed.headers["access-control-allow-methods"] == "GET, OPTIONS, POST"
            # What the functions and AWS's preflight allow, whatever is asked for.
            assert allowed.headers["access-control-allow-headers"] == ", ".join(ALLOWED)
            assert allowed.headers["access-control-max-age"] == str(PREFLIGHT_SECONDS)
            assert allowed.headers["vary"] == "Origin"
            other = await client.options("/echo", headers=asked | {"origin": "https://evil.example"})
            assert other.status_code == 204
            assert not [name for name in other.headers if name.startswith("access-control")]
            assert (await client.options("/nowhere", headers=asked)).status_code == 404
            # The gateway's own refusals can be read by the page that caused them.
            refused = await client.get("/nowhere", headers={"origin": "https://other.example"})
            assert refused.headers["access-control-allow-origin"] == "https://other.example"
            assert echo.spawned == []

    uvloop.run(scenario())


def test_a_name_that_isnt_this_machines_reaches_only_what_is_for_everybody(tmp_path: Path) -> None:
    """A page's own name may lead here: to its browser the answers are then the page's to read."""

    async def scenario() -> None:
        echo, health = Code(tmp_path, "echo", ECHO), Code(tmp_path, "health", ECHO)
        template = Template(
            (echo.function, health.function),
            (Route("GET", "/echo", "echo"), Route("GET", "/health", "health", for_everybody=True)),
            (),
        )
        rebound = {"host": "evil.example:8000"}
        async with serving_template(template, {"AUTH_MODE": "open"}) as client:
            refused = await client.get("/echo", headers=rebound)
            assert (refused.status_code, code_of(refused)) == (403, "permission_denied")
            assert "'evil.example:8000'" in refused.json()["error"]["message"]
            assert echo.spawned == []
            assert (await client.get("/health", headers=rebound)).status_code == 200
            assert (await client.get("/echo", headers={"host": "localhost:1"})).status_code == 200
        async with serving_template(template, {"AUTH_MODE": "keys"}) as client:
            refused = await client.get("/echo", headers=rebound)
            assert (refused.status_code, code_of(refused)) == (403, "permission_denied")
            assert "LOCAL_HOSTS" in refused.json()["error"]["message"]
            assert (await client.get("/health", headers=rebound)).status_code == 200
            assert (await client.get("/echo", headers={"host": "X:8000"})).status_code == 200, "it is named"
            assert (await client.get("/echo", headers={"host": "localhost:1"})).status_code == 200

    uvloop.run(scenario())


def test_a_vendors_path_may_have_a_slash_too_many_and_a_models_name_one_in_disguise(tmp_path: Path) -> None:
    async def scenario() -> None:
        echo = Code(tmp_path, "echo", ECHO)
        paths = ("/v1/chat/completions", "/api/v1/admin/keys", "/v1/models/{id+}")
        template = Template((echo.function,), tuple(Route("GET", path, "echo") for path in paths), ())
        async with serving_template(template, {"AUTH_MODE": "open"}) as client:
            for written in ("/v1//chat/completions", "//v1/chat/completions/", "/v1/chat/completions"):
                answer = await client.get(f"http://127.0.0.1:{client.port}{written}")
                assert answer.json()["event"]["path"] == "/v1/chat/completions", written
            for name in ("openai/gpt-4o", "openai%2Fgpt-4o"):
                event = (await client.get(f"/v1/models/{name}")).json()["event"]
                assert (event["resource"], event["pathParameters"]) == ("/v1/models/{id+}", {"id": "openai/gpt-4o"})
            for written in ("/api/v1//admin/keys", "/api/v1/admin/keys/", "/api/v1/admin%2Fkeys"):
                assert (await client.get(written)).status_code == 404, written
            legacy = await client.post("/v1/completions", json={})
            assert (legacy.status_code, code_of(legacy)) == (404, "route_not_found")
            assert "POST /api/v1/chat/completions" in legacy.json()["error"]["message"]

    uvloop.run(scenario())


def test_any_origin(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Code(tmp_path, "echo", ECHO), origins=("*",)) as client:
            answer = await client.options("/echo", headers={"origin": "https://any.example"})
            assert answer.headers["access-control-allow-origin"] == "https://any.example"

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{}",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-",
    ],
)
def test_half_a_request_is_not_handled(tmp_path: Path, request_bytes: bytes) -> None:
    async def scenario() -> None:
        echo = Code(tmp_path, "echo", ECHO)
        async with serving(echo, concurrency=1) as client:
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(request_bytes)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            assert (await client.get("/echo")).status_code == 200
            assert echo.notes("handled") == ["/echo"]

    uvloop.run(scenario())


def test_a_client_that_hangs_up_does_not_end_its_call(tmp_path: Path) -> None:
    code = """
    def handler(event, context):
        note("begun", event["path"])
        wait_for("go")
        note("done", event["path"])
        return reply("late")
    """

    async def scenario() -> None:
        slow = Code(tmp_path, "slow", code)
        async with serving(slow, concurrency=1) as client:
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(lambda: slow.notes("begun") == ["/slow"])
            writer.close()
            await writer.wait_closed()
            slow.let("go")
            await eventually(lambda: slow.notes("done") == ["/slow"])
            assert (await client.get("/slow")).text == "late"
            assert len(slow.spawned) == 1

    uvloop.run(scenario())


def test_a_function_that_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    code = "def handler(event, context):\n    raise ValueError('no')\n"

    async def scenario() -> None:
        for name, wrapper in (("buffered", None), ("streaming", STREAM)):
            failing = Code(tmp_path, name, code, wrapper=wrapper)
            async with serving(failing, concurrency=1) as client:
                for _ in range(2):
                    answer = await client.get(f"/{name}")
                    assert (answer.status_code, code_of(answer)) == (502, "function_failed")
                    assert answer.headers["x-request-id"]
                assert len(failing.spawned) == 1

    uvloop.run(scenario())
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["error_type"] for line in lines if line.get("event") == "function.failed"] == ["ValueError"] * 2
    assert logged(caplog, "gateway.function_failed", "path") == ["/buffered"] * 2 + ["/streaming"] * 2
    assert len(set(logged(caplog, "gateway.function_failed", "request_id"))) == 4


@pytest.mark.parametrize("answer", ["None", "{'body': 'x'}", "{'statusCode': 200, 'body': {'a': 1}}", "'text'"])
def test_a_function_that_answers_nonsense(tmp_path: Path, answer: str) -> None:
    async def scenario() -> None:
        odd = Code(tmp_path, "odd", f"def handler(event, context):\n    return {answer}\n")
        async with serving(odd, concurrency=1) as client:
            refused = await client.get("/odd")
            assert (refused.status_code, code_of(refused)) == (502, "function_failed")

    uvloop.run(scenario())


def test_log_lines_of_functions_pass_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = """
    def handler(event, context):
        print("printed", flush=True)
        os.write(2, b"complained\\n")
        return reply("fine")
    """

    async def scenario() -> None:
        for name, wrapper in (("a", None), ("b", STREAM)):
            async with serving(Code(tmp_path, name, code, wrapper=wrapper), concurrency=1) as client:
                assert (await client.get(f"/{name}")).text == "fine"

    uvloop.run(scenario())
    captured = capfd.readouterr()
    assert captured.out == "printed\n" * 2
    assert captured.err == "complained\n" * 2


def test_many_requests_on_one_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Code(tmp_path, "echo", ECHO), concurrency=1) as client:
            with socket.create_connection(("127.0.0.1", client.port)) as raw:
                raw.setblocking(False)
                loop = asyncio.get_running_loop()
                # Pipelined: answers come in the order of the requests.
                await loop.sock_sendall(
                    raw, b"".join(b"GET /echo/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(5))
                )
                received = b""
                while received.count(b'"pid"') + received.count(b'\\"pid\\"') < 5:
                    received += await loop.sock_recv(raw, 65536)
        positions = [received.index(b'"path": "/echo/%d"' % n) for n in range(5)]
        assert positions == sorted(positions)

    uvloop.run(scenario())
