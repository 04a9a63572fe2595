"""The console as `make deploy` leaves it: a real build, uploaded to moto, served with the headers of its CloudFront.

The manual's section on a front end's connection errors is followed where its page says what is wrong.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from moto import mock_aws

from local.console_files import INDEX, policy
from local.pages import safe_headers
from scripts.deploy import console
from scripts.deploy.console import deploy_console, origin_of
from tests.support.distribution import make_distribution
from tests.support.documents import OPERATIONS, PROJECT, blocks
from tests.support.gateway import free_port
from tests.support.guarded import ADMIN, ask, guarded
from tests.support.upstream import Upstream

if "FUSEWIRE_CONSOLE" not in os.environ:
    pytest.skip("`make console-test` installs Node.js and a browser, and runs this", allow_module_level=True)

from tests.console.test_console import run

BUCKET = "console"
VITE = ("../../console/node_modules/vite/bin/vite.js", "build", "../../console")


def build(command: Sequence[str]) -> None:
    """What `make console` does, without looking whether the environment is up to date."""
    given = dict(word.split("=", 1) for word in command if "=" in word)
    subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "local.console_build", "--out", given["OUT"]],
        env=os.environ | {"NEXT_PUBLIC_API_URL": given["NEXT_PUBLIC_API_URL"]},
        cwd=PROJECT,
        check=True,
    )


@contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler], port: int) -> Iterator[None]:
    """A server on this machine, which the gateway knows as localhost alone."""
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def cloudfront(port: int, api: str) -> Iterator[None]:
    """The bucket's files by infra/terraform/modules/aws/console.tf, on this machine.

    :param api: the API's origin
    """
    client = boto3.client("s3", region_name="us-east-1")
    sent = [(name.decode(), value.decode()) for name, value in safe_headers(policy(api)) if name != b"cache-control"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, name = 200, self.path.lstrip("/") or INDEX
            try:
                found = client.get_object(Bucket=BUCKET, Key=name)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "NoSuchKey", error
                status, found = 404, client.get_object(Bucket=BUCKET, Key="404.html")
            self.send_response(status)
            for header, value in (
                *sent,
                ("content-type", found["ContentType"]),
                ("cache-control", found["CacheControl"]),
                ("content-length", str(found["ContentLength"])),
            ):
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(found["Body"].read())

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with served(Handler, port):
        yield


def followed(manual: Path, api: str, origin: str) -> list[str]:
    """What each command of the section on a front end's connection errors prints.

    :param api: the gateway's origin, in place of the manual's
    :param origin: the page's
    """
    [last] = (block for block in blocks(manual) if "Access-Control-Request-Method" in block.text)
    before = (block for block in blocks(manual) if block.line < last.line and block.language == "bash")
    health = max((block for block in before if "/health" in block.text), key=lambda block: block.line)
    result = []
    for block in (health, last):
        text = block.text.replace("http://localhost:8000", api).replace("http://localhost:3000", origin)
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)  # noqa: S603, S607 - our manual
        result.append(done.stdout)
    return result


def test_the_console_as_it_is_deployed(
    tmp_path: Path, upstream: Upstream, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, elsewhere = free_port(), free_port()
    monkeypatch.setattr(console, "_BUILT", tmp_path / "aws" / "console")
    settings = {"CONSOLE": "off", "LOCAL_CONCURRENCY": "2", "CORS_ORIGINS": f"http://localhost:{port}"}
    with guarded(tmp_path, upstream, database_url, **settings) as (gateway, admin):
        plain = admin.make()["key"]
        ask(gateway.openai(key=plain))
        api = origin_of(gateway.base)
        assert api is not None
        misled, nowhere = tmp_path / "misled", f"http://127.0.0.1:{free_port()}"
        run(*VITE, "--outDir", str(misled), NEXT_PUBLIC_API_URL=f"{nowhere}/api/v1")
        with mock_aws():
            session: Any = boto3.session.Session(region_name="us-east-1")
            session.client("s3").create_bucket(Bucket=BUCKET)
            distribution = make_distribution(session.client("cloudfront"), BUCKET)
            outputs = {"console_bucket": BUCKET, "console_distribution_id": distribution}
            deploy_console(build, session, outputs, gateway.base)
            files = partial(SimpleHTTPRequestHandler, directory=str(misled))
            with cloudfront(port, api), served(files, elsewhere):
                run(
                    *("node_modules/vitest/vitest.mjs", "run", "deployed.test.ts"),
                    CONSOLE_URL=f"http://localhost:{port}/",
                    CONSOLE_API=api,
                    CONSOLE_MISLED=str(elsewhere),
                    CONSOLE_NOWHERE=nowhere,
                    CONSOLE_ADMIN=ADMIN,
                    CONSOLE_READ=ADMIN,
                    CONSOLE_PLAIN=plain,
                    CONSOLE_BOUND=ADMIN,
                )
        for manual in OPERATIONS:
            health, preflight = followed(manual, api, f"http://localhost:{port}")
            assert '"status"' in health and '"ok"' in health
            assert f"access-control-allow-origin: http://localhost:{port}" in preflight
            _, preflight = followed(manual, api, f"http://127.0.0.1:{port}")
            assert preflight == "", "the lines are missing, as the manual says"
