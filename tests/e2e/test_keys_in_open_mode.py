"""`make run` as it comes, without keys asked for: a key that is sent counts as it would with AUTH_MODE=keys."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import anthropic
import httpx
import openai
import psycopg
import pytest

from local.template import read_template
from tests.support.gateway import PROJECT, Books, Gateway
from tests.support.guarded import ADMIN, Admin, ask, guarded
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

UNAUTHORIZED = read_template(PROJECT / "infra" / "template.yaml", {}).refusals["UNAUTHORIZED"]


class House(NamedTuple):
    gateway: Gateway
    admin: Admin
    books: Books


@pytest.fixture
def house(tmp_path: Path, upstream: Upstream, database_url: str) -> Iterator[House]:
    with guarded(tmp_path, upstream, database_url, AUTH_MODE="open") as (gateway, admin):
        yield House(gateway, admin, Books(database_url))


def status(house: House, method: str, path: str, key: str | None = None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.request(method, f"{house.gateway.base}{path}", headers=headers, timeout=PATIENCE_SECONDS).status_code


def test_a_keys_budget_limits_and_tags_count_though_no_key_is_asked_for(house: House, upstream: Upstream) -> None:
    gateway, admin, books = house
    poor = admin.make(name="poor", monthly_budget_usd=0.000001)
    with pytest.raises(openai.APIStatusError) as refused:
        ask(gateway.openai(key=poor["key"]))
    assert refused.value.status_code == 402
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["budget"] == poor["id"]
    assert not upstream.requests

    team = admin.make(
        name="search",
        monthly_budget_usd=1,
        requests_per_minute=50,
        allowed_models=["sota"],
        allowed_classifications=["public"],
        tags={"team": "search"},
    )
    client = gateway.openai(key=team["key"])
    raw = client.chat.completions.with_raw_response.create(
        model="sota", messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=5
    )
    cost = Decimal(raw.headers["x-fusewire-cost-usd"])
    assert Decimal(raw.headers["x-fusewire-budget-remaining-usd"]) == 1 - cost, "of the key's budget"
    assert raw.headers["x-ratelimit-limit-requests"] == "50"
    with anthropic.Anthropic(
        base_url=gateway.base.removesuffix("/v1"), api_key=team["key"], max_retries=0, timeout=PATIENCE_SECONDS
    ) as claude:
        claude.messages.create(model="sota", max_tokens=5, messages=[{"role": "user", "content": "Hello"}])
    for refuses, param in (
        ({"model": "openai/other"}, "model"),
        ({"extra_headers": {"x-fusewire-classification": "confidential"}}, "x-fusewire-classification"),
    ):
        with pytest.raises(openai.PermissionDeniedError) as denied:
            ask(client, **refuses)
        assert denied.value.param == param
    assert [model.id for model in client.models.list()] == ["sota"]

    # What SDKs send because they must is nobody's key, and is booked on nobody.
    for other in ("none", "sk-proj-0123456789", ADMIN):
        ask(gateway.openai(key=other))
    assert books.rows("SELECT key_id, count(*) FROM ledger GROUP BY 1 ORDER BY 1") == [(team["id"], 2), (None, 3)]
    chargeback = admin.ask("GET", "/usage?group_by=tag:team")["rows"]
    assert {row["tag:team"]: row["requests"] for row in chargeback} == {"search": 2, None: 3}
    by_key = admin.ask("GET", "/usage?group_by=key")["rows"]
    assert {row["key"]: row["requests"] for row in by_key} == {team["id"]: 2, None: 3}
    assert admin.ask("GET", f"/keys/{team['id']}")["current_spend_usd"] > 0
    books.balance()


def test_a_fusewire_key_that_isnt_valid_is_refused_as_with_keys(house: House, upstream: Upstream) -> None:
    gateway, admin, books = house
    assert gateway.workers("authorizer") == []
    assert (status(house, "GET", "/models"), status(house, "GET", "/models", "none")) == (200, 200)
    assert gateway.workers("authorizer") == [], "nobody is asked about a call without a key of ours"
    revoked = admin.make(name="revoked")
    admin.ask("DELETE", f"/keys/{revoked['id']}")
    expired = admin.make(name="expired")
    with psycopg.connect(books.url) as connection:
        connection.execute("UPDATE api_key SET expires_at = now() WHERE id = %s", (expired["id"],))
    for wrong in ("fw_wrong", revoked["key"], expired["key"]):
        for headers in ({"authorization": f"Bearer {wrong}"}, {"x-api-key": wrong, "authorization": "Bearer none"}):
            body = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}]}
            answer = httpx.post(
                f"{gateway.base}/chat/completions", json=body, headers=headers, timeout=PATIENCE_SECONDS
            )
            assert (answer.status_code, answer.text.strip()) == (401, UNAUTHORIZED.body)
            assert answer.headers["x-should-retry"] == "false"
    for free in ("/health", "/openapi.json"):
        assert status(house, "GET", free, "fw_wrong") == 200
    assert not upstream.requests
    assert books.one("SELECT count(*) FROM ledger") == 0


def test_admin_routes_are_open_without_a_key_and_go_by_the_scopes_of_one(house: House) -> None:
    gateway, admin, books = house
    assert status(house, "GET", "/admin/budget") == 200
    for key in ("none", ADMIN):
        assert status(house, "GET", "/admin/budget", key) == 200
    caller, boss = admin.make(name="caller"), admin.make(name="boss", scopes=["admin"])
    assert status(house, "GET", "/admin/budget", caller["key"]) == 403
    assert status(house, "GET", "/admin/budget", "fw_wrong") == 401
    assert status(house, "POST", "/admin/budget/reset", boss["key"]) == 200
    with pytest.raises(openai.PermissionDeniedError):
        ask(gateway.openai(key=boss["key"]))
    assert books.rows("SELECT action, actor FROM audit ORDER BY n") == [
        ("key.created", "open"),
        ("key.created", "open"),
        ("admin.refused", caller["id"]),
        ("admin.refused", "unknown"),
        ("budget.reset", boss["id"]),
    ]
