"""What a call leaves behind, read where it lies: the ledger's rows and the log's lines."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from fusewire import logs
from fusewire.ai.caller import Caller
from fusewire.ai.permissions import Classification
from tests.support.upstream import Upstream


class Books:
    """This test's database, as an auditor sees it."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def query(self, statement: LiteralString) -> list[dict[str, Any]]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            return connection.execute(statement).fetchall()

    def entries(self) -> list[dict[str, Any]]:
        """Every attempt, in order."""
        return self.query("SELECT * FROM ledger ORDER BY reserved_at, attempt")

    def ends(self) -> list[tuple[str, str, str | None, str]]:
        """(provider, status, cost basis, outcome) of every attempt."""
        return [(e["provider"], e["status"], e["cost_basis"], e["outcome"]) for e in self.entries()]

    def spent(self) -> Decimal:
        return Decimal(sum(window["spent"] for window in self.query("SELECT spent FROM budget_window")))

    def health(self, provider: str) -> dict[str, Any]:
        found = {row["provider"]: row for row in self.query("SELECT * FROM provider_health")}
        return found.get(provider, {})

    def check(self) -> None:
        """The sums that hold at every commit, and that nothing is left reserved."""
        for window in self.query(
            "SELECT w.spent, w.reserved, w.request_count,"
            " coalesce(sum(l.cost), 0) AS booked, count(*) FILTER (WHERE l.status = 'settled') AS settled,"
            " count(*) FILTER (WHERE l.status = 'reserved') AS open,"
            " coalesce((SELECT sum(cost) FROM usage_rollup r WHERE r.window_id = w.id), 0) AS rolled_up"
            " FROM budget_window w LEFT JOIN ledger l ON l.window_id = w.id GROUP BY w.id"
        ):
            assert window["spent"] == window["booked"] == window["rolled_up"]
            assert window["request_count"] == window["settled"]
            assert (window["open"], window["reserved"]) == (0, 0)


class LogLines:
    """The JSON lines of a test, in order."""

    def __init__(self, buffer: io.StringIO) -> None:
        self._buffer = buffer

    @property
    def text(self) -> str:
        return self._buffer.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_float=Decimal) for line in self.text.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]


@contextmanager
def logged() -> Iterator[LogLines]:
    """The log from here on, DEBUG included."""
    handler = logs.logger.registered_handler
    assert hasattr(handler, "setStream")
    buffer = io.StringIO()
    before, level = handler.setStream(buffer), logs.logger.log_level
    logs.start_request("request-1", "DEBUG")
    yield LogLines(buffer)
    handler.setStream(before)
    logs.logger.setLevel(level)


PRICES = {
    "azure/*": {"input_mtok": 1000, "output_mtok": 2000},
    "openai/*": {"input_mtok": 3000, "output_mtok": 4000},
    "ollama/*": {"input_mtok": 10, "output_mtok": 20},
}


def two_clouds(first: Upstream, second: Upstream, **variables: str) -> dict[str, str]:
    """Azure before OpenAI, both priced; and Ollama, where its variables are among the others."""
    local = any(name.startswith("OLLAMA_") for name in variables)
    return {
        "AI_FALLBACK_CHAIN": "azure,openai",
        "AZURE_AI_ENDPOINT": first.url.removesuffix("/v1"),
        "AZURE_AI_API_KEY": "sentinel-azure-key",
        "AZURE_SOTA_DEPLOYMENT": "first",
        "AZURE_EMBEDDING_DEPLOYMENT": "first-embedding",
        "OPENAI_BASE_URL": second.url,
        "OPENAI_API_KEY": "sentinel-openai-key",
        "OPENAI_SOTA_MODEL": "second",
        "AI_PRICE_OVERRIDES": json.dumps(
            {name: price for name, price in PRICES.items() if local or name != "ollama/*"}
        ),
        **variables,
    }


def price_of(provider: str, prompt: int, completion: int) -> Decimal:
    """What an upstream's bill costs, by its own arithmetic."""
    rates = PRICES[f"{provider}/*"]
    return Decimal(prompt * rates["input_mtok"] + completion * rates["output_mtok"]).scaleb(-6)


def caller(remaining_seconds: float = 60, classification: Classification = "internal") -> Caller:
    """Who asks, with time enough unless a test says otherwise."""
    return Caller("request-1", remaining_seconds, classification)
