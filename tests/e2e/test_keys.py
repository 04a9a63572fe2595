"""`make run` with AUTH_MODE=keys: both vendors' SDKs with keys of their own, in front of a vendor that bills."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.gateway import Books, Gateway, running_gateway
from tests.support.upstream import Upstream

ADMIN = "bootstrap-key-0123456789abcdef"
INPUT_USD, OUTPUT_USD = Decimal("0.0001"), Decimal("0.0003")
PRICES = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'


class Admin:
    """Whoever holds ADMIN_API_KEY."""

    def __init__(self, gateway: Gateway) -> None:
        self._base = f"{gateway.base}/admin"

    def __call__(self, method: str, path: str, body: object = None, *, key: str = ADMIN) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.request(method, self._base + path, json=body, headers=headers, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self(method, path, body)
        assert answer.is_success, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def make(self, **fields: object) -> dict[str, Any]:
        return self.ask("POST", "/keys", {"name": "team", "scopes": ["complete"]} | fields)


@contextmanager
def guarded(home: Path, upstream: Upstream, database_url: str, **variables: str) -> Iterator[tuple[Gateway, Admin]]:
    """A gateway that asks for keys, over one vendor."""
    settings = {
        "AUTH_MODE": "keys",
        "ADMIN_API_KEY": ADMIN,
        "AI_MODE": "cloud",
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": PRICES,
        "DATABASE_URL": database_url,
    }
    with running_gateway(home / "run", **settings | variables) as gateway:
        yield gateway, Admin(gateway)


def ask(client: openai.OpenAI, text: str = "Hello", **fields: Any) -> Any:  # noqa: ANN401 - an answer or a stream
    return client.chat.completions.create(
        model="sota", messages=[{"role": "user", "content": text}], max_completion_tokens=5, **fields
    )


def test_both_vendors_sdks_with_keys(tmp_path: Path, upstream: Upstream, database_url: str) -> None:
    with guarded(tmp_path, upstream, database_url) as (gateway, admin):
        made = admin.make(allowed_models=["sota"], requests_per_minute=50, tags={"team": "search"})
        key = made["key"]
        assert ask(gateway.openai(key=key)).choices[0].message.content == "Paris."
        with anthropic.Anthropic(base_url=gateway.base.removesuffix("/v1"), api_key=key, max_retries=0) as claude:
            message = claude.messages.create(
                model="sota", max_tokens=5, messages=[{"role": "user", "content": "Hello"}]
            )
        assert message.content[0].text == "Paris."  # type: ignore[union-attr]

        raw = gateway.openai(key=key).chat.completions.with_raw_response.create(
            model="sota", messages=[{"role": "user", "content": "Hello"}]
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "50"
        assert raw.headers["x-ratelimit-remaining-requests"] == "47"
        assert "x-fusewire-budget-remaining-usd" not in raw.headers

        # A scope, a model and a classification that the key doesn't have.
        with pytest.raises(openai.PermissionDeniedError) as denied:
            gateway.openai(key=key).chat.completions.create(
                model="openai/other", messages=[{"role": "user", "content": "Hello"}]
            )
        assert denied.value.param == "model"
        refused = admin("GET", "/budget", key=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        assert refused.headers["x-should-retry"] == "false"

        # Wrong, revoked and no key at all look the same.
        admin.ask("DELETE", f"/keys/{made['id']}")
        told = set()
        for wrong in ("fw_wrong", ADMIN[:-1], made["prefix"], made["id"]):
            with pytest.raises(openai.AuthenticationError) as unknown:
                ask(gateway.openai(key=wrong))
            told.add((unknown.value.code, unknown.value.message))
        assert len(told) == 1
        with anthropic.Anthropic(
            base_url=gateway.base.removesuffix("/v1"), api_key="fw_wrong", max_retries=0
        ) as claude:
            with pytest.raises(anthropic.AuthenticationError):
                claude.messages.create(model="sota", max_tokens=5, messages=[{"role": "user", "content": "Hello"}])
        bare = httpx.get(f"{gateway.base}/models")
        assert (bare.status_code, bare.json()["error"]["code"]) == (401, "invalid_api_key")

        for free in ("health", "openapi.json"):
            assert httpx.get(f"{gateway.base}/{free}").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            ask(gateway.openai(key=key))

        books = Books(database_url)
        assert {key_id for (key_id,) in books.rows("SELECT key_id FROM ledger")} == {made["id"]}
        assert books.rows("SELECT action, actor FROM audit ORDER BY n") == [
            ("key.created", "bootstrap"),
            ("admin.refused", made["id"]),
            ("key.revoked", "bootstrap"),
        ]
        assert key not in gateway.log + gateway.progress
        assert ADMIN not in gateway.log + gateway.progress
