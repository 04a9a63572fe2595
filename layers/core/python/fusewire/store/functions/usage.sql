-- What was booked, read back: usage from the rollups, single calls from the ledger. These functions only read, in one
-- snapshot each (STABLE), so that rows and totals agree.

-- What a forecast is made of: today in the budget's zone, the first day with spend, and the sums of the last 28 days
-- and of today. key: whose; NULL for the company. Adjustments are no days' habit: the forecast has them in what is spent
-- and in nothing else.
CREATE OR REPLACE FUNCTION usage_days(key text, tz text) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE tz)::date;
    since date;
    sums jsonb;
BEGIN
    IF key IS NULL THEN
        SELECT min(day) INTO since FROM usage_rollup WHERE provider <> 'adjustment';
        SELECT jsonb_object_agg(d.day, d.cost) INTO sums FROM (
            SELECT day, sum(cost) AS cost FROM usage_rollup
            WHERE day >= today - 28 AND provider <> 'adjustment' GROUP BY day) d;
    ELSE
        SELECT min(day) INTO since FROM usage_rollup WHERE key_id = key;
        SELECT jsonb_object_agg(d.day, d.cost) INTO sums FROM (
            SELECT day, sum(cost) AS cost FROM usage_rollup WHERE key_id = key AND day >= today - 28 GROUP BY day) d;
    END IF;
    RETURN jsonb_build_object('today', today, 'since', since, 'days', COALESCE(sums, '{}'));
END $$;

-- The company's windows that opened on these days of its zone, both included, with what their slots hold.
CREATE OR REPLACE FUNCTION usage_windows(first date, last date, tz text) RETURNS SETOF budget_window
LANGUAGE plpgsql STABLE AS $$
DECLARE
    w budget_window;
BEGIN
    FOR w IN
        SELECT * FROM budget_window
        WHERE budget = 'global' AND opened_at >= first::timestamp AT TIME ZONE tz
              AND opened_at < (last + 1)::timestamp AT TIME ZONE tz
        ORDER BY id
    LOOP
        SELECT w.spent + held.spent, w.reserved + held.reserved, w.request_count + held.request_count
        INTO w.spent, w.reserved, w.request_count FROM ledger_held_by_slots(w.id) held;
        RETURN NEXT w;
    END LOOP;
END $$;

