"""What the forecasts of a page of nodes are made of: one pass, and to the digit what each node says by itself."""

import random
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.nodes import Nodes
from fusewire.budget.wire import sql_settings
from fusewire.json import dumps
from tests.conftest import CoreFactory
from tests.integration.budget.keys import Keys

ADMIN = AuditContext("admin", "192.0.2.1", "request-of-an-admin")
MODELS = ("sota", "azure/*", "gpt", "aws/nova", "nobody/*")

# The rule in its plainest form, for one node.
_PLAIN = """
    SELECT jsonb_build_object('today', current.day, 'since', min(d.day), 'days', COALESCE(
        jsonb_object_agg(d.day, d.cost) FILTER (WHERE d.day >= current.day - 28), '{}'))::text
    FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day) current LEFT JOIN (
        SELECT r.day, sum(r.cost) AS cost FROM usage_rollup r JOIN api_key k ON k.id = r.key_id
        JOIN budget_node n ON n.id = %s
        WHERE k.budget_id IN (SELECT s.id FROM budget_node_subtree(n.id) s)
              AND budget_node_counts(n.models, r.tier, r.provider, r.model)
        GROUP BY r.day) d ON true
    GROUP BY current.day
"""
_LISTED = """
    SELECT jsonb_agg(n->>'id'), jsonb_agg(n->'days')::text, array_agg(n::text)
    FROM jsonb_array_elements(budget_node_list(%s)) n
"""

Session = psycopg.Connection[tuple[object, ...]]


def book(session: Session, key_id: str, back: int, cost: Decimal, provider: str, model: str, tier: str) -> None:
    session.execute(
        """
        INSERT INTO usage_rollup (window_id, day, provider, model, tier, key_id, cost, requests)
        SELECT w.id, (clock_timestamp() AT TIME ZONE 'UTC')::date - %s::integer, %s, %s, %s, %s, %s, 1
        FROM budget_window w WHERE w.budget = 'global' ON CONFLICT DO NOTHING
        """,
        (back, provider, model, tier, key_id, cost),
    )


@pytest.fixture
def session(core: CoreFactory, database_url: str) -> Iterator[Session]:
    core().ledger.budget()  # there is a window
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def settings(core: CoreFactory) -> object:
    return sql_settings(core.settings())


@pytest.mark.parametrize("seed", range(4))
def test_a_page_says_of_each_node_what_it_says_of_itself(
    core: CoreFactory, session: Session, nodes: Nodes, keys: Keys, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - numbers, no secret
    made: list[str] = []
    for n in range(14):
        parent = dice.choice([None, *made[-6:]])
        models = dice.choice([None, None, dice.sample(MODELS, 2)])
        fields = {"name": f"node {n}", "parent_id": parent, "period": "month", "models": models}
        made.append(nodes.create(fields, ADMIN).id)
    for n in range(20):
        key = keys.make(f"key-{n}", node=dice.choice([None, *made]))
        for _ in range(dice.choice([0, 1, 12])):
            back = dice.choice([0, 1, 7, 27, 28, 29, 30, 90, dice.randrange(120)])
            cost = Decimal(dice.randrange(10**30)).scaleb(-dice.randrange(30))
            book(
                session,
                key,
                back,
                cost,
                dice.choice(["azure", "aws"]),
                dice.choice(["gpt", "nova"]),
                dice.choice(["sota", ""]),
            )
        if dice.random() < 0.2:
            session.execute("UPDATE api_key SET revoked_at = now() WHERE id = %s", (key,))
    # A node that is gone, whose revoked keys are still under it: its parents no longer count them.
    leaf = next(id for id in reversed(made) if id not in {nodes.show(other).stored["parent_id"] for other in made})
    session.execute("UPDATE budget_node SET deleted_at = now() WHERE id = %s", (leaf,))
    made.remove(leaf)

    found = session.execute(_LISTED, (dumps({"settings": settings(core), "after": None, "limit": 100}),)).fetchone()
    assert found is not None
    ids, days, whole = found
    assert isinstance(ids, list)
    assert ids == sorted(made)
    each = [session.execute(_PLAIN, (id,)).fetchone() for id in sorted(made)]
    assert days == "[" + ", ".join(str(row[0]) for row in each if row) + "]"
    shown = "SELECT budget_node_show(%s)::text"
    alone = [session.execute(shown, (dumps({"settings": settings(core), "id": id}),)).fetchone() for id in ids]
    assert whole == [row[0] for row in alone if row]
    assert any(node.history.days for node in nodes.list(after=None, limit=100))
    # A page of some, and the part of a caller whose scopes are bound.
    assert [node.id for node in nodes.list(after=ids[2], limit=3)] == ids[3:6]
    for node in nodes.list(after=None, limit=100, within=ids[0]):
        assert node.history == nodes.show(node.id).history


def test_a_pages_cost_follows_the_recent_rows_and_not_the_trees_depth(
    core: CoreFactory, session: Session, nodes: Nodes, keys: Keys
) -> None:
    """Rows of the rollups that are read, as Postgres counts them."""
    days, above = 400, None
    for n in range(8):
        above = nodes.create({"name": f"node {n}", "parent_id": above, "period": "month"}, ADMIN).id
    key = keys.make(node=above)
    for back in range(days):
        book(session, key, back, Decimal(1), "azure", "gpt", "")
    session.execute("VACUUM (ANALYZE) usage_rollup")
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'usage_rollup'"
    argument = dumps({"settings": settings(core), "after": None, "limit": 100})
    with session.transaction():
        session.execute("SET LOCAL enable_seqscan = off")  # a table this small is read whole
        session.execute("SELECT budget_node_list(%s)", (argument,))
        row = session.execute(read).fetchone()
    assert row is not None and 29 <= int(str(row[0])) <= 29 + 8
