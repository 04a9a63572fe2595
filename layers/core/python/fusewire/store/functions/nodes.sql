-- The nodes of the tree of budgets as the admin API sees them. As in keys.sql, a public function takes one jsonb object,
-- is one round trip, and may be sent twice. audit_context is {actor, source_ip, request_id}.
--
-- Whoever changes a node holds the company's open window with its slots reclaimed: no reservation is under way, and no
-- other change. Lock order: that window, rows of budget_node, the node's window, audit_head. Who puts a key under a node
-- locks the node's row (key_node_is_there), so that it isn't deleted meanwhile.
--
-- What a change means:
-- * A limit counts from the next reservation on, and for the open window. What is spent and reserved stays. Lowered below
--   what is spent, it opens the breaker.
-- * With another period, the open window ends when a window of that period ends that was opened when this one was; now,
--   where that is past. Its successor opens at the next use.
-- * Under another parent, the node's own window goes on. What was spent stays where it was booked, and calls in flight
--   are settled there. It is likewise with a key that is put under another node.
-- * Other models count from the next reservation on.
-- * A node that has children or keys isn't deleted. A deleted node's window is closed; calls in flight are settled in it.

-- The most nodes that are on a way from a key to the company.
CREATE OR REPLACE FUNCTION budget_node_max_depth() RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT 8
$$;

CREATE OR REPLACE FUNCTION budget_node_json(n budget_node) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(n)
$$;

