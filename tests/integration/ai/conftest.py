"""The books and the log, for every test that calls through the router."""

from collections.abc import Iterator

import openai  # noqa: F401 - before any test, so that importing it takes nothing from a test's short deadline
import pytest

from tests.integration.ai.observing import Books, LogLines, logged
from tests.support.upstream import Upstream, running_upstream


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


@pytest.fixture
def log() -> Iterator[LogLines]:
    with logged() as lines:
        yield lines


@pytest.fixture(scope="module")
def lasting_upstream() -> Iterator[Upstream]:
    """A vendor for a whole module: an SDK's client, which takes a while to make, can be kept with it."""
    with running_upstream() as running:
        yield running


@pytest.fixture
def forgetful_upstream(lasting_upstream: Upstream) -> Upstream:
    """The same, with nothing asked of it yet."""
    for seen in ("requests", "paths", "headers", "script", "billed"):
        getattr(lasting_upstream, seen).clear()
    return lasting_upstream
