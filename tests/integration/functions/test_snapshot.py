"""A real function on its way through SnapStart: what its snapshot holds, and what it doesn't."""

import os
from pathlib import Path

from fusewire.http.identity import Identity
from tests.integration.functions.conftest import ROOT, as_caller, sample
from tests.integration.runtime.process import runtime
from tests.integration.runtime.runtime_api import RuntimeApiServer, runtime_api
from tests.support.upstream import Upstream


def sockets(pid: int) -> list[str]:
    links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.startswith("socket:")]


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def body(platform: RuntimeApiServer) -> str:
    return platform.posted().body.partition(b"\0" * 8)[2].decode()


def test_a_snapshot_holds_the_sdk_and_neither_connection_nor_thread(
    tmp_path: Path, database_url: str, upstream: Upstream
) -> None:
    variables = {
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": '{"openai/*": {"input_mtok": 1, "output_mtok": 1}}',
        "DATABASE_URL": database_url,
    }
    # The function's own module, and a hook that comes after its own: it says what was imported by then.
    code = (ROOT / "functions/complete/app.py").read_text() + (
        "import sys, snapshot_restore_py as hooks\n"
        "hooks._before_snapshot_registry.insert(0, (lambda: print('openai' in sys.modules), (), {}))\n"
        "print('openai' in sys.modules)\n"
    )
    with runtime_api() as platform, runtime(tmp_path, platform, code, **variables) as process:
        platform.frozen()
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["False\n", "True\n"]
        assert threads(process.pid) == 1
        assert len(sockets(process.pid)) == 1, "the one that it waits on for the restore"
        assert upstream.requests == []
        platform.give(as_caller(Identity("bootstrap", frozenset({"complete"})), sample("complete")))
        platform.thaw()
        assert '"object":"chat.completion"' in body(platform).replace(" ", "")
