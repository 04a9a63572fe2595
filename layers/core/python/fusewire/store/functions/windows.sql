-- What a budget window is, how it opens, what it holds and which thresholds it crosses.
--
-- These rules are for all files of this folder:
--
-- * In one statement are the company's budget ('global'), that of the caller's key, and those of the call's path
--   (paths.sql).
-- * A public function takes and returns one jsonb object. It is one round trip and one transaction. It waits for a lock
--   for 5 seconds at most (its lock_timeout): an operator's forgotten transaction costs each call a 503, not the rest
--   of its Lambda's time.
-- * PL/pgSQL is used rather than one large WITH, because each inner statement takes a snapshot of its own. What is read
--   after the window's row lock was granted is current. In a single WITH the snapshot is older than the lock.
-- * Locks are taken in this order: the queue for the company's row (ledger_join_queue), the company's windows by ascending
--   id (the open one is the last), the slots of its window by number, one key's window, the windows of one path (users' and
--   nodes') by ascending id, ledger rows and rollups (under the lock of their window or slot alone), a call's own row of
--   admission_wait, output_size (keys' rows by name, then models'), one row of vendor_refusal, one of input_allowance,
--   provider_health by name; refused_call last of all. A slot of a key's or a path's stands for its window: the lock of the
--   company's slot of the same number is also theirs (spread.sql). A statement that locks more than one key's window or
--   more than one path's, or that opens or rolls over a window of a path, holds the company's open window and has reclaimed
--   its slots: then nobody else has locked any of a path. A group of calls (groups.sql) then locks the windows of all of its
--   keys by ascending id, before anything that comes after them: a settlement in a closed window may have one. So a
--   settlement in a closed window of the company's locks the open one, too, where the entry has a path. audit_head is
--   locked by these statements, by a reset, or by a statement that touches nothing of the above afterwards. Windows are
--   locked FOR NO KEY UPDATE, so that an entry's foreign key doesn't wait for its window.
-- * What these statements read of the tree stays as it is until their end: it is changed by who holds the company's open
--   window and has reclaimed its slots (nodes.sql). A key that is moved meanwhile counts as moved afterwards.
-- * budget_limit is changed under the company's open window alone.
-- * price_version and prices are locked after the company's window and its slots, before audit_head.
-- * An argument with "resent" was sent before, and its answer was lost. Its result and its threshold events are
--   returned again. A rollover and expired reservations are returned to the first caller only. The audit and the ledger
--   have them.
-- * settings is {limit, alert, open, timezone, ttl_seconds, slots?, max_limit?}. Amounts are JSON numbers and stay
--   numeric throughout. limit is the caller's setting; limits.sql says which limit is in force. Without slots, their
--   number follows from the load.

