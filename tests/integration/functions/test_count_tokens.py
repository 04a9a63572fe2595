"""POST /messages/count_tokens: nothing is booked, and a key's models and requests a minute hold as for a call."""

import json
from typing import Any

import pytest

from fusewire.ai.permissions import Permissions
from fusewire.http.identity import Identity
from tests.integration.ai.observing import Books
from tests.integration.functions.conftest import Functions, as_caller, make_key, sample

ALLOWED = Identity("key_team", frozenset({"complete"}), Permissions(("sota",)))
PATHS = ("/api/v1/messages/count_tokens", "/v1/messages/count_tokens")


def counting(identity: Identity = ALLOWED, path: str = PATHS[0], **fields: object) -> dict[str, Any]:
    body = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return as_caller(identity, sample("complete", body) | {"path": path, "resource": path})


@pytest.mark.parametrize("path", PATHS)
def test_it_costs_nothing(functions: Functions, database_url: str, books: Books, path: str) -> None:
    make_key(database_url)
    answer = functions("complete", counting(path=path))
    assert answer["statusCode"] == 200, answer["body"]
    assert json.loads(answer["body"]).keys() == {"input_tokens"}
    assert answer["headers"]["x-fusewire-token-count"] == "bound"
    assert answer["headers"]["request-id"] == answer["headers"]["x-request-id"]
    assert books.entries() == []


def test_it_uses_up_the_minute_as_a_call_does(functions: Functions, database_url: str) -> None:
    make_key(database_url, requests_per_minute=2)
    assert [functions("complete", counting())["statusCode"] for _ in range(3)] == [200, 200, 429]
    refused = json.loads(functions("complete", counting())["body"])
    assert (refused["type"], refused["error"]["type"]) == ("error", "rate_limit_error")


def test_a_key_counts_for_its_own_models(functions: Functions, database_url: str) -> None:
    make_key(database_url)
    other = Identity("key_team", frozenset({"complete"}), Permissions(("cost_effective",)))
    answer = functions("complete", counting(other))
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["type"]) == (403, "permission_error")
