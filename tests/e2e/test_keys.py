"""`make run` with AUTH_MODE=keys: both vendors' SDKs with keys of their own, in front of a vendor that bills."""

from pathlib import Path

import anthropic
import httpx
import openai
import pytest

from tests.support.gateway import Books
from tests.support.guarded import ADMIN, ask, guarded
from tests.support.upstream import Upstream


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
        result = set()
        for wrong in ("fw_wrong", ADMIN[:-1], made["prefix"], made["id"]):
            with pytest.raises(openai.AuthenticationError) as unknown:
                ask(gateway.openai(key=wrong))
            result.add((unknown.value.code, unknown.value.message))
        assert len(result) == 1
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
