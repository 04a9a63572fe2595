-- The ledger's statements (0004 to 0008), for two budgets in one: the company's and the caller's key's. Each public function
-- is one round trip and one transaction, and waits for no lock longer than its lock_timeout: whoever holds the window's row
-- that long (an operator's forgotten transaction) costs calls a 503 each, not the rest of their Lambda's time.
--
-- PL/pgSQL rather than one large WITH: each inner statement takes a snapshot of its own, so everything that is read
-- after the window's row lock was granted is current. In a single WITH the snapshot is older than the lock.
--
-- Lock order, everywhere: the company's windows by ascending id (the open one is the last), then its slots by number, then
-- keys' windows, then ledger rows and rollups, which only somebody with their window or slot locked touches, then
-- provider_health by name. Whoever locks more than one key's window holds the company's open window, so two such statements
-- are never under way at once. audit_head is locked by them, by a reset, or by a statement that touches nothing of the above
-- afterwards. Windows are locked FOR NO KEY UPDATE: an entry's foreign key must not wait for its window.
--
-- Arguments and results are jsonb objects, so that yesterday's code runs on tomorrow's functions. An argument with "resent"
-- went out before, and its answer was lost: its result and its crossings are told again, because nobody heard them. What
-- else it found (a month's end, expired reservations) is told to the first only, and is in the audit and in the ledger.
-- settings: {limit, alert, open, timezone, ttl_seconds, slots}; amounts are JSON numbers and stay NUMERIC throughout.
--
-- This file: what a window is, how it opens, closes and crosses its thresholds.

CREATE FUNCTION ledger_month_end(at timestamptz, tz text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT (date_trunc('month', at AT TIME ZONE tz) + interval '1 month') AT TIME ZONE tz
$$;

-- The day that a settlement in this window is counted on, in the budget's zone: one that comes after the month's end is
-- counted on the window's last day, so that a month's days add up to the month's windows.
CREATE FUNCTION ledger_day(w budget_window, settings jsonb) RETURNS date
LANGUAGE sql VOLATILE AS $$
    SELECT (least(clock_timestamp(), w.resets_at - interval '1 microsecond') AT TIME ZONE (settings->>'timezone'))::date
$$;

-- cap: USD, NULL for a key without a budget of its own, which is always CLOSED.
CREATE FUNCTION ledger_state(spent numeric, cap numeric, settings jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN spent >= cap * (settings->>'open')::numeric THEN 'OPEN'
        WHEN spent >= cap * (settings->>'alert')::numeric THEN 'HALF_OPEN'
        ELSE 'CLOSED'
    END
$$;

-- The limit in force of a budget: from the settings, or from the key as it is now.
CREATE FUNCTION ledger_cap(budget text, settings jsonb) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF budget = 'global' THEN RETURN (settings->>'limit')::numeric; END IF;
    RETURN (SELECT k.monthly_budget_usd FROM api_key k WHERE k.id = budget);
END $$;

CREATE FUNCTION ledger_window_json(w budget_window) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', w.id, 'budget', w.budget, 'opened_at', w.opened_at, 'opened_by', w.opened_by, 'resets_at', w.resets_at,
        'closed_at', w.closed_at, 'spent', w.spent, 'reserved', w.reserved, 'request_count', w.request_count)
$$;

CREATE FUNCTION ledger_budget_json(w budget_window, cap numeric, settings jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT ledger_window_json(w) || jsonb_build_object('state', ledger_state(w.spent, cap, settings), 'limit', cap)
$$;

-- The company's budget with its slots' parts, as it stands without a lock.
CREATE FUNCTION ledger_open_json(w budget_window, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT w.spent + COALESCE(sum(s.spent), 0), w.reserved + COALESCE(sum(s.reserved), 0),
           w.request_count + COALESCE(sum(s.request_count), 0)
    INTO w.spent, w.reserved, w.request_count FROM budget_slot s WHERE s.window_id = w.id;
    RETURN ledger_budget_json(w, (settings->>'limit')::numeric, settings);
END $$;

-- A key's window and what its minute has left, for the caller's headers; NULL without one.
CREATE FUNCTION ledger_key_json(kw budget_window, settings jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT ledger_budget_json(kw, k.monthly_budget_usd, settings) || jsonb_build_object(
        'requests_per_minute', k.requests_per_minute,
        'requests_left', k.requests_per_minute
            - least(CASE WHEN m.is_over THEN 0 ELSE kw.minute_requests END, k.requests_per_minute),
        'tokens_per_minute', k.tokens_per_minute,
        'tokens_left', k.tokens_per_minute
            - least(CASE WHEN m.is_over THEN 0 ELSE kw.minute_tokens END, k.tokens_per_minute),
        'minute_ends_in', CASE WHEN m.is_over THEN 0
            ELSE ceil(extract(epoch FROM kw.minute_at + interval '1 minute' - clock_timestamp()))::integer END)
    FROM api_key k, (SELECT COALESCE(kw.minute_at <= clock_timestamp() - interval '1 minute', true) AS is_over) m
    WHERE k.id = kw.budget
$$;

-- Takes back what the slots of a locked window hold.
CREATE FUNCTION ledger_gather(INOUT w budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    held record;
BEGIN
    PERFORM 1 FROM budget_slot s WHERE s.window_id = w.id AND s.granted > 0 ORDER BY s.slot FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT sum(s.spent) AS spent, sum(s.reserved) AS reserved, sum(s.request_count) AS calls INTO held
    FROM budget_slot s WHERE s.window_id = w.id;
    UPDATE budget_slot s SET granted = 0, spent = 0, reserved = 0, request_count = 0, epoch = epoch + 1
    WHERE s.window_id = w.id AND s.granted > 0;
    UPDATE budget_window b SET spent = b.spent + held.spent, reserved = b.reserved + held.reserved,
                               request_count = b.request_count + held.calls
    WHERE b.id = w.id RETURNING * INTO w;
END $$;

-- Closes a window that the caller has locked, opens its successor, audits both. Returns the new window, locked.
CREATE FUNCTION ledger_turn_window(old budget_window, why text, at timestamptz, settings jsonb, audit_entry jsonb)
RETURNS budget_window LANGUAGE plpgsql AS $$
DECLARE
    fresh budget_window;
BEGIN
    UPDATE budget_window SET closed_at = at WHERE id = old.id RETURNING * INTO old;
    INSERT INTO budget_window (budget, opened_at, opened_by, resets_at, reset_id, minute_at, minute_requests, minute_tokens)
    VALUES (old.budget, clock_timestamp(), why, ledger_month_end(clock_timestamp(), settings->>'timezone'),
            (audit_entry->>'id')::uuid, old.minute_at, old.minute_requests, old.minute_tokens)
    RETURNING * INTO fresh;
    PERFORM audit_append(
        clock_timestamp(), COALESCE(audit_entry->>'actor', 'system'), 'budget.reset', audit_entry->>'source_ip',
        audit_entry->>'request_id', ledger_window_json(old),
        ledger_window_json(fresh) || jsonb_build_object('why', why, 'reason', audit_entry->>'reason'));
    RETURN fresh;
END $$;

-- A budget's open window, locked, with all that it holds in its own row. Opens one at the first use; closes one whose month
-- has ended (then "turned" tells it).
CREATE FUNCTION ledger_lock_window(name text, settings jsonb, INOUT turned jsonb, OUT w budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    old budget_window;
BEGIN
    LOOP
        SELECT * INTO w FROM budget_window WHERE budget = name AND closed_at IS NULL FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        -- No window yet, or the one we waited for was closed meanwhile: make it or meet its successor.
        INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)
        VALUES (name, clock_timestamp(), 'use', ledger_month_end(clock_timestamp(), settings->>'timezone'))
        ON CONFLICT (budget) WHERE closed_at IS NULL DO NOTHING;
    END LOOP;
    w := ledger_gather(w);
    IF w.resets_at <= clock_timestamp() THEN
        old := w;
        w := ledger_turn_window(old, 'month_end', old.resets_at, settings, NULL);
        turned := jsonb_build_object('closed', ledger_window_json(old) || jsonb_build_object('closed_at', old.resets_at),
                                     'opened', ledger_window_json(w));
    END IF;
END $$;

-- Records the crossings between the recorded state and what spent and the limit now say; each is returned to the one
-- caller whose statement saw it first. A raised limit lowers the recorded state, so crossing again is a new event.
-- entry_id: the entry whose end this is, if it is one; sweep_id: else the statement.
CREATE FUNCTION ledger_record_state(INOUT w budget_window, cap numeric, settings jsonb, INOUT crossings jsonb,
                                    entry_id uuid DEFAULT NULL, sweep_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    now_state text := ledger_state(w.spent, cap, settings);
    crossed text;
BEGIN
    IF now_state = w.state THEN RETURN; END IF;
    FOREACH crossed IN ARRAY ARRAY['HALF_OPEN', 'OPEN'] LOOP
        -- Alphabetical order happens to be the order of severity: CLOSED < HALF_OPEN < OPEN.
        IF crossed COLLATE "C" > w.state COLLATE "C" AND crossed COLLATE "C" <= now_state COLLATE "C" THEN
            INSERT INTO budget_crossing (window_id, state, crossed_at, spent, limit_usd, entry_id, sweep_id)
            VALUES (w.id, crossed, clock_timestamp(), w.spent, cap, entry_id, sweep_id);
            crossings := COALESCE(crossings, '[]') || jsonb_build_array(jsonb_build_object(
                'state', crossed, 'window_id', w.id, 'budget', w.budget, 'spent', w.spent, 'limit', cap));
        END IF;
    END LOOP;
    UPDATE budget_window SET state = now_state WHERE id = w.id;
    w.state := now_state;
END $$;

CREATE FUNCTION ledger_crossing_json(c budget_crossing) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'state', c.state, 'window_id', c.window_id, 'budget', b.budget, 'spent', c.spent, 'limit', c.limit_usd)
    FROM budget_window b WHERE b.id = c.window_id
$$;

-- Adds what a statement that is sent again has swept, the first time and by now.
CREATE FUNCTION ledger_swept(statement_id uuid, INOUT crossings jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    swept jsonb;
BEGIN
    SELECT jsonb_agg(ledger_crossing_json(c) ORDER BY c.window_id, c.state) INTO swept
    FROM budget_crossing c WHERE c.sweep_id = statement_id;
    crossings := COALESCE(crossings || swept, swept, crossings);
END $$;

-- Adds to a key's window what one of its entries changed, and records what that crosses.
-- tokens: of the entry, beside those of its bound; entered: when the entry was reserved.
CREATE FUNCTION ledger_book_key(window_id bigint, settings jsonb, spends numeric, frees numeric, calls integer,
                                tokens bigint, entered timestamptz, INOUT crossings jsonb, entry_id uuid,
                                OUT kw budget_window, sweep_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
BEGIN
    UPDATE budget_window SET
        spent = spent + spends, reserved = reserved - frees, request_count = request_count + calls,
        minute_tokens = minute_tokens + CASE WHEN entered >= minute_at THEN tokens ELSE 0 END
    WHERE id = window_id RETURNING * INTO kw;
    IF kw.closed_at IS NULL THEN
        SELECT * INTO step
        FROM ledger_record_state(kw, ledger_cap(kw.budget, settings), settings, crossings, entry_id, sweep_id);
        kw := step.w; crossings := step.crossings;
    END IF;
END $$;
