"""`python -m local`: what it says when it can't start, and that it leaves no process and no harm behind."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import psycopg
import pytest

from local.postgres import embedded_postgres
from tests.integration.local.processes import descendants, mentioning, wait_until_none_mentions
from tests.support.gateway import PYTHONPATH, Gateway, alive, eventually, free_port, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

_CLOUD = {"AI_MODE": "cloud", "OPENAI_API_KEY": "sk-x"}
_PASSWORD = "sentinel-4711"  # noqa: S105 - looked for where it must not be


def refusal(home: Path, variables: dict[str, str] | None = None, limit: Callable[[], None] | None = None) -> str:
    """What it says when it can't start; checks what every refusal must be."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": PYTHONPATH,
        "PORT": str(free_port()),
        "FUSEWIRE_HOME": str(home),
        **(variables or {}),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "local"],
        cwd=home.parent if home.parent.is_dir() else home.parent.parent,  # a developer's `.env` is the project's
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        start_new_session=True,
    ) as process:
        started: set[int] = set()

        def ended() -> bool:
            started.update(descendants(process.pid))
            return process.poll() is not None

        eventually(ended)
        out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert [pid for pid in started if alive(pid)] == []
    wait_until_none_mentions(str(home))
    assert "Traceback" not in err
    progress, blank, reason = err.rstrip("\n").rpartition("\n\n")
    assert progress.startswith("fusewire ") or not blank
    assert "\n" not in reason.lstrip("\n")
    assert reason.lstrip("\n").startswith("fusewire can't start. ")
    return reason


def test_a_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        reason = refusal(tmp_path / "home", {"PORT": str(port)})
    assert f"Port {port} can't be used (Address already in use)" in reason
    assert "make run PORT=" in reason


@pytest.mark.parametrize(
    ("name", "value", "row"),
    [
        ("AI_MODE", "clout", "AI_MODE=clout"),
        ("AI_MODE", "cloud", "no cloud provider is configured. Set OPENAI_API_KEY or ANTHROPIC_API_KEY in .env"),
        ("OLLAMA_SOTA_MODEL", "llama3", "(ollama lacks OLLAMA_BASE_URL)"),
        ("ADMIN_API_KEY", "put-48-random-letters-and-digits-here", "placeholder, which everybody knows: `make -s key`"),
        ("AI_MONTHLY_BUDGET_USD", "-1", "AI_MONTHLY_BUDGET_USD=-1"),
        ("AI_PRICE_OVERRIDES", "{", "AI_PRICE_OVERRIDES"),
        ("LOCAL_CONCURRENCY", "0", "LOCAL_CONCURRENCY=0"),
        ("PORT", "http", "PORT=http"),
        ("CONSOLE", "no", "CONSOLE=no"),
        ("AUTH_MODE", "none", "AUTH_MODE=none"),
        ("ADMIN_API_KEY", "short", "ADMIN_API_KEY=(hidden)"),
        ("MIGRATION_DATABASE_URL", "host=x", "MIGRATION_DATABASE_URL"),
        ("AI_BUDGET_TIMEZONE", "Mars/Base", "AI_BUDGET_TIMEZONE=Mars/Base"),
    ],
)
def test_a_wrong_setting_starts_nothing(tmp_path: Path, name: str, value: str, row: str) -> None:
    reason = refusal(tmp_path / "home", {name: value})
    assert row in reason
    assert not (tmp_path / "home" / "postgres").exists()


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reason = refusal(tmp_path / "file" / "home")
    assert f"The folder {tmp_path / 'file' / 'home'} can't be used (Not a directory): set FUSEWIRE_HOME" in reason


