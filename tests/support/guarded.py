"""`make run` with AUTH_MODE=keys over one vendor that bills, and whoever holds its ADMIN_API_KEY."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import openai

from tests.support.gateway import Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

ADMIN: Final = "bootstrap-key-0123456789abcdef"
PRICES: Final = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'


class Admin:
    """The admin API with a key that has the scope."""

    def __init__(self, gateway: Gateway) -> None:
        self._base = f"{gateway.base}/admin"

    def __call__(
        self, method: str, path: str, body: object = None, *, key: str = ADMIN, accept: str = "application/json"
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", "accept": accept}
        return httpx.request(method, self._base + path, json=body, headers=headers, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer to a request that is granted, its money exact."""
        answer = self(method, path, body)
        assert answer.is_success, answer.text
        result: dict[str, Any] = json.loads(answer.text, parse_float=Decimal)
        return result

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
    """A short chat through OpenAI's SDK."""
    asked: dict[str, Any] = {"model": "sota", "max_completion_tokens": 5} | fields
    return client.chat.completions.create(messages=[{"role": "user", "content": text}], **asked)