-- A node, with the window that its spending is in, NULL where it has none that is current, and how many calls wait.
CREATE OR REPLACE FUNCTION budget_node_budget_json(n budget_node, settings jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT budget_node_json(n) || jsonb_build_object('waiting', ledger_waiting(n.id), 'budget', (
        SELECT ledger_budget_json(spread_whole(w), n.limit_usd, ledger_thresholds_of(n.id, settings)) FROM budget_window w
        WHERE w.budget = n.id AND w.closed_at IS NULL AND w.resets_at > clock_timestamp()))
$$;

-- The nodes of the subtree that has this node at its top, itself first; with each, how many steps it is below it.
CREATE OR REPLACE FUNCTION budget_node_subtree(top text) RETURNS TABLE (id text, steps integer)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below (id, steps) AS (
        SELECT top, 0
        UNION ALL
        SELECT n.id, b.steps + 1 FROM below b JOIN budget_node n ON n.parent_id = b.id
        WHERE n.deleted_at IS NULL AND b.steps < budget_node_max_depth())
    SELECT b.id, b.steps FROM below b
$$;

-- The ids from a node up to the one directly below the company's budget, in this order.
CREATE OR REPLACE FUNCTION budget_node_way_up(of_node text) RETURNS text[]
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up (id, parent_id, steps) AS (
        SELECT n.id, n.parent_id, 1 FROM budget_node n WHERE n.id = of_node
        UNION ALL
        SELECT n.id, n.parent_id, u.steps + 1 FROM up u JOIN budget_node n ON n.id = u.parent_id
        WHERE u.steps <= budget_node_max_depth())
    SELECT COALESCE(array_agg(u.id ORDER BY u.steps), '{}') FROM up u
$$;

-- The names on the way down to a node, such as Engineering / Search; from `top` on, where that is on the way.
CREATE OR REPLACE FUNCTION budget_node_path(of_node text, top text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT string_agg(n.name, ' / ' ORDER BY u.place DESC)
    FROM unnest(budget_node_way_up(of_node)) WITH ORDINALITY u (id, place) JOIN budget_node n ON n.id = u.id
    WHERE u.place <= COALESCE(array_position(budget_node_way_up(of_node), top), 100)
$$;

-- What the forecasts of these nodes are made of, as usage_days: the days of the keys that are below each now, of the
-- models that it counts. All nodes in one pass: the recent rows of the keys below them are read once, and added up by the
-- node that the key is directly under; the tree is climbed with these sums. Of older rows it looks for each key's first
-- alone. With work_mem the sums are hashed; sorted on the disk, which is what Postgres' 4 MB lead to, they take longer.
CREATE OR REPLACE FUNCTION budget_nodes_days(nodes text[], tz text) RETURNS TABLE (id text, days jsonb)
LANGUAGE plpgsql STABLE SET work_mem = '32MB' AS $$
#variable_conflict use_column
DECLARE
    today date := (clock_timestamp() AT TIME ZONE tz)::date;
BEGIN
    RETURN QUERY
    WITH below AS MATERIALIZED (
        SELECT n.id AS top, n.models, s.id FROM budget_node n CROSS JOIN LATERAL budget_node_subtree(n.id) s
        WHERE n.id = ANY (nodes)
    ), key AS MATERIALIZED (
        SELECT k.id, k.budget_id FROM api_key k WHERE k.budget_id IN (SELECT b.id FROM below b)
    ), recent AS MATERIALIZED (
        SELECT k.budget_id, r.day, r.tier, r.provider, r.model, sum(r.cost) AS cost
        FROM key k JOIN usage_rollup r ON r.key_id = k.id AND r.day >= today - 28 GROUP BY 1, 2, 3, 4, 5
    ), day AS (
        SELECT b.top, r.day, sum(r.cost) AS cost FROM below b JOIN recent r ON r.budget_id = b.id
        WHERE budget_node_counts(b.models, r.tier, r.provider, r.model) GROUP BY 1, 2
    ), sums AS (
        SELECT d.top, jsonb_object_agg(d.day, d.cost) AS days FROM day d GROUP BY 1
    ), since AS (
        SELECT b.top, min(f.day) AS day
        FROM below b JOIN key k ON k.budget_id = b.id CROSS JOIN LATERAL (
            SELECT r.day FROM usage_rollup r
            WHERE r.key_id = k.id AND budget_node_counts(b.models, r.tier, r.provider, r.model)
            ORDER BY r.day LIMIT 1) f
        GROUP BY 1
    )
    SELECT n.id, jsonb_build_object('today', today, 'since', since.day, 'days', COALESCE(sums.days, '{}'))
    FROM unnest(nodes) n (id) LEFT JOIN since ON since.top = n.id LEFT JOIN sums ON sums.top = n.id;
END $$;

-- The same of one node.
CREATE OR REPLACE FUNCTION budget_node_days(n budget_node, tz text) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT d.days FROM budget_nodes_days(ARRAY[n.id], tz) d
$$;

-- Whether a node with these models counts a call to this one, which is served in this tier: as a key's allowed_models
-- are read. A call that is downgraded counts in the tier that serves it.
CREATE OR REPLACE FUNCTION budget_node_counts(models text[], tier text, provider text, model text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT models IS NULL OR models && ARRAY[tier, model, provider || '/' || model, provider || '/*']
$$;

-- One node with what its forecast is made of; NULL: there is none. p: {settings, id, within?}, within as in scopes.sql
CREATE OR REPLACE FUNCTION budget_node_show(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT scope_node_json(budget_node_budget_json(n, p->'settings'), p->>'within')
           || jsonb_build_object('days', budget_node_days(n, p->'settings'->>'timezone'))
    FROM budget_node n WHERE n.id = p->>'id' AND n.deleted_at IS NULL AND scope_has_node(n.id, p->>'within')
$$;

-- The nodes after the one that the page before ended with, the oldest first.
-- p: {settings, after?, limit, within?}
CREATE OR REPLACE FUNCTION budget_node_list(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    WITH page AS MATERIALIZED (
        SELECT n FROM budget_node n
        WHERE n.deleted_at IS NULL AND (p->>'after' IS NULL OR n.id > p->>'after')
              AND (p->>'within' IS NULL OR n.id = ANY ((SELECT scope_nodes(p->>'within'))::text[]))
        ORDER BY n.id LIMIT (p->>'limit')::integer
    ), ahead AS MATERIALIZED (
        SELECT * FROM budget_nodes_days((SELECT array_agg((page.n).id) FROM page), p->'settings'->>'timezone')
    )
    SELECT COALESCE(jsonb_agg(scope_node_json(budget_node_budget_json(page.n, p->'settings'), p->>'within')
                              || jsonb_build_object('days', ahead.days) ORDER BY ahead.id), '[]')
    FROM page JOIN ahead ON ahead.id = (page.n).id
$$;

-- Why a node may not be as n is, NULL when it may: no_parent, cycle, depth, name, thresholds. The caller holds the
-- company's open window.
CREATE OR REPLACE FUNCTION budget_node_refusal(n budget_node, settings jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    above text[] := budget_node_way_up(n.parent_id);
    thresholds jsonb := settings || jsonb_strip_nulls(
        jsonb_build_object('alert', n.alert_threshold, 'open', n.open_threshold));
BEGIN
    RETURN CASE
        WHEN n.parent_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM budget_node o WHERE o.id = n.parent_id AND o.deleted_at IS NULL) THEN 'no_parent'
        WHEN n.id = ANY (above) THEN 'cycle'
        WHEN cardinality(above) + 1 + (SELECT max(s.steps) FROM budget_node_subtree(n.id) s)
             > budget_node_max_depth() THEN 'depth'
        WHEN EXISTS (
            SELECT FROM budget_node o WHERE o.name = n.name AND o.deleted_at IS NULL AND o.id <> n.id
            AND o.parent_id IS NOT DISTINCT FROM n.parent_id) THEN 'name'
        WHEN (thresholds->>'alert')::numeric >= (thresholds->>'open')::numeric THEN 'thresholds'
    END;
END $$;

-- The functions that change a node return it with "written": the audit's before and after, NULL when nothing changed;
-- with "refused", nothing was done. Within a node (scopes.sql), what isn't there is NULL, and "refused" may be own (the
-- caller's own node is changed by whoever is above it) or beyond (it would leave the caller's part of the tree).
-- rolled_over is the company's window, as in windows.sql.

-- p: {settings, id, fields, audit_context, within?}
CREATE OR REPLACE FUNCTION budget_node_create(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    n budget_node := jsonb_populate_record(NULL::budget_node, p->'fields');
    refusal text;
    written jsonb;
BEGIN
    SELECT * INTO step FROM ledger_lock_window('global', p->'settings', NULL);
    IF NOT EXISTS (SELECT FROM budget_node o WHERE o.id = p->>'id') THEN
        n.id := p->>'id'; n.created_at := clock_timestamp(); n.created_by := p->'audit_context'->>'actor';
        n.deleted_at := NULL; n.parent_id := COALESCE(n.parent_id, p->>'within');
        refusal := CASE WHEN scope_has_node(n.parent_id, p->>'within') THEN budget_node_refusal(n, p->'settings')
                   ELSE 'no_parent' END;
        IF refusal IS NOT NULL THEN
            RETURN jsonb_build_object('refused', refusal, 'rolled_over', step.rolled_over);
        END IF;
        INSERT INTO budget_node (id, name, parent_id, limit_usd, period, alert_threshold, open_threshold, models,
                                 created_at, created_by)
        VALUES (n.id, n.name, n.parent_id, n.limit_usd, n.period, n.alert_threshold, n.open_threshold, n.models,
                n.created_at, n.created_by);
        written := audit_write(p, 'budget.created', NULL, budget_node_json(n));
    END IF;
    RETURN budget_node_show(p) || jsonb_build_object('written', written, 'rolled_over', step.rolled_over);
END $$;

-- Changes the fields that are named, and no others. NULL: no such node. p: {settings, id, changes, audit_context, within?}
CREATE OR REPLACE FUNCTION budget_node_update(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    was budget_node;
    n budget_node;
    refusal text;
    written jsonb;
BEGIN
    SELECT * INTO step FROM ledger_lock_window('global', p->'settings', NULL);
    SELECT * INTO was FROM budget_node o WHERE o.id = p->>'id' AND o.deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND OR NOT scope_has_node(was.id, p->>'within') THEN RETURN NULL; END IF;
    -- Sent twice, and somebody else's change may have come between: the second time changes nothing.
    IF NOT (p ? 'resent' AND EXISTS (
        SELECT FROM audit a WHERE a.n > (SELECT h.n FROM audit_head h) - 1000 AND a.action = 'budget.updated'
            AND a.request_id = p->'audit_context'->>'request_id' AND a.after->>'id' = was.id
    )) THEN
        n := jsonb_populate_record(was, (p->'changes') - '{id,created_at,created_by,deleted_at}'::text[]);
        refusal := CASE
            WHEN was.id = p->>'within' THEN 'own'
            WHEN scope_has_node(n.parent_id, p->>'within') THEN budget_node_refusal(n, p->'settings')
            WHEN n.parent_id IS NULL THEN 'beyond'
            ELSE 'no_parent'
        END;
        IF refusal IS NOT NULL THEN
            RETURN jsonb_build_object('refused', refusal, 'rolled_over', step.rolled_over);
        END IF;
        IF n IS DISTINCT FROM was THEN
            UPDATE budget_node o SET name = n.name, parent_id = n.parent_id, limit_usd = n.limit_usd, period = n.period,
                                     alert_threshold = n.alert_threshold, open_threshold = n.open_threshold,
                                     models = n.models
            WHERE o.id = was.id;
            IF n.period <> was.period THEN
                PERFORM ledger_change_period(was.id, n.period, p->'settings'->>'timezone');
            END IF;
            written := audit_write(p, 'budget.updated', budget_node_json(was), budget_node_json(n));
        END IF;
    END IF;
    RETURN budget_node_show(p) || jsonb_build_object('written', written, 'rolled_over', step.rolled_over);
END $$;

-- Has a budget's open window end by another period, and those of a key's users with the key's. A window whose new end is
-- past ends now: it rolls over at its next use.
CREATE OR REPLACE FUNCTION ledger_change_period(of_budget text, to_period text, tz text) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE budget_window w
    SET resets_at = greatest(ledger_period_end(to_period, w.opened_at, tz), clock_timestamp())
    WHERE (w.budget = of_budget OR starts_with(w.budget, 'user:' || of_budget || ':'))
          AND w.closed_at IS NULL AND w.resets_at > clock_timestamp()
$$;

-- Ends a node for good, as it was then is returned. Its row and what it spent stay. NULL: no such node.
-- p: {settings, id, audit_context, within?}
-- "refused" is children or keys: it has some.
CREATE OR REPLACE FUNCTION budget_node_delete(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    was budget_node;
    n budget_node;
    shown jsonb;
    refusal text;
    written jsonb;
BEGIN
    SELECT * INTO step FROM ledger_lock_window('global', p->'settings', NULL);
    SELECT * INTO was FROM budget_node o WHERE o.id = p->>'id' FOR UPDATE;
    IF NOT FOUND OR (was.deleted_at IS NOT NULL AND NOT p ? 'resent') OR NOT scope_has_node(was.id, p->>'within') THEN
        RETURN NULL;
    END IF;
    shown := budget_node_budget_json(was, p->'settings')
             || jsonb_build_object('days', budget_node_days(was, p->'settings'->>'timezone'));
    IF was.deleted_at IS NULL THEN
        refusal := CASE
            WHEN was.id = p->>'within' THEN 'own'
            WHEN EXISTS (SELECT FROM budget_node o WHERE o.parent_id = was.id AND o.deleted_at IS NULL) THEN 'children'
            WHEN EXISTS (SELECT FROM api_key k WHERE k.budget_id = was.id AND k.revoked_at IS NULL) THEN 'keys'
        END;
        IF refusal IS NOT NULL THEN
            RETURN jsonb_build_object('refused', refusal, 'rolled_over', step.rolled_over);
        END IF;
        UPDATE budget_node o SET deleted_at = clock_timestamp() WHERE o.id = was.id RETURNING * INTO n;
        UPDATE budget_window w SET closed_at = least(clock_timestamp(), w.resets_at)
        WHERE w.budget = was.id AND w.closed_at IS NULL;
        written := audit_write(p, 'budget.deleted', budget_node_json(was), budget_node_json(n));
    END IF;
    RETURN shown || jsonb_build_object('written', written, 'rolled_over', step.rolled_over);
END $$;

-- Whether a key may be put under this node; NULL is the company's budget. It locks the node's row, so that the node isn't
-- deleted before the caller's commit.
CREATE OR REPLACE FUNCTION key_node_is_there(of_node text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM budget_node n WHERE n.id = of_node AND n.deleted_at IS NULL FOR SHARE;
    RETURN FOUND OR of_node IS NULL;
END $$;