-- Spend by groups.
-- p: {timezone, groups: [day|provider|model|tier|key|named_key|budget|tag:<name>], from?, to?, windows_of?: [first, last],
-- after?, limit, by_cost?, budget?: a node's id, key?: a key's, provider?, model?, within?}
-- from and to are days, both included. By default from is the first day of the month, and to is open. windows_of takes
-- the windows that opened on these days instead, whatever days their settlements fell on. after is the last group of
-- the page before. budget, and within (scopes.sql), leave the keys alone that are under the node now, key that one (empty:
-- no key), and provider and model theirs; then the company's windows aren't told. The group budget is the path to the key's
-- node now, the character 1f, and the node's id; named_key is the key's id, 1f, and its name. Rows are in the order of
-- their groups, with by_cost the dearest first; then there is no page after.
CREATE OR REPLACE FUNCTION usage_report(p jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    tz text := p->>'timezone';
    first date := COALESCE((p->>'from')::date, date_trunc('month', COALESCE(
        (p->>'to')::timestamp, clock_timestamp() AT TIME ZONE tz))::date);
    last date := COALESCE((p->>'to')::date, 'infinity');
    windows jsonb;
    partly boolean := p ?| ARRAY['budget', 'within', 'key', 'provider', 'model'];
    part_of text := COALESCE(p->>'budget', p->>'within');
    keys text[] := scope_keys(CASE WHEN scope_has_node(part_of, p->>'within') THEN scope_nodes(part_of) END);
    parts text;
    rank text := CASE WHEN p ? 'by_cost' THEN 'cost DESC, keys' ELSE 'keys' END;
    result jsonb;
BEGIN
    IF p ? 'windows_of' THEN
        SELECT COALESCE(jsonb_agg(ledger_window_json(w) ORDER BY w.id), '[]') INTO windows
        FROM usage_windows((p->'windows_of'->>0)::date, (p->'windows_of'->>1)::date, tz) w;
    END IF;
    -- Only these words become SQL; a tag's name is quoted.
    SELECT string_agg(CASE name
        WHEN 'day' THEN 'r.day::text' WHEN 'provider' THEN 'r.provider' WHEN 'model' THEN 'r.model'
        WHEN 'tier' THEN 'r.tier' WHEN 'key' THEN 'r.key_id'
        WHEN 'named_key' THEN 'CASE r.key_id WHEN '''' THEN '''' ELSE r.key_id || chr(31) || COALESCE(k.name, '''') END'
        WHEN 'budget' THEN 'COALESCE(b.path || chr(31) || b.id, '''')'
        ELSE format('COALESCE(k.tags->>%L, '''')', substr(name, length('tag:') + 1))
    END, ', ' ORDER BY place) INTO parts FROM jsonb_array_elements_text(p->'groups') WITH ORDINALITY g (name, place);
    EXECUTE format($query$
        WITH node AS MATERIALIZED (
            SELECT n.id, budget_node_path(n.id, $7) AS path FROM budget_node n
        ), booked AS MATERIALIZED (
            SELECT ARRAY[%s] COLLATE "C" AS keys, sum(r.cost) AS cost, sum(r.requests) AS requests,
                   sum(r.input_tokens) AS input_tokens, sum(r.output_tokens) AS output_tokens
            FROM usage_rollup r LEFT JOIN api_key k ON k.id = r.key_id %s
            WHERE %s
            GROUP BY 1
        ), page AS (
            SELECT * FROM booked WHERE keys > $3 ORDER BY %s LIMIT $4
        )
        SELECT jsonb_build_object(
            'rows', (SELECT COALESCE(jsonb_agg(jsonb_build_array(
                        keys, cost, requests, input_tokens, output_tokens) ORDER BY %s), '[]') FROM page),
            'total', (SELECT jsonb_build_array(COALESCE(sum(cost), 0), COALESCE(sum(requests), 0),
                        COALESCE(sum(input_tokens), 0), COALESCE(sum(output_tokens), 0)) FROM booked))
    $query$, parts,
        CASE WHEN p->'groups' ? 'budget' THEN 'LEFT JOIN node b ON b.id = k.budget_id' ELSE '' END,
        CASE WHEN windows IS NULL THEN 'r.day BETWEEN $1 AND $2' ELSE 'r.window_id = ANY ($5)' END
            || CASE WHEN part_of IS NULL THEN '' ELSE ' AND r.key_id = ANY ($6)' END
            || CASE WHEN p ? 'key' THEN ' AND r.key_id = $8' ELSE '' END
            || CASE WHEN p ? 'provider' THEN ' AND r.provider = $9' ELSE '' END
            || CASE WHEN p ? 'model' THEN ' AND r.model = $10' ELSE '' END, rank, rank)
    INTO result
    USING first, last, ARRAY(SELECT jsonb_array_elements_text(p->'after')), (p->>'limit')::integer,
          ARRAY(SELECT (w->>'id')::bigint FROM jsonb_array_elements(windows) w), keys, p->>'within', p->>'key',
          p->>'provider', p->>'model';
    RETURN result || jsonb_build_object('windows', CASE WHEN windows IS NULL OR NOT partly THEN windows ELSE '[]' END,
                                      'from', CASE WHEN windows IS NULL THEN first END,
                                      'to', CASE WHEN windows IS NULL THEN NULLIF(last, 'infinity') END);
END $$;

-- The smallest id (UUID version 7) that can have been made at a time.
CREATE OR REPLACE FUNCTION ledger_id_at(at timestamptz) RETURNS uuid
LANGUAGE sql STABLE STRICT AS $$
    SELECT (lpad(to_hex(greatest(floor(extract(epoch FROM at) * 1000), 0)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE OR REPLACE FUNCTION ledger_call_json(e ledger) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', e.id, 'request_id', e.request_id, 'attempt', e.attempt, 'operation', e.operation, 'provider', e.provider,
        'model', e.model, 'tier', e.tier, 'key_id', e.key_id, 'status', e.status, 'outcome', e.outcome,
        'bound_usd', e.bound, 'cost_usd', e.cost, 'cost_basis', e.cost_basis,
        'input_tokens', e.input_tokens, 'output_tokens', e.output_tokens,
        'cached_input_tokens', e.cached_input_tokens, 'cache_write_tokens', e.cache_write_tokens,
        'reasoning_tokens', e.reasoning_tokens,
        'reserved_at', e.reserved_at, 'expires_at', e.expires_at, 'ended_at', e.ended_at, 'day', e.day,
        'window_id', e.window_id, 'key_window_id', e.key_window_id, 'path_window_ids', e.path_window_ids)
$$;

-- Whether an entry passes the filters.
-- p: {provider?, model?, key?, status?, outcome?, cost_basis?, tier?, from?, to?}; from is included, to isn't.
CREATE OR REPLACE FUNCTION ledger_matches(e ledger, p jsonb) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT (p->>'provider' IS NULL OR e.provider = p->>'provider')
        AND (p->>'model' IS NULL OR e.model = p->>'model')
        AND (p->>'key' IS NULL OR e.key_id = p->>'key')
        AND (p->>'status' IS NULL OR e.status = p->>'status')
        AND (p->>'outcome' IS NULL OR e.outcome = p->>'outcome')
        AND (p->>'cost_basis' IS NULL OR e.cost_basis = p->>'cost_basis')
        AND (p->>'tier' IS NULL OR e.tier = p->>'tier')
        AND (p->>'from' IS NULL OR e.reserved_at >= (p->>'from')::timestamptz)
        AND (p->>'to' IS NULL OR e.reserved_at < (p->>'to')::timestamptz)
$$;

-- Attempts, the newest first.
-- p: what ledger_matches takes, and {limit, scan_limit, before?: an id, request_id?, within?}, within as in scopes.sql
-- The primary key is the order: ids grow with time, so this needs no index for which every call would pay. The cost of
-- a page is bounded instead. It looks at scan_limit entries at most, and "next" says where to go on, even when few of
-- them, or none, passed the filters.
CREATE OR REPLACE FUNCTION ledger_calls(p jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- An id is made by the caller's clock, reserved_at by Postgres': AWS itself refuses clocks that are further off.
    skew interval := '15 minutes';
    oldest uuid := COALESCE(ledger_id_at((p->>'from')::timestamptz - skew), '00000000-0000-0000-0000-000000000000');
    newest uuid := least((p->>'before')::uuid, ledger_id_at((p->>'to')::timestamptz + skew),
                         'ffffffff-ffff-ffff-ffff-ffffffffffff');
    wanted integer := (p->>'limit')::integer;
    scan_limit integer := (p->>'scan_limit')::integer;
    within text := p->>'within';
    nodes text[] := scope_nodes(within);
    found jsonb;
    following uuid;
BEGIN
    IF p->>'request_id' IS NOT NULL THEN
        SELECT jsonb_agg(s.entry) INTO found FROM (
            SELECT ledger_call_json(e) AS entry FROM ledger e
            WHERE e.request_id = p->>'request_id' AND e.id < newest AND ledger_matches(e, p)
                  AND (within IS NULL OR scope_has_path(e.path_window_ids, nodes))
            ORDER BY e.id DESC LIMIT wanted + 1) s;
    ELSE
        SELECT jsonb_agg(s.entry) INTO found FROM (
            SELECT ledger_call_json(e) AS entry
            FROM (SELECT * FROM ledger l WHERE l.id < newest AND l.id >= oldest ORDER BY l.id DESC LIMIT scan_limit) e
            WHERE ledger_matches(e, p) AND (within IS NULL OR scope_has_path(e.path_window_ids, nodes))
            ORDER BY e.id DESC LIMIT wanted + 1) s;
    END IF;
    found := COALESCE(found, '[]');
    IF jsonb_array_length(found) > wanted THEN
        found := found - wanted;
        following := found->-1->>'id';
    ELSIF p->>'request_id' IS NULL THEN
        SELECT l.id INTO following FROM ledger l
        WHERE l.id < newest AND l.id >= oldest ORDER BY l.id DESC OFFSET scan_limit - 1 LIMIT 1;
    END IF;
    RETURN jsonb_build_object('rows', found, 'next', following);
END $$;

-- Every attempt of one call, in order, and what they cost together; NULL for a call that isn't there.
-- p: {request_id, within?}
CREATE OR REPLACE FUNCTION ledger_call(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('request_id', e.request_id, 'cost_usd', COALESCE(sum(e.cost), 0),
                              'attempts', jsonb_agg(ledger_call_json(e) ORDER BY e.attempt, e.id))
    FROM ledger e
    WHERE e.request_id = p->>'request_id'
          AND (p->>'within' IS NULL OR scope_has_path(e.path_window_ids, scope_nodes(p->>'within')))
    GROUP BY e.request_id
$$;
