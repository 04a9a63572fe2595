"""API keys and budgets of the tree as the ledger sees them: rows that are changed while calls are under way."""

from decimal import Decimal
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from fusewire.budget.wire import Period


class Keys:
    """Makes and changes rows of `api_key` through a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)

    def make(
        self,
        key_id: str = "key-a",
        *,
        budget: str | None = None,
        requests: int | None = None,
        tokens: int | None = None,
        node: str | None = None,
        per_user: str | None = None,
        period: str = "month",
    ) -> str:
        """:return: the key's id"""
        self._connection.execute(
            """
            INSERT INTO api_key (id, name, scopes, limit_usd, requests_per_minute, tokens_per_minute, budget_id,
                                 per_user_limit_usd, period, created_at, created_by)
            VALUES (%s, %s, '{complete}', %s, %s, %s, %s, %s, %s, now(), 'test')
            """,
            (key_id, key_id, budget, requests, tokens, node, per_user, period),
        )
        return key_id

    def make_node(self, node_id: str, *, parent: str | None, limit: Decimal, period: Period) -> None:
        """A budget of the tree."""
        self.execute(
            "INSERT INTO budget_node (id, name, parent_id, limit_usd, period, created_at, created_by) "
            "VALUES (%s, %s, %s, %s, %s, now(), 'test')",
            *(node_id, node_id, parent, limit, period),
        )

    def change(self, key_id: str, **columns: Any) -> None:  # noqa: ANN401 - whatever the column takes
        for name, value in columns.items():
            self._connection.execute(
                sql.SQL("UPDATE api_key SET {} = %s WHERE id = %s").format(sql.Identifier(name)), (value, key_id)
            )

    def execute(self, statement: LiteralString, *parameters: object) -> None:
        self._connection.execute(statement, parameters)

    def close(self) -> None:
        self._connection.close()
