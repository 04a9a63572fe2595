"""SnapStart: hooks, freeze, thaw, serve, in AWS's order; what a snapshot holds, and what a copy of it draws."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.integration.runtime.process import runtime
from tests.integration.runtime.runtime_api import API_EVENT, RuntimeApiServer
from tests.integration.runtime.test_process import SECRET
from tests.support.patience import PATIENCE_SECONDS

# Says when it runs; AWS's own module to register with.
_HOOKS = """
from snapshot_restore_py import register_after_restore, register_before_snapshot
register_before_snapshot(print, "before 1")
register_before_snapshot(print, "before 2")
register_after_restore(print, "after 1", end="!\\n")
register_after_restore(print, "after 2")
def handler(event, context):
    return "served"
"""
_SNAPSHOT = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


def test_the_hooks_run_around_the_freeze_in_awss_order(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give({})
    with runtime(tmp_path, platform, _HOOKS, **_SNAPSHOT) as process:
        platform.frozen()
        assert process.stdout is not None
        # Read before the thaw: what comes after it can't have been printed yet.
        assert [process.stdout.readline() for _ in range(2)] == ["before 2\n", "before 1\n"]
        assert platform.nothing_more()
        platform.thaw()
        assert [process.stdout.readline() for _ in range(2)] == ["after 1!\n", "after 2\n"]
        assert platform.posted().json == "served"


def test_awss_own_client_takes_the_same_steps(tmp_path: Path, platform: RuntimeApiServer) -> None:
    """So a hook that works under our loop works in the functions that don't stream."""
    platform.give({})
    command = (sys.executable, "-m", "awslambdaric", "app.handler")
    with runtime(tmp_path, platform, _HOOKS, *command, **_SNAPSHOT) as process:
        platform.frozen()
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["before 2\n", "before 1\n"]
        platform.thaw()
        assert [process.stdout.readline() for _ in range(2)] == ["after 1!\n", "after 2\n"]
        assert platform.posted().json == "served"


def test_without_a_snapshot_no_hook_runs(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give({})
    with runtime(tmp_path, platform, _HOOKS, AWS_LAMBDA_INITIALIZATION_TYPE="on-demand") as process:
        assert platform.posted().json == "served"
        process.kill()
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert out == ""


def test_a_function_without_hooks_is_frozen_too(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.give(API_EVENT)
    code = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'served'}\n"
    with runtime(tmp_path, platform, code, **_SNAPSHOT):
        waited_on = platform.frozen()
        platform.thaw()
        post = platform.posted()
    assert post.body.endswith(b"served")
    assert post.connection > waited_on, "a copy doesn't share the connection of the process that was frozen"


@pytest.mark.parametrize(
    ("hook", "path"),
    [("before_snapshot", "/init/error"), ("after_restore", "/restore/error")],
)
def test_a_hook_that_fails_ends_the_process_and_says_where(
    tmp_path: Path, platform: RuntimeApiServer, hook: str, path: str
) -> None:
    code = (
        f"from snapshot_restore_py import register_{hook}\n"
        f"@register_{hook}\n"
        "def hook():\n"
        f"    raise ValueError('{SECRET}')\n"
        "def handler(event, context): pass\n"
    )
    platform.thaw()
    with runtime(tmp_path, platform, code, **_SNAPSHOT) as process:
        post = platform.posted()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert post.path == path
    assert post.headers["lambda-runtime-function-error-type"] == post.json["errorType"] == "ValueError"
    assert SECRET not in post.body.decode() + out + err
    line = json.loads(out)
    assert (line["event"], line["error_type"]) == ("function.failed", "ValueError")
    assert "app.py:4 hook" in line["location"]
    assert (process.returncode, err) == (1, "")


def test_a_platform_that_refuses_the_freeze_ends_the_process(tmp_path: Path, platform: RuntimeApiServer) -> None:
    platform.restore_status = 403
    platform.thaw()
    with runtime(tmp_path, platform, _HOOKS, **_SNAPSHOT) as process:
        assert process.wait(PATIENCE_SECONDS) == 1
    assert platform.nothing_more()


def test_two_copies_of_one_snapshot_draw_different_numbers(tmp_path: Path, platform: RuntimeApiServer) -> None:
    """The copies are made by fork, which keeps the random state as a snapshot does."""
    code = (
        "import os, random, uuid\n"
        "from snapshot_restore_py import register_after_restore, register_before_snapshot\n"
        "random.seed(7)\n"
        "register_before_snapshot(os.fork)\n"
        "register_after_restore(lambda: print(os.getpid(), random.random(), uuid.uuid4()))\n"
        "def handler(event, context): pass\n"
    )
    with runtime(tmp_path, platform, code, **_SNAPSHOT) as process:
        platform.frozen(), platform.frozen()
        platform.thaw()
        assert process.stdout is not None
        drawn = [process.stdout.readline().split() for _ in range(2)]
        for pid, *_ in drawn:
            os.kill(int(pid), 9)
    (first, *one), (second, *other) = drawn
    assert first != second
    assert set(one).isdisjoint(other)