def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    reason = refusal(tmp_path / "home", limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert f"The folder {tmp_path / 'home'} can't be used (File too large)" in reason


def test_a_disk_that_is_full_before_postgres_has_its_files(tmp_path: Path) -> None:
    limit = 1_000_000
    reason = refusal(tmp_path / "home", _CLOUD, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert f"Postgres doesn't start in {tmp_path / 'home' / 'postgres'}" in reason
    assert "FUSEWIRE_HOME" in reason
    # With room again, the same folder does.
    with embedded_postgres(tmp_path / "home" / "postgres", connections=10):
        pass


@pytest.mark.parametrize(
    ("url", "row"),
    [
        (f"postgresql://someone:{_PASSWORD}@127.0.0.1:1/ledger", "Connection refused"),
        (f"postgresql://someone:{_PASSWORD} x@localhost/ledger", "DATABASE_URL=(hidden) can't be used"),
        (f"host=127.0.0.1 port=1 password={_PASSWORD}", "Connection refused"),
        (_PASSWORD, "DATABASE_URL=(hidden) can't be used"),
    ],
)
def test_a_database_that_is_not_there(tmp_path: Path, url: str, row: str) -> None:
    reason = refusal(tmp_path / "home", {"DATABASE_URL": url})  # the model has begun to load by then
    assert row in reason
    assert "DATABASE_URL" in reason
    assert _PASSWORD not in reason


def test_a_database_of_another_history(tmp_path: Path, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_migration SET name = '0001_ledger.sql' WHERE name LIKE '0001_%'")
    reason = refusal(tmp_path / "home", _CLOUD | {"DATABASE_URL": database_url})
    assert "its schema was made by another version of fusewire (0001_ledger.sql was applied)" in reason
    assert "an empty database" in reason


# --- how it ends --------------------------------------------------------------------------------------------------


@contextmanager
def in_front_of(upstream: Upstream, home: Path, database_url: str, **variables: str) -> Iterator[Gateway]:
    """A gateway over servers of the test's own."""
    settings = {
        "DATABASE_URL": database_url,
        "OLLAMA_BASE_URL": upstream.url.removesuffix("/v1"),
        "OLLAMA_SOTA_MODEL": "large",
        "OLLAMA_COST_EFFECTIVE_MODEL": "small",
    }
    with running_gateway(home, **settings, **variables) as gateway:
        yield gateway


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_call_in_flight_is_finished(
    tmp_path: Path, database_url: str, upstream: Upstream, number: signal.Signals
) -> None:
    upstream.going_on.clear()
    # Of a shell that runs the tests under nohup, the gateway would have inherited that it is ignored.
    with _handled(signal.SIGHUP, signal.SIG_DFL), in_front_of(upstream, tmp_path, database_url) as gateway:
        body = {"model": "sota", "messages": [{"role": "user", "content": "x"}]}
        with httpx.Client(base_url=gateway.base, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            request = client.build_request("POST", "/chat/completions", json=body)
            with _in_a_thread(lambda: client.send(request)) as result:
                eventually(lambda: len(upstream.requests) == 1)
                started = descendants(gateway.process.pid)
                os.killpg(gateway.process.pid, number)  # as Ctrl-C does
                eventually(lambda: "Stopping" in gateway.progress)
                upstream.going_on.set()
            assert result[0].status_code == 200
        assert gateway.process.wait(PATIENCE_SECONDS) == 0
        assert started
        assert [pid for pid in started if alive(pid)] == []
        assert gateway.progress.endswith("Stopping: calls in flight get ten seconds.\nStopped.\n")
        assert len(upstream.billed) == 1


@contextmanager
def _handled(number: signal.Signals, how: signal.Handlers) -> Iterator[None]:
    """This is how the tests' process, and what it starts, take this signal."""
    before = signal.signal(number, how)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _in_a_thread(call: Callable[[], httpx.Response]) -> Iterator[list[httpx.Response]]:
    result: list[httpx.Response] = []
    thread = Thread(target=lambda: result.append(call()))
    thread.start()
    try:
        yield result
    finally:
        thread.join(30)


def test_proxies_of_the_environment_are_not_for_this_machine(
    tmp_path: Path, database_url: str, upstream: Upstream
) -> None:
    proxies = {"http_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "intra.example"}
    with in_front_of(upstream, tmp_path, database_url, **proxies) as gateway:
        body = {"model": "sota", "messages": [{"role": "user", "content": "x"}]}
        answer = httpx.post(f"{gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS, trust_env=False)
        assert answer.status_code == 200


def test_nohup_keeps_it_running(tmp_path: Path, database_url: str, upstream: Upstream) -> None:
    with _handled(signal.SIGHUP, signal.SIG_IGN), in_front_of(upstream, tmp_path, database_url) as gateway:
        gateway.process.send_signal(signal.SIGHUP)
        assert httpx.get(f"{gateway.base}/health", timeout=PATIENCE_SECONDS, trust_env=False).status_code == 200
        assert gateway.process.poll() is None
        assert gateway.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("seen", ["fusewire ", "  Ledger", "  Model"])
def test_told_to_stop_while_it_starts(tmp_path: Path, seen: str) -> None:
    gateway = Gateway(tmp_path, {"AI_MODE": "local"})
    try:
        eventually(lambda: seen in gateway.progress)
        if seen == "fusewire ":  # in the middle of Postgres' first start
            eventually(lambda: (tmp_path / "fusewire" / "postgres" / "PG_VERSION").exists())
        started = descendants(gateway.process.pid)
        for _ in range(3):  # a user who is impatient
            gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(PATIENCE_SECONDS) == 0
    finally:
        gateway.stop()
    assert gateway.progress.endswith("Stopped.\n")
    assert "Traceback" not in gateway.progress
    assert "never retrieved" not in gateway.progress
    assert [pid for pid in started if alive(pid)] == []
    wait_until_none_mentions(str(tmp_path / "fusewire"))
    with embedded_postgres(tmp_path / "fusewire" / "postgres", connections=10):
        pass


def test_a_second_run_a_kill_and_the_next_start(tmp_path: Path) -> None:
    home = tmp_path / "fusewire"
    gateway = Gateway(tmp_path, {})
    try:
        gateway.wait_until_ready()
        kept = gateway.reset()["opened"]
        answer = httpx.post(
            f"{gateway.base}/chat/completions",
            json={"model": "sota", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        )
        assert answer.status_code == 200

        # A second run beside it changes nothing.
        beside = Gateway(_made(tmp_path / "beside"), {"FUSEWIRE_HOME": str(home)})
        assert beside.process.wait(PATIENCE_SECONDS) == 1
        assert f"Another fusewire (process {gateway.process.pid}) uses {home}" in beside.progress
        assert "Traceback" not in beside.progress
        assert gateway.budget()["window"]["id"] == kept["id"]

        # Killed, its workers and its model end by themselves.
        started = descendants(gateway.process.pid)
        assert len(started) >= 3
        gateway.process.kill()
        gateway.process.wait()
        eventually(lambda: not [pid for pid in started if alive(pid) and pid not in mentioning(str(home))])
    finally:
        gateway.stop(signal.SIGKILL)

    # The next start goes on with the same data, and stops the Postgres that had stayed.
    _made(tmp_path / "again")
    with running_gateway(tmp_path / "again", FUSEWIRE_HOME=str(home)) as again:
        assert again.budget()["window"]["id"] == kept["id"]
        started = descendants(again.process.pid)
        os.killpg(again.process.pid, signal.SIGINT)
        assert again.process.wait(PATIENCE_SECONDS) == 0
        assert [pid for pid in started if alive(pid)] == []
        for line in again.log.splitlines():
            json.loads(line)
    wait_until_none_mentions(str(home))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
