"""The Runtime API as a worker serves it, to runtimes that don't behave."""

import asyncio
import contextlib
import os
import signal
import socket
import textwrap
from pathlib import Path

import httpx
import pytest
import uvloop

from local.platform import Platform
from local.template import Template
from tests.integration.local.serving import Code, code_of, eventually, serving
from tests.support.patience import PATIENCE_SECONDS

_RUNTIME = """
import http.client, json, os, socket, sys, time
ADDRESS, _, SECRET = os.environ["AWS_LAMBDA_RUNTIME_API"].partition("/")
ROOT = f"/{SECRET}/2018-06-01/runtime"

def call(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(ADDRESS)
    connection.request(method, ROOT + path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read()

def following():
    answer, body = call("GET", "/invocation/next")
    return answer.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(body)

def half(path, head, body):
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"POST {ROOT}{path} HTTP/1.1\\r\\nHost: {ADDRESS}\\r\\n{head}\\r\\n".encode() + body)

def answer(id, body):
    return call("POST", f"/invocation/{id}/response", json.dumps({"statusCode": 200, "body": body}))[0].status
"""


def behaving(parent: Path, code: str) -> Code:
    """A function whose runtime is this code."""
    wrapper = parent / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$1" runtime.py\n')
    wrapper.chmod(0o755)
    made = Code(parent, "f", "", wrapper=wrapper)
    (made.folder / "runtime.py").write_text(_RUNTIME + textwrap.dedent(code))
    return made


def test_an_event_that_is_never_answered_ends_with_the_next(tmp_path: Path) -> None:
    code = """
    following()
    while True:
        id, _ = following()
        answer(id, "fine")
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            lost = await client.get("/f")
            assert (lost.status_code, code_of(lost)) == (502, "function_failed")
            assert "lost its answer" in lost.json()["error"]["message"]
            assert (await client.get("/f")).text == "fine"

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 100\\r\\n", b'{"statusCode": 200}'),
        ("Transfer-Encoding: chunked\\r\\n", b'13\\r\\n{"statusCode": 200}\\r\\n'),
        (
            "Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n",
            b'13\\r\\n{"statusCode": 200}\\r\\n',
        ),
    ],
)
def test_half_an_answer_is_none(tmp_path: Path, head: str, body: bytes) -> None:
    code = f"""
    id, _ = following()
    half(f"/invocation/{{id}}/response", "{head}", b'{body.decode()}')
    os._exit(5)
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            crashed = await client.get("/f")
            assert (crashed.status_code, code_of(crashed)) == (502, "function_crashed")
            assert "status 5" in crashed.json()["error"]["message"]

    uvloop.run(scenario())


def test_an_answer_to_another_event_is_refused(tmp_path: Path) -> None:
    code = """
    id, _ = following()
    statuses = [answer("of-another", "wrong"), call("POST", "/invocation/of-another/error", "{}")[0].status]
    statuses.append(call("GET", "/nothing")[0].status)
    statuses.append(answer(id, "-".join(map(str, statuses))))
    id, _ = following()
    answer(id, str(statuses[-1]))
    following()
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            assert (await client.get("/f")).text == "403-403-403"
            assert (await client.get("/f")).text == "202"

    uvloop.run(scenario())


def test_an_orphan_of_an_earlier_gateway_gets_no_event(tmp_path: Path) -> None:
    code = """
    open("pid", "w").write(str(os.getpid()))
    id, _ = following()
    answer(id, os.environ["AWS_LAMBDA_RUNTIME_API"])
    following()
    """

    async def scenario() -> None:
        function = behaving(tmp_path, code)
        async with serving(function, concurrency=1) as client:
            address = (await client.get("/f")).text
            pid = int((function.folder / "pid").read_text())
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: not Path(f"/proc/{pid}").exists())
            async with httpx.AsyncClient(trust_env=False) as orphan:
                refused = await orphan.get(f"http://{address}/2018-06-01/runtime/invocation/next")
            assert refused.status_code == 403
            assert (await client.get("/f")).text == address

    uvloop.run(scenario())


@pytest.mark.parametrize("at", [1, 20, 60, 70, 81])
def test_a_stream_that_broke_says_so_in_trailers_however_they_come(tmp_path: Path, at: int) -> None:
    code = f"""
    id, _ = following()
    host, port = ADDRESS.split(":")
    prelude = b'{{"statusCode": 200}}' + bytes(8) + b"so far"
    body = b"%x\\r\\n%b\\r\\n0\\r\\nLambda-Runtime-Function-Error-Type: Broken\\r\\n\\r\\n" % (len(prelude), prelude)
    head = f"POST {{ROOT}}/invocation/{{id}}/response HTTP/1.1\\r\\nHost: {{ADDRESS}}\\r\\n"
    head += "Transfer-Encoding: chunked\\r\\nLambda-Runtime-Function-Response-Mode: streaming\\r\\n\\r\\n"
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(head.encode() + body[:{at}])
        time.sleep(0.05)
        raw.sendall(body[{at}:])
        assert raw.recv(100).startswith(b"HTTP/1.1 202 ")
    following()
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/f")

    uvloop.run(scenario())


