"""A gateway for the clients of a module, and after each test its books against the vendor's bill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import answer_or_object, clients_gateway, project
from tests.support.formats import Setting


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, postgres: str, template: str) -> Iterator[Setting]:
    with clients_gateway(tmp_path_factory.mktemp("clients"), postgres, template) as setting:
        yield setting


@pytest.fixture
def setting(kept: Setting) -> Iterator[Setting]:
    """What a client spent is what the vendor billed, to the last cent."""
    kept.upstream.requests.clear()
    yield kept
    kept.upstream.script.clear()
    kept.upstream.otherwise = answer_or_object
    kept.settle()
    kept.books.forget_health()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path / "project")
