"""A Runtime API of each test's own, and the runtime's side of a connection to it."""

from collections.abc import Iterator

import pytest

from fusewire.runtime.api import RuntimeApi
from tests.integration.runtime.runtime_api import RuntimeApiServer, runtime_api


@pytest.fixture
def platform() -> Iterator[RuntimeApiServer]:
    with runtime_api() as server:
        yield server


@pytest.fixture
def api(platform: RuntimeApiServer) -> Iterator[RuntimeApi]:
    client = RuntimeApi(platform.address)
    yield client
    client.close()
