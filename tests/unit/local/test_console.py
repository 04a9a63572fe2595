"""The console's files at the gateway, and what is said where they can't be built."""

import asyncio
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import console as module
from local import console_build
from local.console import Console
from local.console_build import BuildError, build, for_build, is_built
from local.console_files import policy
from local.pages import Page, page_of
from tests.support.patience import PATIENCE_SECONDS

BROWSER = "text/html,application/xhtml+xml"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><p>console")
    (folder / "icon.svg").write_text("<svg/>")
    (folder / "assets" / "index-abc.js").write_text("run()")
    (folder / "made-of.txt").write_text("0")
    return folder


def asked(console: Console, path: str, accept: str = "*/*") -> Page | None:
    scope: dict[str, Any] = {"method": "GET", "path": path, "headers": [(b"accept", accept.encode())]}
    return page_of(scope, is_open=False, console=console)


def test_what_was_built_is_served_and_nothing_beside_it(built: Path) -> None:
    console = Console()
    console.open(built)
    assert console.is_served
    index, script = asked(console, "/", BROWSER), asked(console, "/assets/index-abc.js")
    assert index is not None and script is not None
    assert index.body == b"<!doctype html><p>console"
    headers = dict(index.headers)
    assert headers[b"content-security-policy"] == policy().encode()
    assert headers[b"cache-control"] == b"no-cache"
    assert dict(script.headers)[b"content-type"] == b"text/javascript; charset=utf-8"
    assert b"immutable" in dict(script.headers)[b"cache-control"]
    assert asked(console, "/") is None  # curl and the SDKs are answered in JSON, as before
    for path in ("/made-of.txt", "/assets/", "/assets/../made-of.txt", "/assets/other.js"):
        assert asked(console, path) is None


def test_the_policy_runs_only_the_consoles_own_files() -> None:
    parts = dict(part.strip().partition(" ")[::2] for part in policy().split(";"))
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == parts["frame-ancestors"] == "'none'"
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert "unsafe" not in policy()
    assert "http" not in policy()


def test_what_is_built_is_opened_at_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console()
    monkeypatch.setattr(module, "is_built", lambda: True)
    monkeypatch.setattr(console, "open", lambda: Console.open(console, built))
    said: list[str] = []
    asyncio.run(console.build(said.append, "http://localhost:1/"))
    assert console.is_served
    assert said == []


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A registry that takes connections, and says nothing until it is closed; pip knows no other."""
    monkeypatch.setattr(module, "is_built", lambda: False)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        given = {"INDEX_URL": address, "RETRIES": "0", "CONFIG_FILE": "/dev/null", "NO_CACHE_DIR": "1"}
        for name, value in given.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        yield server


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The console's, in a checkout where no other gateway builds it."""
    ignored = shutil.ignore_patterns("node_modules", "dist", ".build-*", "__pycache__")
    for name in ("local", "console"):
        shutil.copytree(console_build.SOURCES.parent / name, tmp_path / name, ignore=ignored)
    (tmp_path / "requirements").mkdir()
    shutil.copy(console_build.SOURCES.parent / "requirements" / "console.txt", tmp_path / "requirements")
    monkeypatch.setattr(module, "BUILT", tmp_path / "console" / "dist")
    return tmp_path / "console"


def test_a_build_ends_with_the_gateway_and_leaves_nothing(no_registry: socket.socket, sources: Path) -> None:
    async def stopped_on_the_way() -> None:
        building = asyncio.create_task(Console().build(lambda line: None, "http://localhost:1/"))
        connection, _ = await asyncio.to_thread(no_registry.accept)
        assert list(sources.glob(".build-*"))
        building.cancel()
        await asyncio.wait((building,))
        with connection:
            connection.settimeout(PATIENCE_SECONDS)
            while connection.recv(4096):
                pass  # pip's request, and then the end of pip

    no_registry.settimeout(PATIENCE_SECONDS)
    asyncio.run(stopped_on_the_way())
    assert not list(sources.glob(".build-*"))


def test_a_machine_that_cant_build_it_is_told_why(no_registry: socket.socket, sources: Path) -> None:
    """A real build, whose pip reaches no registry."""
    no_registry.close()
    console, said = Console(), list[str]()
    asyncio.run(console.build(said.append, "http://localhost:1/"))
    assert not console.is_served
    assert console.note.startswith("It can't be built on this machine: pip: ")
    assert said[-1].startswith("left out, since it can't be built here (pip: ")
    assert not list(sources.glob(".build-*"))


def test_what_was_built_of_other_sources_isnt_taken(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_built(built)
    (built / "made-of.txt").write_text(console_build.fingerprint(""))
    assert is_built(built)
    assert not is_built(built.parent)
    monkeypatch.setattr(console_build, "SOURCES", built)  # whatever it is, it isn't these
    monkeypatch.setattr(console_build, "_PROJECT", built)
    monkeypatch.setattr(console_build, "_REQUIREMENTS", built / "index.html")
    assert not is_built(built)


def test_a_folder_that_cant_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_build, "SOURCES", tmp_path / "gone")
    with pytest.raises(BuildError, match=r"gone.*: No such file or directory"):
        build(tmp_path / "dist")


def test_a_build_gets_the_registries_variables_and_no_credential() -> None:
    of_a_build = {"PATH": "/bin", "https_proxy": "p", "npm_config_registry": "r", "PIP_INDEX_URL": "i", "HOME": "/"}
    others = {"ADMIN_API_KEY": "a", "OPENAI_API_KEY": "o", "DATABASE_URL": "d", "AWS_SECRET_ACCESS_KEY": "s"}
    assert for_build(of_a_build | others | {"NEXT_PUBLIC_API_URL": "elsewhere"}) == of_a_build
