"""Real Postgres for every test that asks: one server a run, one migrated template, a database of its own a test."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fusewire.config import Settings, load_settings
from fusewire.services import Services, assemble
from fusewire.store.migrate import migrate
from local.postgres_server import PostgresServer
from local.spelling import settings_names
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, running_upstream

_numbers = count(1)
_FOREIGN = ("AI_", "AZURE_", "AWS_", "GCP_", "GOOGLE_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "VLLM_")


def without_settings(environ: MutableMapping[str, str]) -> None:
    """Take out whatever decides what fusewire does: a developer's key is never spent, nor decides a test."""
    known = settings_names()
    for name in [name for name in environ if name in known or name.startswith(_FOREIGN)]:
        del environ[name]


# Before any test, and for all that they start.
without_settings(os.environ)

# A request whose time-out a test doesn't say has five seconds by httpx's own default, which a busy machine may take.
for _phase in ("connect", "read", "write", "pool"):
    setattr((httpx.request.__kwdefaults__ or {})["timeout"], _phase, PATIENCE_SECONDS)

# A shell that starts the tests in its background has Ctrl-C ignored by them and by what they start; some of that is to
# be stopped by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """As root Postgres is an account of its own, which can't reach into the private folder that pytest has for tests.

    So this run has a folder of its own, which the next run of pytest's doesn't close.
    """
    if os.geteuid() == 0 and not config.option.basetemp and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="fw-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.fixture(scope="session")
def tmp_path_factory(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> pytest.TempPathFactory:
    """As root: its folders can be passed through, though not read, by everybody."""
    if os.geteuid() != 0:
        return tmp_path_factory
    base, make = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp
    for folder in (base, base.parent) if hasattr(request.config, "workerinput") else (base,):
        folder.chmod(0o711)

    def mktemp(basename: str, numbered: bool = True) -> Path:
        folder = make(basename, numbered)
        folder.chmod(0o711)
        return folder

    tmp_path_factory.mktemp = mktemp  # type: ignore[method-assign]
    return tmp_path_factory


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URI of a server, which needn't survive the machine: what a test writes isn't forced to the disk."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="fw", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder) / "pg")
        server.start()
        try:
            with psycopg.connect(server.uri, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.uri
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """The name of a migrated database to clone; this run's own, since others may use the same server."""
    name = f"fusewire_template_{os.getpid()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(make_conninfo(postgres, dbname=name))
    yield name
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(postgres: str, template: str) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    with cloned(postgres, template) as url:
        yield url


@contextmanager
def cloned(postgres: str, template: str) -> Iterator[str]:
    """A database like the template, until the block ends."""
    name = f"fusewire_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    yield make_conninfo(postgres, dbname=name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def as_app_role(database_url: str) -> str:
    """The same database with no more rights than the functions have."""
    return make_conninfo(database_url, options="-c role=fusewire_app")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A vendor of this test's own."""
    with running_upstream() as running:
        yield running


@pytest.fixture
def second_upstream() -> Iterator[Upstream]:
    """Another vendor, for falling over."""
    with running_upstream() as running:
        yield running


@pytest.fixture
def core(database_url: str) -> Iterator["CoreFactory"]:
    """Makes the core under settings that a test names; its connections are closed when the test ends."""
    factory = CoreFactory(database_url)
    yield factory
    factory.close()


class CoreFactory:
    """`core(AI_MODE="hybrid", ...)` is a `Services` on this test's database."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._made: list[Services] = []

    def settings(self, **variables: str) -> Settings:
        # One row: what a test is about doesn't depend on how busy the machine is.
        given = {"DATABASE_URL": self.database_url, "AUTH_MODE": "open", "AI_LEDGER_SLOTS": "1"}
        return load_settings(given | variables)

    def __call__(self, **variables: str) -> Services:
        made = assemble(self.settings(**variables))
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.database.close()
