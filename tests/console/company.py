"""A company for the console's pictures: teams, keys, two months of calls, and a morning on which a vendor fails."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx
import psycopg

from tests.support import anthropic_vendor
from tests.support.gateway import Gateway, eventually
from tests.support.guarded import Admin, guarded
from tests.support.past_calls import Share, book
from tests.support.upstream import Upstream, hang, running_upstream, status

_ANSWER: Final = (
    "A budget can be exceeded in two ways: ",
    "a call costs more than was reserved for it, ",
    "or two calls reserve the same dollar. ",
    "The first is ruled out by reserving the most that the call can cost, ",
    "the second by reserving under one lock.",
)
_AZURE_LARGE: Final = ("azure", "gpt-5.4", "sota", 2.5, 15.0)
_AZURE_SMALL: Final = ("azure", "gpt-5.4-mini", "cost_effective", 0.75, 4.5)
_OPENAI: Final = ("openai", "gpt-5.4", "sota", 2.5, 15.0)
_CLAUDE: Final = ("anthropic", "claude-opus-5-5", "sota", 5.0, 25.0)
_HAIKU: Final = ("anthropic", "claude-haiku-5-5", "cost_effective", 1.0, 5.0)

# Name, the one above, limit in USD.
_TREE: Final = (
    ("Engineering", None, "3400"),
    ("Search", "Engineering", "1600"),
    ("Support assistant", "Engineering", "900"),
    ("Developer tools", "Engineering", "700"),
    ("データ分析", None, "1200"),
    ("Document extraction", "データ分析", "700"),
    ("営業支援", None, "400"),
    ("Marketing", None, "250"),
)
# Name, its budget, limit, and what it asks of which model: calls in two months, average input tokens.
_KEYS: Final = (
    (
        "search-prod",
        "Search",
        "1500",
        ((_AZURE_LARGE, 900, 210_000), (_AZURE_SMALL, 700, 60_000), (_OPENAI, 90, 90_000)),
    ),
    ("search-staging", "Search", "100", ((_AZURE_SMALL, 240, 50_000),)),
    ("support-bot", "Support assistant", "800", ((_CLAUDE, 650, 108_000), (_HAIKU, 800, 90_000))),
    ("support-eval-nightly", "Support assistant", None, ((_CLAUDE, 120, 40_000),)),
    ("code-review", "Developer tools", "400", ((_CLAUDE, 240, 130_000), (_AZURE_LARGE, 160, 90_000))),
    ("ci-agents", "Developer tools", "300", ((_OPENAI, 130, 80_000), (_HAIKU, 240, 70_000))),
    ("invoice-extraction", "Document extraction", "600", ((_AZURE_SMALL, 1100, 330_000),)),
    ("notebooks", "データ分析", None, ((_AZURE_LARGE, 210, 80_000), (_HAIKU, 100, 30_000))),
    ("営業支援-本番", "営業支援", "350", ((_AZURE_LARGE, 240, 240_000),)),
    ("copywriter", "Marketing", "240", ((_CLAUDE, 180, 204_000),)),
)


@dataclass(frozen=True, slots=True)
class Company:
    """What a picture needs to know of it."""

    gateway: Gateway
    keys: dict[str, dict[str, Any]]
    """By name, with their secrets."""
    failed: str
    """The `x-request-id` of a call that one vendor refused and another answered."""


@contextmanager
def company(home: Path, database_url: str) -> Iterator[Company]:
    """Its gateway with the console at `/`, until the block ends; a call is under way all the time.

    :param database_url: of a migrated, empty database
    """
    with running_upstream() as vendor, anthropic_vendor.running_vendor() as anthropic:
        settings = {
            "CONSOLE": "on",
            "AI_MONTHLY_BUDGET_USD": "5000",
            "AI_FALLBACK_CHAIN": "azure,openai,anthropic",
            "AZURE_AI_ENDPOINT": vendor.url.removesuffix("/v1"),
            "AZURE_AI_API_KEY": "x",
            "AZURE_SOTA_DEPLOYMENT": "gpt-5.4",
            "AZURE_COST_EFFECTIVE_DEPLOYMENT": "gpt-5.4-mini",
            "AZURE_KEY_EXPIRES_ON": f"{datetime.now(UTC) + timedelta(days=41):%Y-%m-%d}",
            "OPENAI_SOTA_MODEL": "gpt-5.4",
            "OPENAI_COST_EFFECTIVE_MODEL": "gpt-5.4-mini",
            "ANTHROPIC_API_KEY": "x",
            "ANTHROPIC_BASE_URL": anthropic.url,
            "ANTHROPIC_SOTA_MODEL": "claude-opus-5-5",
            "ANTHROPIC_COST_EFFECTIVE_MODEL": "claude-haiku-5-5",
            "AI_PRICE_OVERRIDES": "{}",
        }
        vendor.words = anthropic.words = list(_ANSWER)
        with guarded(home, vendor, database_url, **settings) as (gateway, admin):
            keys = _organise(admin, database_url)
            failed = _morning(gateway, admin, vendor, keys)
            eventually(lambda: "It can't be built" not in (text := _page(gateway)) and 'id="root"' in text, seconds=600)
            yield Company(gateway, keys, failed)


def _page(gateway: Gateway) -> str:
    return httpx.get(f"http://127.0.0.1:{gateway.port}/", headers={"accept": "text/html"}).text


def _organise(admin: Admin, database_url: str) -> dict[str, dict[str, Any]]:
    nodes: dict[str, str] = {}
    for name, above, node_limit in _TREE:
        body = {"name": name, "limit_usd": node_limit, "parent_id": nodes[above] if above else None}
        nodes[name] = admin.ask("POST", "/budgets", body)["id"]
    keys: dict[str, dict[str, Any]] = {}
    shares = []
    for name, node, limit, asked in _KEYS:
        tags = {"team": node, "env": "staging" if "staging" in name else "prod"}
        keys[name] = admin.make(name=name, budget_id=nodes[node], monthly_budget_usd=limit, tags=tags)
        shares += [
            Share(keys[name]["id"], provider, model, tier, calls, tokens, cheap, dear)
            for (provider, model, tier, cheap, dear), calls, tokens in asked
        ]
    keys["finance"] = admin.make(name="finance", scopes=["read"])
    keys["engineering-lead"] = admin.make(
        name="engineering-lead",
        scopes=["complete", "admin"],
        scope_budget_id=nodes["Engineering"],
        budget_id=nodes["Search"],
    )
    keys["intern-trial"] = admin.make(name="intern-trial", budget_id=nodes["Developer tools"], monthly_budget_usd="10")
    with psycopg.connect(database_url, autocommit=True) as session:
        book(session, shares)
    return keys


def _morning(gateway: Gateway, admin: Admin, vendor: Upstream, keys: dict[str, dict[str, Any]]) -> str:
    """Calls, failures and changes; the last call stays under way."""

    def call(name: str, model: str = "sota", **fields: Any) -> httpx.Response:  # noqa: ANN401 - a request's fields
        body = {"model": model, "max_completion_tokens": 4000, "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"authorization": f"Bearer {keys[name]['key']}"}
        return httpx.post(f"{gateway.base}/chat/completions", headers=headers, json=body | fields, timeout=300)

    def wait() -> None:
        with suppress(httpx.HTTPError):  # it is under way until the gateway ends
            call("search-prod", max_completion_tokens=64_000)

    for name, *_ in _KEYS:
        call(name, "cost_effective")
    call("support-bot", "anthropic/claude-opus-5-5")
    admin.ask("DELETE", f"/keys/{keys['intern-trial']['id']}")
    call("intern-trial")
    extraction = keys["invoice-extraction"]
    admin.ask("PATCH", f"/keys/{extraction['id']}", {"monthly_budget_usd": "650", "requests_per_minute": 600})
    limit = {
        "monthly_limit_usd": 5500,
        "until": "window",
        "reason": "Quarter-end invoices (FIN-212)",
    }
    admin.ask("PATCH", "/budget", limit)
    for name in ("search-prod", "code-review", "notebooks", "営業支援-本番"):
        call(name)
    quota = {"message": "This deployment's quota of 240,000 tokens per minute is used up.", "code": "429"}
    vendor.script.append(status(429, {"retry-after": "3600"}, quota))
    failed = call("search-prod")
    assert failed.status_code == 200, failed.text
    vendor.script.append(hang(600))
    Thread(target=wait, daemon=True).start()
    return failed.headers["x-request-id"]
