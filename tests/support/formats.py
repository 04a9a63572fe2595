"""A gateway for the SDKs of two vendors: a vendor that calls tools as it is told, a small real model, and the books."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local import ollama
from tests.support.gateway import Books, Gateway, eventually, running_gateway
from tests.support.patience import FOR_A_REAL_MODEL
from tests.support.upstream import Reply, Upstream, chunk, running_upstream

INPUT_USD, OUTPUT_USD = Decimal("0.0001"), Decimal("0.0003")
BUDGET_USD: Final = 50
KEY: Final = "fw-KEY-0f1e2d3c"
_PRICES: Final = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'
_PIECE: Final = 3
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Setting:
    """One gateway, kept for a module: `openai/m` is the vendor, `ollama/smollm2` the real model."""

    gateway: Gateway
    upstream: Upstream
    books: Books

    def cost_of(self, *calls: int) -> Decimal:
        """What the vendor billed for its calls, by their places."""
        billed = [self.upstream.billed[place] for place in calls]
        return sum((INPUT_USD * into + OUTPUT_USD * out for into, out in billed), Decimal(0))

    def settle(self) -> None:
        """Wait until nothing is reserved, compare the books with the bill, and look for what no log may hold."""
        eventually(lambda: not self.gateway.budget()["reserved_usd"])
        self.books.balance()
        booked = self.books.one(
            "SELECT coalesce(sum(cost), 0) FROM ledger WHERE cost_basis = 'actual' AND provider = 'openai'"
        )
        assert booked == self.cost_of(*range(len(self.upstream.billed)))
        result = self.gateway.log + self.gateway.progress
        assert not [secret for secret in (KEY, "the weather in Paris", "sunny", "Zürich") if secret in result]


@contextmanager
def formats_gateway(home: Path, postgres: str, template: str, *, model: bool = True, **more: str) -> Iterator[Setting]:
    """A gateway with a database of its own on the tests' server.

    :param model: whether the real model is there
    :param more: settings
    """
    name = f"fusewire_formats_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        connection.execute(made)
    url = make_conninfo(postgres, dbname=name)
    real_model: AbstractContextManager[dict[str, str]] = _real_model() if model else nullcontext({})
    with running_upstream() as upstream, real_model as of_the_model:
        variables = {
            "AI_MODE": "hybrid",
            "OPENAI_API_KEY": "sk-x",
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_SOTA_MODEL": "m",
            "AI_PRICE_OVERRIDES": _PRICES,
            "AI_MONTHLY_BUDGET_USD": str(BUDGET_USD),
            "DATABASE_URL": url,
            "LOCAL_CONCURRENCY": "2",
            "LOG_LEVEL": "DEBUG",
        }
        with running_gateway(home, **of_the_model | variables | more) as gateway:
            yield Setting(gateway, upstream, Books(url))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _real_model() -> Iterator[dict[str, str]]:
    """The small model, as settings."""
    with ollama.model_process() as process:
        yield FOR_A_REAL_MODEL | ollama.as_variables(ollama.address_of(process))


def calls(*tools: tuple[str, str, str], text: str | None = None, extra: dict[str, Any] | None = None) -> Reply:
    """An answer that says `text` and calls tools, each as (id, name, arguments); a stream has them in pieces.

    :param extra: what the vendor wants back with its calls
    """

    def reply(handler: Any, body: dict[str, Any]) -> None:  # noqa: ANN401 - the server's handler
        usage = {"prompt_tokens": len(str(body["messages"])), "completion_tokens": 7, "total_tokens": 0}
        with handler.upstream.lock:
            handler.upstream.billed.append((usage["prompt_tokens"], usage["completion_tokens"]))
        more = {"extra_content": extra} if extra else {}
        whole: list[dict[str, Any]] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}
            for call_id, name, arguments in tools
        ]
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "tool_calls": whole}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
            handler.reply(200, answer | {"choices": [choice], "usage": usage})
            return
        model = body["model"]
        handler.begin_events()
        handler.event(chunk(model, {"role": "assistant", "content": text or ""}))
        for index, call in enumerate(whole):
            arguments = call["function"]["arguments"]
            begun = call | {"index": index, "function": call["function"] | {"arguments": ""}}
            handler.event(chunk(model, {"tool_calls": [begun]}))
            for at in range(0, len(arguments), _PIECE):
                piece = {"index": index, "function": {"arguments": arguments[at : at + _PIECE]}}
                handler.event(chunk(model, {"tool_calls": [piece]}))
        handler.event(chunk(model, {}, "tool_calls"))
        handler.event(chunk(model, {}) | {"choices": [], "usage": usage})
        handler.event("[DONE]")
        handler.end_events()

    return reply