def test_a_client_that_asks_before_it_sends_a_long_answer_is_told_to_go_on(tmp_path: Path) -> None:
    # As libcurl does, which is beneath AWS's own client, from a megabyte on.
    code = """
    id, _ = following()
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as raw:
        body = json.dumps({"statusCode": 200, "body": "x" * 2_000_000}).encode()
        head = f"POST {ROOT}/invocation/{id}/response HTTP/1.1\\r\\nHost: {ADDRESS}\\r\\n"
        raw.sendall(f"{head}Content-Length: {len(body)}\\r\\nExpect: 100-continue\\r\\n\\r\\n".encode())
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\\r\\n\\r\\n"
        raw.sendall(body)
        assert raw.recv(100).startswith(b"HTTP/1.1 202 ")
    following()
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            assert (await client.get("/f")).text == "x" * 2_000_000

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "packet",
    [
        b"no HTTP\\r\\n\\r\\n",
        b"POST ROOT/init/error HTTP/1.1\\r\\nHost: ADDRESS\\r\\nContent-Length: 2\\r\\n\\r\\nno",
    ],
    ids=["no HTTP", "no JSON"],
)
def test_what_makes_no_sense_costs_the_connection_and_nothing_else(tmp_path: Path, packet: bytes) -> None:
    code = f"""
    id, _ = following()
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b'{packet.decode()}'.replace(b"ROOT", ROOT.encode()).replace(b"ADDRESS", ADDRESS.encode()))
        told = raw.recv(100)
    answer(id, repr(told))
    following()
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            assert (await client.get("/f")).text == "b''"

    uvloop.run(scenario())


def test_a_process_that_loses_its_connection_may_ask_again(tmp_path: Path) -> None:
    code = """
    id, _ = following()
    answer(id, "before")
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"GET {ROOT}/invocation/next HTTP/1.1\\r\\nHost: {ADDRESS}\\r\\n\\r\\n".encode())
        time.sleep(0.2)
    open("lost", "w").close()
    while not os.path.exists("refused"):
        time.sleep(0.01)
    while True:
        id, _ = following()
        answer(id, "after")
    """

    async def scenario() -> None:
        function = behaving(tmp_path, code)
        async with serving(function, concurrency=1) as client:
            assert (await client.get("/f")).text == "before"
            await eventually(lambda: (function.folder / "lost").exists())
            refused = await client.get("/f")
            assert (refused.status_code, code_of(refused)) == (502, "function_crashed")
            (function.folder / "refused").touch()
            for _ in range(3):
                assert (await client.get("/f")).text == "after"

    uvloop.run(scenario())


def test_a_process_that_asks_twice_is_one_process(tmp_path: Path) -> None:
    code = """
    id, _ = following()
    answer(id, "before")
    host, port = ADDRESS.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"GET {ROOT}/invocation/next HTTP/1.1\\r\\nHost: {ADDRESS}\\r\\n\\r\\n".encode())
        time.sleep(0.2)
    while True:
        open("asking", "w").close()
        id, _ = following()
        time.sleep(0.1)
        answer(id, "after")
    """

    async def scenario() -> None:
        function = behaving(tmp_path, code)
        async with serving(function, concurrency=1) as client:
            assert (await client.get("/f")).text == "before"
            await eventually(lambda: (function.folder / "asking").exists())
            await asyncio.sleep(0.2)
            answers = await asyncio.gather(*(client.get("/f") for _ in range(3)))
            assert [answer.text for answer in answers] == ["after"] * 3

    uvloop.run(scenario())


def test_a_gateway_that_cannot_listen_says_so() -> None:
    async def scenario() -> None:
        public = socket.create_server(("127.0.0.1", 0))
        platform = Platform(Template((), (), ()), public, 1, {}, ())
        public.close()
        with pytest.raises((OSError, ValueError)):
            await asyncio.wait_for(platform.start(), PATIENCE_SECONDS)

    uvloop.run(scenario())


# --- who may ask ---


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/2018-06-01/runtime/invocation/next", {}),
        ("/wrong/2018-06-01/runtime/invocation/next", {}),
        ("{secret}x/2018-06-01/runtime/invocation/next", {}),
        ("{secret}/2018-06-01/runtime/invocation/next", {"host": "evil.example"}),
        ("{secret}/2018-06-01/runtime/invocation/next", {"host": "localhost:{port}"}),
    ],
    ids=["no secret", "a wrong one", "a longer one", "another name", "another name of this machine"],
)
def test_nobody_but_its_process_takes_a_functions_place(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    code = """
    id, _ = following()
    answer(id, os.environ["AWS_LAMBDA_RUNTIME_API"])
    id, _ = following()
    answer(id, "its own answer")
    following()
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            host, _, secret = (await client.get("/f")).text.partition("/")
            assert len(secret) >= 43, "256 bits"
            port = host.partition(":")[2]
            sent = {name: value.format(port=port) for name, value in headers.items()}
            async with httpx.AsyncClient(trust_env=False) as stranger:
                url = f"http://{host}{path.format(secret=f'/{secret}')}"
                assert (await stranger.get(url, headers=sent)).status_code == 403
                forged = url.replace("/next", "/any/response")
                assert (await stranger.post(forged, headers=sent, content=b"{}")).status_code == 403
            assert (await client.get("/f")).text == "its own answer"

    uvloop.run(scenario())


def test_what_a_stranger_sends_is_not_kept(tmp_path: Path) -> None:
    code = """
    id, _ = following()
    answer(id, ADDRESS)
    following()
    """

    async def scenario() -> None:
        async with serving(behaving(tmp_path, code), concurrency=1) as client:
            host, _, port = (await client.get("/f")).text.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000)
            assert (await reader.read(100)).startswith(b"HTTP/1.1 403 ")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() != b"never"
            writer.close()

    uvloop.run(scenario())
