"""Two months of calls by SQL, as the ledger's functions would have booked them one by one: attempts, the windows of the
company, its keys and nodes, and usage rollups, which agree. Thousands of calls for a picture, a million to measure.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

Session = psycopg.Connection[tuple[Any, ...]]

_DAYS: Final = {"past": sql.Literal(54), "open": sql.Literal(24)}
"""How many days are filled, and how many of them are in the open windows, which end six days from now."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one key asks of one model."""

    key_id: str
    provider: str
    model: str
    tier: str
    calls: int
    input_tokens: int
    """The average; output is a quarter of it."""
    input_mtok: float
    output_mtok: float
    """USD a million tokens."""


_SHARES: Final = """
    CREATE TEMP TABLE share (key_id text, provider text, model text, tier text, calls int, input int, in_mtok numeric,
                             out_mtok numeric);
    CREATE TEMP TABLE period AS
    SELECT now() - make_interval(days => {past}) AS opened_at, now() - make_interval(days => {open}) AS ends_at,
           now() - make_interval(days => {open}) AS closed_at
    UNION ALL SELECT now() - make_interval(days => {open}), now() + interval '6 days', NULL
"""
_WINDOWS: Final = """
    DELETE FROM budget_window;
    INSERT INTO budget_window (budget, opened_at, opened_by, resets_at, closed_at)
    SELECT b.id, p.opened_at, CASE WHEN p.closed_at IS NULL THEN 'period_end' ELSE 'use' END, p.ends_at, p.closed_at
    FROM (SELECT 'global' AS id UNION ALL SELECT id FROM budget_node UNION ALL SELECT DISTINCT key_id FROM share) b,
         period p
    ORDER BY p.opened_at, b.id <> 'global', b.id;
    CREATE TEMP TABLE place AS
    WITH RECURSIVE up AS (
        SELECT k.id AS key_id, k.budget_id AS node, 1 AS step FROM api_key k WHERE k.budget_id IS NOT NULL
        UNION ALL SELECT up.key_id, n.parent_id, up.step + 1 FROM up JOIN budget_node n ON n.id = up.node
                  WHERE n.parent_id IS NOT NULL
    )
    SELECT s.key_id, p.opened_at, p.ends_at, c.id AS window_id, k.id AS key_window_id,
           (SELECT array_agg(w.id ORDER BY up.step) FROM up JOIN budget_window w ON w.budget = up.node
            WHERE up.key_id = s.key_id AND w.opened_at = p.opened_at) AS path
    FROM (SELECT DISTINCT key_id FROM share) s, period p, budget_window c, budget_window k
    WHERE c.budget = 'global' AND c.opened_at = p.opened_at AND k.budget = s.key_id AND k.opened_at = p.opened_at
"""
# Later days have more calls and weekends fewer; one in fifty is refused by its vendor; a bound is thrice the cost.
_CALLS: Final = """
    INSERT INTO ledger (id, window_id, key_window_id, path_window_ids, request_id, attempt, operation, provider, model,
                        tier, key_id, status, bound, tokens_bound, cost, cost_basis, outcome, input_tokens,
                        output_tokens, reserved_at, expires_at, ended_at, day)
    SELECT (left(ledger_id_at(c.at)::text, 14) || '7' || right(gen_random_uuid()::text, 21))::uuid, p.window_id,
           p.key_window_id, p.path, gen_random_uuid()::text, 1, 'chat', c.provider, c.model, c.tier, c.key_id,
           CASE WHEN c.fails THEN 'released' ELSE 'settled' END, 3 * c.cost, 4 * (c.input + c.output),
           CASE WHEN NOT c.fails THEN c.cost END, CASE WHEN NOT c.fails THEN 'actual' END,
           CASE WHEN c.fails THEN 'rate_limited' ELSE 'success' END,
           CASE WHEN c.fails THEN 0 ELSE c.input END, CASE WHEN c.fails THEN 0 ELSE c.output END,
           c.at, c.at + interval '16 minutes', c.at + c.took * interval '1 second',
           CASE WHEN NOT c.fails THEN (c.at AT TIME ZONE 'UTC')::date END
    FROM (
        SELECT s.*, t.at, r.a < 0.02 AS fails, 0.4 + 6 * r.b AS took, t.input AS input_tokens, t.input / 4 AS output,
               round((t.input * s.in_mtok + t.input / 4 * s.out_mtok) / 1000000, 8) AS cost
        FROM (SELECT s.*, n FROM share s, generate_series(1, s.calls) n) s
        CROSS JOIN LATERAL (SELECT random() AS a, random() AS b, random() AS c, random() AS d, s.n) r
        CROSS JOIN LATERAL (
            SELECT now() - make_interval(days => {past}) + sqrt(r.c) * make_interval(days => {past}) AS at
        ) drawn
        CROSS JOIN LATERAL (
            SELECT greatest(now() - make_interval(days => {past}),
                            drawn.at - CASE WHEN extract(isodow FROM drawn.at) > 5 AND r.d < 0.7
                                            THEN interval '3 days' ELSE interval '0' END) AS at,
                   (s.input * (0.4 + 1.2 * r.b))::int AS input
        ) t
    ) c (key_id, provider, model, tier, calls, average, in_mtok, out_mtok, n, at, fails, took, input, output, cost)
    JOIN place p ON p.key_id = c.key_id AND c.at >= p.opened_at AND c.at < p.ends_at
    ORDER BY c.at
"""
_SUMS: Final = """
    INSERT INTO usage_rollup (window_id, day, provider, model, tier, key_id, cost, requests, input_tokens,
                              output_tokens)
    SELECT window_id, day, provider, model, COALESCE(tier, ''), COALESCE(key_id, ''), sum(cost), count(*),
           sum(input_tokens), sum(output_tokens) FROM ledger WHERE status = 'settled' GROUP BY 1, 2, 3, 4, 5, 6;
    UPDATE budget_window w SET spent = s.cost, request_count = s.requests, expired_until = now()
    FROM (SELECT b.id, sum(l.cost) AS cost, count(*) AS requests
          FROM ledger l CROSS JOIN LATERAL unnest(ARRAY[l.window_id, l.key_window_id] || l.path_window_ids) b (id)
          WHERE l.status = 'settled' GROUP BY 1) s
    WHERE s.id = w.id
"""
_INDEXES: Final = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'ledger' AND indexname <> 'ledger_pkey'"


def book(session: Session, shares: Sequence[Share]) -> None:
    """Fill a database whose keys and nodes are there, and where nobody has called yet. The same shares make the same
    calls, up to their ids and the time of day.

    :param session: its tables' owner, with autocommit
    """
    indexes = session.execute(_INDEXES).fetchall()
    with session.transaction():
        session.execute("SELECT setseed(0.5)")
        session.execute(sql.SQL(_SHARES).format(**_DAYS))
        with session.cursor() as cursor, cursor.copy("COPY share FROM STDIN") as copy:
            for share in shares:
                copy.write_row(astuple(share))
        session.execute(_WINDOWS)
        session.execute("ALTER TABLE ledger DISABLE TRIGGER ALL")
        for name, _ in indexes:
            session.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        session.execute(sql.SQL(_CALLS).format(**_DAYS))
        session.execute("ALTER TABLE ledger ENABLE TRIGGER ALL")
        for _, definition in indexes:
            session.execute(definition.encode())
        session.execute(_SUMS)
        session.execute("DROP TABLE share, period, place")
    session.execute("VACUUM (ANALYZE)")