-- When the period is over that a time falls in: month, week (from Monday) or day, in the budget's zone; none never is.
CREATE OR REPLACE FUNCTION ledger_period_end(period text, at timestamptz, tz text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE period WHEN 'none' THEN 'infinity'
           ELSE (date_trunc(period, at AT TIME ZONE tz) + ('1 ' || period)::interval) AT TIME ZONE tz END
$$;

-- The day on which a settlement in this window is counted, in the budget's zone. A settlement after the period's end is
-- counted on the window's last day, so that a period's days add up to the period's windows.
CREATE OR REPLACE FUNCTION ledger_day(w budget_window, settings jsonb) RETURNS date
LANGUAGE sql VOLATILE AS $$
    SELECT (least(clock_timestamp(), w.resets_at - interval '1 microsecond') AT TIME ZONE (settings->>'timezone'))::date
$$;

-- The state that a sum of USD means. limit_usd is NULL for a key without a budget of its own, which is always CLOSED.
CREATE OR REPLACE FUNCTION ledger_state(spent numeric, limit_usd numeric, settings jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN spent >= limit_usd * (settings->>'open')::numeric THEN 'OPEN'
        WHEN spent >= limit_usd * (settings->>'alert')::numeric THEN 'HALF_OPEN'
        ELSE 'CLOSED'
    END
$$;

-- The limit in force of a budget below the company's, in USD, as it is now. The company's is ledger_limit_in_force; that
-- of the settings is for the functions of the release before.
CREATE OR REPLACE FUNCTION ledger_limit(budget text, settings jsonb) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF budget = 'global' THEN RETURN (settings->>'limit')::numeric; END IF;
    IF starts_with(budget, 'bud_') THEN RETURN (SELECT n.limit_usd FROM budget_node n WHERE n.id = budget); END IF;
    IF starts_with(budget, 'user:') THEN
        RETURN (SELECT k.per_user_limit_usd FROM api_key k WHERE k.id = ledger_key_of(budget));
    END IF;
    RETURN (SELECT k.limit_usd FROM api_key k WHERE k.id = budget);
END $$;

CREATE OR REPLACE FUNCTION ledger_window_json(w budget_window) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', w.id, 'budget', w.budget, 'opened_at', w.opened_at, 'opened_by', w.opened_by, 'resets_at', NULLIF(w.resets_at, 'infinity'),
        'closed_at', w.closed_at, 'spent', w.spent, 'reserved', w.reserved, 'request_count', w.request_count)
$$;

CREATE OR REPLACE FUNCTION ledger_budget_json(w budget_window, limit_usd numeric, settings jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object( -- as ledger_window_json, and in one piece: every call of the gateway makes four
        'id', w.id, 'budget', w.budget, 'opened_at', w.opened_at, 'opened_by', w.opened_by, 'resets_at', NULLIF(w.resets_at, 'infinity'),
        'closed_at', w.closed_at, 'spent', w.spent, 'reserved', w.reserved, 'request_count', w.request_count,
        'state', ledger_state(w.spent, limit_usd, settings), 'limit', limit_usd)
$$;

-- What the slots of a window hold, as it is without a lock.
CREATE OR REPLACE FUNCTION ledger_held_by_slots(of_window bigint)
RETURNS TABLE (spent numeric, reserved numeric, request_count bigint)
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(sum(s.spent), 0), COALESCE(sum(s.reserved), 0), COALESCE(sum(s.request_count), 0)::bigint
    FROM budget_slot s WHERE s.window_id = of_window
$$;

-- The company's budget with what its slots hold, as it is without a lock.
CREATE OR REPLACE FUNCTION ledger_open_json(w budget_window, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT w.spent + held.spent, w.reserved + held.reserved, w.request_count + held.request_count
    INTO w.spent, w.reserved, w.request_count FROM ledger_held_by_slots(w.id) held;
    RETURN ledger_budget_json(w, ledger_limit_in_force(w.limit_usd, settings), settings);
END $$;

-- Waits for the turn of a call that needs the company's open row, in the order in which they come, and has it until the
-- transaction's end; whether others were before it. The row's lock decides all the same, and a statement that is rare
-- asks for it alone. But a row that many wait for is a poor queue: each commit makes a new version of it, to which all
-- that wait move on, one after the other, who comes then may be there before them, and lock_timeout begins anew.
-- Who has locked a window of the company's doesn't join: others wait for that one when it is their turn. So an entry
-- that this ends has to be in the open window: a call that fails over after a reset holds up nobody.
CREATE OR REPLACE FUNCTION ledger_join_queue(ends_entry uuid) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF ends_entry IS NOT NULL AND EXISTS (
        SELECT FROM ledger l JOIN budget_window b ON b.id = l.window_id
        WHERE l.id = ends_entry AND b.closed_at IS NOT NULL
    ) THEN
        RETURN false;
    END IF;
    IF pg_try_advisory_xact_lock(hashtext('fusewire.open_window')) THEN RETURN false; END IF;
    PERFORM pg_advisory_xact_lock(hashtext('fusewire.open_window'));
    RETURN true;
END $$;

-- A budget's open window, locked, with all that it holds in its own row. It opens a window at the first use, and rolls
-- over one whose period has ended: then rolled_over is {closed, opened}.
CREATE OR REPLACE FUNCTION ledger_lock_window(name text, settings jsonb, INOUT rolled_over jsonb, OUT w budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    old budget_window;
BEGIN
    LOOP
        SELECT * INTO w FROM budget_window WHERE budget = name AND closed_at IS NULL FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        -- There is no window yet, or the one that was waited for was closed meanwhile: make one, or find its successor.
        INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)
        VALUES (name, clock_timestamp(), 'use',
                ledger_period_end(ledger_period_of(name), clock_timestamp(), settings->>'timezone'))
        ON CONFLICT (budget) WHERE closed_at IS NULL DO NOTHING;
    END LOOP;
    IF name = 'global' THEN w := ledger_reclaim_slots(w); END IF; -- and all others'
    IF w.resets_at <= clock_timestamp() THEN
        old := w;
        w := ledger_roll_over(old, 'period_end', old.resets_at, settings, NULL);
        rolled_over := jsonb_build_object(
            'closed', ledger_window_json(old) || jsonb_build_object('closed_at', old.resets_at),
            'opened', ledger_window_json(w));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger_threshold_event_json(t budget_threshold_event) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'state', t.state, 'window_id', t.window_id, 'budget', b.budget, 'spent', t.spent, 'limit', t.limit_usd)
    FROM budget_window b WHERE b.id = t.window_id
$$;

-- Adds the threshold events that a statement which is sent again has found, the first time and by now.
CREATE OR REPLACE FUNCTION ledger_add_threshold_events(of_statement uuid, INOUT threshold_events jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    found_events jsonb;
BEGIN
    SELECT jsonb_agg(ledger_threshold_event_json(t) ORDER BY t.window_id, t.state) INTO found_events
    FROM budget_threshold_event t WHERE t.statement_id = of_statement;
    threshold_events := COALESCE(threshold_events || found_events, found_events, threshold_events);
END $$;

-- Records a threshold event for each threshold between the recorded state and the state that spent and the limit now
-- mean. The event is returned to the one caller whose statement finds it first. A raised limit lowers the recorded
-- state, so that crossing a threshold again is a new event. entry_id is the entry that this settles, if it does; else
-- statement_id is the statement.
CREATE OR REPLACE FUNCTION ledger_record_state(INOUT w budget_window, limit_usd numeric, settings jsonb,
                                               INOUT threshold_events jsonb, entry_id uuid DEFAULT NULL,
                                               statement_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    now_state text := ledger_state(w.spent, limit_usd, settings);
    crossed text;
    event budget_threshold_event;
BEGIN
    IF now_state = w.state THEN RETURN; END IF;
    FOREACH crossed IN ARRAY ARRAY['HALF_OPEN', 'OPEN'] LOOP
        -- Alphabetical order happens to be the order of severity: CLOSED < HALF_OPEN < OPEN.
        IF crossed COLLATE "C" > w.state COLLATE "C" AND crossed COLLATE "C" <= now_state COLLATE "C" THEN
            INSERT INTO budget_threshold_event AS t
                (window_id, state, crossed_at, spent, limit_usd, entry_id, statement_id)
            VALUES (w.id, crossed, clock_timestamp(), w.spent, limit_usd, entry_id, statement_id)
            RETURNING t.* INTO event;
            threshold_events := COALESCE(threshold_events, '[]')
                || jsonb_build_array(ledger_threshold_event_json(event));
        END IF;
    END LOOP;
    UPDATE budget_window SET state = now_state WHERE id = w.id;
    w.state := now_state;
END $$;

-- The open window with its sums by provider and model, and by day for the forecast. p: {settings, id}
CREATE OR REPLACE FUNCTION ledger_budget(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    limit_usd numeric;
    statement_id uuid := (p->>'id')::uuid;
    w budget_window;
    rolled_over jsonb;
    expired jsonb;
    threshold_events jsonb;
BEGIN
    SELECT * INTO step FROM ledger_expire_all(settings, statement_id, NULL, NULL);
    expired := step.expired; threshold_events := step.threshold_events;
    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
    w := step.w; rolled_over := step.rolled_over; limit_usd := ledger_limit_in_force(w.limit_usd, settings);
    SELECT * INTO step FROM ledger_record_state(w, limit_usd, settings, threshold_events, NULL, statement_id);
    w := step.w; threshold_events := step.threshold_events;
    IF p ? 'resent' THEN threshold_events := ledger_add_threshold_events(statement_id, NULL); END IF;
    RETURN jsonb_build_object(
        'budget', ledger_budget_json(w, limit_usd, settings), 'rolled_over', rolled_over, 'expired', expired,
        'threshold_events', threshold_events, 'limits', ledger_limits_json(w, settings), 'waiting', admission_json(),
        'by_provider', (SELECT COALESCE(jsonb_object_agg(provider, cost), '{}') FROM
            (SELECT provider, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id GROUP BY provider) s),
        'by_model', (SELECT COALESCE(jsonb_object_agg(name, cost), '{}') FROM
            (SELECT provider || '/' || model AS name, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id
             GROUP BY provider, model) s),
        'days', usage_days(NULL, settings->>'timezone'));
END $$;
