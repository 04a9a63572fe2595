-- The budgets between the company's and a key's: the nodes of the tree above the key, and the budget of the request's
-- user. Together they are the call's path. A call whose key has no node above it and tells no users apart has none.
--
-- A path is a jsonb array from the key up, the user's budget first: [{budget, limit, alert, open, name?}]. limit is NULL
-- where the budget refuses nothing. alert and open stand where the settings have theirs, so that an element serves the
-- functions that take settings. A user's budget is named user:<the key's id>:<hash>, a node's by its id.

-- The period after which a budget's windows end: month, week, day or none.
CREATE OR REPLACE FUNCTION ledger_period_of(of_budget text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF of_budget = 'global' THEN RETURN 'month'; END IF;
    IF starts_with(of_budget, 'bud_') THEN RETURN (SELECT n.period FROM budget_node n WHERE n.id = of_budget); END IF;
    RETURN COALESCE((SELECT k.period FROM api_key k WHERE k.id = ledger_key_of(of_budget)), 'month');
END $$;

-- The key whose budget it is, or one of whose users'.
CREATE OR REPLACE FUNCTION ledger_key_of(of_budget text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN starts_with(of_budget, 'user:') THEN split_part(of_budget, ':', 2) ELSE of_budget END
$$;

-- The settings with the thresholds of a budget in their place, where it has any of its own.
CREATE OR REPLACE FUNCTION ledger_thresholds_of(of_budget text, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT starts_with(of_budget, 'bud_') THEN RETURN settings; END IF;
    RETURN (SELECT settings || jsonb_strip_nulls(jsonb_build_object('alert', n.alert_threshold, 'open', n.open_threshold))
            FROM budget_node n WHERE n.id = of_budget);
END $$;

-- Whether the calls of a key may have a path. A key that is none (no caller's key, or the bootstrap key) has none.
CREATE OR REPLACE FUNCTION key_has_path(k api_key) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT k.budget_id IS NOT NULL OR k.per_user_limit_usd IS NOT NULL
$$;

-- Whether a call lacks the user that its key asks for. An operator's probe is no user's.
CREATE OR REPLACE FUNCTION ledger_lacks_user(k api_key, entry jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT k.per_user_limit_usd IS NOT NULL AND entry->>'user' IS NULL AND entry->>'operation' <> 'probe'
$$;

-- The name of a user's budget. digest: SHA-256 of the key's id and the user, in hex, which is all that comes here of the
-- user. Without the database's secret nobody can tell whose it is by trying names.
CREATE OR REPLACE FUNCTION ledger_user_budget(key_id text, digest text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT 'user:' || key_id || ':' || encode(sha256(h.secret || sha256(h.secret || decode(digest, 'hex'))), 'hex')
    FROM user_hash_secret h
$$;

-- The path of a call of this key to this candidate in this tier, found from the key alone; '[]' where no budget counts
-- it. A node whose models leave the candidate out is passed by.
CREATE OR REPLACE FUNCTION ledger_path(k api_key, entry jsonb, tier text, candidate jsonb, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    path jsonb := '[]';
    next_id text := k.budget_id;
    n budget_node;
BEGIN
    IF k.per_user_limit_usd IS NOT NULL AND entry->>'user' IS NOT NULL THEN
        path := jsonb_build_array(jsonb_build_object(
            'budget', ledger_user_budget(k.id, entry->>'user'), 'limit', k.per_user_limit_usd,
            'alert', settings->'alert', 'open', settings->'open'));
    END IF;
    FOR step IN 1..budget_node_max_depth() LOOP
        EXIT WHEN next_id IS NULL;
        SELECT * INTO STRICT n FROM budget_node b WHERE b.id = next_id;
        IF budget_node_counts(n.models, tier, candidate->>'provider', candidate->>'model') THEN
            path := path || jsonb_build_array(jsonb_build_object(
                'budget', n.id, 'name', n.name, 'limit', n.limit_usd,
                'alert', COALESCE(n.alert_threshold, (settings->>'alert')::numeric),
                'open', COALESCE(n.open_threshold, (settings->>'open')::numeric)));
        END IF;
        next_id := n.parent_id;
    END LOOP;
    IF next_id IS NOT NULL THEN RAISE 'more than % budgets above key %', budget_node_max_depth(), k.id; END IF;
    RETURN path;
END $$;

-- The open windows of a path's budgets, locked in one statement by id, in the path's order; NULL for one that isn't open.
CREATE OR REPLACE FUNCTION ledger_lock_open_path(path jsonb) RETURNS budget_window[]
LANGUAGE plpgsql AS $$
DECLARE
    names text[] := ARRAY(SELECT b.step->>'budget' FROM jsonb_array_elements(path) WITH ORDINALITY b (step, n) ORDER BY b.n);
    windows budget_window[] := array_fill(NULL::budget_window, ARRAY[cardinality(names)]);
    w budget_window;
BEGIN
    FOR w IN
        SELECT * FROM budget_window b WHERE b.budget = ANY (names) AND b.closed_at IS NULL
        ORDER BY b.id FOR NO KEY UPDATE
    LOOP
        windows[array_position(names, w.budget)] := w;
    END LOOP;
    RETURN windows;
END $$;

-- As ledger_lock_open_path, for a caller who holds the company's open window and has reclaimed its slots: it opens a
-- window at the first use, rolls over one whose period has ended, which it adds to rolled_over, and records the states.
CREATE OR REPLACE FUNCTION ledger_lock_path(path jsonb, settings jsonb, statement_id uuid, INOUT rolled_over jsonb,
                                            INOUT threshold_events jsonb, OUT windows budget_window[])
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    each jsonb;
    w budget_window;
BEGIN
    windows := ledger_lock_open_path(path);
    FOR place IN 1..cardinality(windows) LOOP
        each := path->(place - 1);
        w := windows[place];
        IF w.id IS NULL OR w.resets_at <= clock_timestamp() THEN
            step := ledger_lock_window(each->>'budget', settings, NULL);
            w := step.w;
            IF step.rolled_over IS NOT NULL THEN
                rolled_over := COALESCE(rolled_over, '[]') || jsonb_build_array(step.rolled_over);
            END IF;
        END IF;
        step := ledger_record_state(
            w, (each->>'limit')::numeric, each, threshold_events, NULL, statement_id);
        threshold_events := step.threshold_events;
        windows[place] := step.w;
    END LOOP;
END $$;

-- Whether a path's budget is in a recorded state; NULL without a path.
CREATE OR REPLACE FUNCTION ledger_path_has_state(windows budget_window[], wanted text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT wanted IN (SELECT w.state FROM unnest(windows) w)
$$;

-- A budget of a path as a refusal shows it: {refused_by}; {} for a budget that isn't on it.
CREATE OR REPLACE FUNCTION ledger_path_budget_json(name text, path jsonb, windows budget_window[]) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(
        (SELECT jsonb_build_object('refused_by', ledger_budget_json(windows[b.n], (b.step->>'limit')::numeric, b.step)
                                                 || jsonb_build_object('name', b.step->'name'))
         FROM jsonb_array_elements(path) WITH ORDINALITY b (step, n) WHERE b.step->>'budget' = name), '{}')
$$;

-- The first budget of a path, from the key up, that says no to a bound, as ledger_refusal returns it; NULL: none does.
-- kind: exceeded or reserved.
CREATE OR REPLACE FUNCTION ledger_path_refusal(path jsonb, windows budget_window[], bound numeric, kind text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    each jsonb;
    w budget_window;
    limit_usd numeric;
BEGIN
    FOR place IN 1..cardinality(windows) LOOP
        each := path->(place - 1);
        w := windows[place];
        limit_usd := (each->>'limit')::numeric;
        IF (kind = 'exceeded' AND (ledger_state(w.spent, limit_usd, each) = 'OPEN' OR w.spent + bound > limit_usd))
           OR (kind = 'reserved' AND w.spent + w.reserved + bound > limit_usd) THEN
            RETURN jsonb_build_object('refused', kind, 'by', w.budget)
                   || ledger_path_budget_json(w.budget, path, windows);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- The most that a call may be bounded with to fit a path's headroom now, in USD; NULL where no budget of it has a limit.
CREATE OR REPLACE FUNCTION ledger_path_room(path jsonb, windows budget_window[]) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT min((path->(n - 1)->>'limit')::numeric - (windows[n]).spent - (windows[n]).reserved)
    FROM generate_subscripts(windows, 1) n
$$;

-- Whether every budget of a path has ample room (ledger_reserve) beside a bound that isn't counted in its window yet.
CREATE OR REPLACE FUNCTION ledger_path_is_ample(path jsonb, windows budget_window[], bound numeric) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT bool_and((windows[n]).spent + 2 * ((windows[n]).reserved + bound)
                    < (path->(n - 1)->>'limit')::numeric * (path->(n - 1)->>'alert')::numeric) IS NOT FALSE
    FROM generate_subscripts(windows, 1) n
$$;

-- Locks the windows of an entry's path, before they are booked: they are the same as when it was reserved, whatever has
-- moved meanwhile.
CREATE OR REPLACE FUNCTION ledger_lock_stored_path(e ledger) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM budget_window b WHERE b.id = ANY (e.path_window_ids) ORDER BY b.id FOR NO KEY UPDATE;
END $$;

-- Adds to the windows of an entry's path what it changed, and records the threshold events of that, as ledger_book_key.
CREATE OR REPLACE FUNCTION ledger_book_path(window_ids bigint[], settings jsonb, spends numeric, frees numeric,
                                            calls integer, INOUT threshold_events jsonb, entry_id uuid,
                                            statement_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    w budget_window;
BEGIN
    FOR w IN
        UPDATE budget_window b SET
            spent = b.spent + spends, reserved = b.reserved - frees, request_count = b.request_count + calls
        WHERE b.id = ANY (window_ids) RETURNING b.*
    LOOP
        CONTINUE WHEN w.closed_at IS NOT NULL OR spread_has_slots(w);
        step := ledger_record_state(
            w, ledger_limit(w.budget, settings), ledger_thresholds_of(w.budget, settings), threshold_events, entry_id,
            statement_id);
        threshold_events := step.threshold_events;
    END LOOP;
END $$;
