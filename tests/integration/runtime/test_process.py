"""`python -m fusewire.runtime` as a process: how it starts, prints and ends."""

import json
import select
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.integration.runtime.process import LAYER, runtime
from tests.integration.runtime.runtime_api import API_EVENT, RuntimeApiServer
from tests.support.patience import PATIENCE_SECONDS

SECRET = "sk-sentinel-4711"  # noqa: S105 - looked for where it must not be


def test_a_function_that_cannot_be_imported(tmp_path: Path, platform: RuntimeApiServer) -> None:
    with runtime(tmp_path, platform, f"raise ValueError('{SECRET}')\n") as process:
        post = platform.posted()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert post.path == "/init/error"
    assert post.headers["lambda-runtime-function-error-type"] == post.json["errorType"] == "ValueError"
    assert SECRET not in post.body.decode() + out + err
    line = json.loads(out)
    assert (line["event"], line["error_type"], line["request_id"]) == ("function.failed", "ValueError", None)
    assert "app.py:1" in line["location"]
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError", "No module named 'nothing_of_that_name'"),
        ("", "AttributeError", None),
        ("def handler(:", "SyntaxError", None),
        (
            "from fusewire.config import ConfigurationError\nraise ConfigurationError('PORT=x is wrong.')",
            "ConfigurationError",
            "PORT=x is wrong.",
        ),
    ],
)
def test_why_a_function_does_not_start(
    tmp_path: Path, platform: RuntimeApiServer, code: str, kind: str, message: str | None
) -> None:
    with runtime(tmp_path, platform, code) as process:
        result = platform.posted().json
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert result["errorType"] == kind
    assert message is None or result["errorMessage"] == message
    assert (process.returncode, err) == (1, "")
    assert len(out.splitlines()) == 1


def test_the_exit_of_a_function_is_the_exit_of_the_process(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give(API_EVENT)
    with runtime(tmp_path, platform, "import sys\ndef handler(event, context):\n    sys.exit(3)\n") as process:
        assert process.wait(PATIENCE_SECONDS) == 3
    assert platform.nothing_more()


MANY: Final = {"AWS_LAMBDA_MAX_CONCURRENCY": "3"}


def test_several_events_are_handled_at_once_and_a_hung_one_holds_up_no_other(
    tmp_path: Path, platform: RuntimeApiServer
) -> None:
    code = """
import os, threading
all_here = threading.Barrier(3)
def handler(event, context):
    if event == "hangs":
        threading.Event().wait()
    if event == "together":
        all_here.wait(20)
    if event == "fails":
        raise ValueError
    return [event, context.aws_request_id, context.trace_id, os.environ.get("_X_AMZN_TRACE_ID")]
"""
    with runtime(tmp_path, platform, code, **MANY):
        for number in range(3):
            platform.give("together", str(number))
        posts = {post.path.split("/")[2]: post for post in (platform.posted() for _ in range(3))}
        assert {number: post.json for number, post in posts.items()} == {
            str(number): ["together", str(number), f"Root={number}", None] for number in range(3)
        }
        assert len({post.connection for post in posts.values()}) == platform.connections == 3
        platform.give("hangs", "3")
        platform.give("fails", "4")
        assert platform.posted().path == "/invocation/4/error"
        for number in range(5, 9):
            platform.give("alone", str(number))
            assert platform.posted().json == ["alone", str(number), f"Root={number}", None]


def test_the_exit_of_one_loop_is_the_exit_of_the_process(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give(API_EVENT)
    code = "import sys\ndef handler(event, context):\n    sys.exit(3)\n"
    with runtime(tmp_path, platform, code, **MANY) as process:
        assert process.wait(PATIENCE_SECONDS) == 3


def test_several_loops_end_with_the_platform(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.hang_up_on_next()
    with runtime(tmp_path, platform, "def handler(event, context): pass\n", **MANY) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (1, "", "")


def test_it_ends_with_the_platform(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.hang_up_on_next()
    with runtime(tmp_path, platform, "def handler(event, context): pass\n") as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (1, "", "")


def test_what_a_function_prints_is_seen_at_once(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give({})
    with runtime(tmp_path, platform, "def handler(event, context):\n    print('a line')\n") as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 10)[0]
        assert process.stdout.readline() == "a line\n"
        assert process.poll() is None


def test_the_context_knows_the_function(tmp_path: Path, platform: RuntimeApiServer) -> None:
    names = ("function_name", "function_version", "memory_limit_in_mb", "log_group_name", "log_stream_name")
    code = f"def handler(event, context):\n    return [getattr(context, name) for name in {names}]\n"
    variables = {
        "AWS_LAMBDA_FUNCTION_NAME": "complete",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/complete",
        "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
    }
    platform.give({})
    with runtime(tmp_path, platform, code, **variables):
        assert platform.posted().json == list(variables.values())


def test_the_exec_wrapper_starts_it_instead_of_awss_client(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give(API_EVENT)
    code = (
        "import sys\n"
        "def handler(event, context):\n"
        "    return {'statusCode': 200, 'body': f'{context.streams} {\"awslambdaric\" in sys.modules}'}\n"
    )
    wrapped = (str(LAYER / "bin" / "stream"), sys.executable, "-m", "awslambdaric", "app.handler")
    with runtime(tmp_path, platform, code, *wrapped):
        post = platform.posted()
    assert post.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert post.body.endswith(b"True False")


def test_the_exec_wrapper_leaves_awss_client_where_streaming_is_off(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give(API_EVENT)
    code = "def handler(event, context):\n    return {'statusCode': 200, 'streams': hasattr(context, 'streams')}\n"
    wrapped = (str(LAYER / "bin" / "stream"), sys.executable, "-m", "awslambdaric", "app.handler")
    with runtime(tmp_path, platform, code, *wrapped, FUSEWIRE_STREAMING="off"):
        post = platform.posted()
    assert "lambda-runtime-function-response-mode" not in post.headers
    assert post.json == {"statusCode": 200, "streams": False}
