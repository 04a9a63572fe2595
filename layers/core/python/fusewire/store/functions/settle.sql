-- How a reservation ends, exactly once: settled at its cost, settled at its bound, or released.
--
-- settlement: {id, mode: actual|bound|release, cost, outcome, input_tokens, output_tokens, cached_input_tokens,
-- cache_write_tokens, reasoning_tokens, refusal?, allowance?, size?: tokens of one answer, for fitting.sql}

-- What a settlement books of a bound, in USD; NULL for a release. At the bound, "cost" is the part of it that may be
-- billed, where that is known: a prompt that was refused has no output, and of a partial usage only the rest is at its
-- bound. NULL for the whole.
CREATE OR REPLACE FUNCTION ledger_cost(settlement jsonb, bound numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE settlement->>'mode'
        WHEN 'actual' THEN (settlement->>'cost')::numeric
        WHEN 'bound' THEN COALESCE((settlement->>'cost')::numeric, bound)
    END
$$;

-- Adds an entry to its rollup row: +1 when it is booked, -1 when a booking is taken back.
CREATE OR REPLACE FUNCTION ledger_roll_up(e ledger, sign integer, in_slot smallint DEFAULT 0::smallint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_rollup AS r
        (window_id, day, provider, model, tier, key_id, slot, cost, requests, input_tokens, output_tokens)
    VALUES (e.window_id, e.day, e.provider, e.model, COALESCE(e.tier, ''), COALESCE(e.key_id, ''), in_slot,
            sign * e.cost, CASE e.operation WHEN 'adjustment' THEN 0 ELSE sign END, sign * e.input_tokens,
            sign * e.output_tokens)
    ON CONFLICT (window_id, day, provider, model, tier, key_id, slot) DO UPDATE SET
        cost = r.cost + EXCLUDED.cost, requests = r.requests + EXCLUDED.requests,
        input_tokens = r.input_tokens + EXCLUDED.input_tokens, output_tokens = r.output_tokens + EXCLUDED.output_tokens;
END $$;

-- Ends an entry's own row, if it still is as it was seen. The caller books its sums.
CREATE OR REPLACE FUNCTION ledger_settle_row(was ledger, settlement jsonb, w budget_window, settings jsonb)
RETURNS ledger LANGUAGE plpgsql AS $$
DECLARE
    e ledger;
    mode text := settlement->>'mode';
BEGIN
    UPDATE ledger SET
        status = CASE mode WHEN 'release' THEN 'released' ELSE 'settled' END,
        cost = ledger_cost(settlement, bound),
        cost_basis = CASE mode WHEN 'release' THEN NULL ELSE mode END,
        outcome = settlement->>'outcome',
        input_tokens = COALESCE((settlement->>'input_tokens')::bigint, 0),
        output_tokens = COALESCE((settlement->>'output_tokens')::bigint, 0),
        cached_input_tokens = COALESCE((settlement->>'cached_input_tokens')::bigint, 0),
        cache_write_tokens = COALESCE((settlement->>'cache_write_tokens')::bigint, 0),
        reasoning_tokens = COALESCE((settlement->>'reasoning_tokens')::bigint, 0),
        ended_at = clock_timestamp(),
        day = CASE mode WHEN 'release' THEN NULL ELSE ledger_day(w, settings) END
    WHERE id = was.id AND status = was.status AND bound = was.bound RETURNING * INTO e;
    RETURN e;
END $$;

-- What an ended entry used of its key's tokens per minute beyond its bound, as a negative number when it used less. At
-- its bound it used what was reserved.
CREATE OR REPLACE FUNCTION ledger_spare_tokens(e ledger) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN e.status = 'released' THEN 0 WHEN e.cost_basis = 'actual' THEN e.input_tokens + e.output_tokens
           ELSE e.tokens_bound END - e.tokens_bound
$$;

-- Adds to a key's window what one of its entries changed, and records the threshold events of that.
-- tokens: of the entry, beside those of its bound; entered: when the entry was reserved.
CREATE OR REPLACE FUNCTION ledger_book_key(window_id bigint, settings jsonb, spends numeric, frees numeric,
                                           calls integer, tokens bigint, entered timestamptz,
                                           INOUT threshold_events jsonb, entry_id uuid, OUT kw budget_window,
                                           statement_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
BEGIN
    UPDATE budget_window SET
        spent = spent + spends, reserved = reserved - frees, request_count = request_count + calls,
        rate_tokens = rate_tokens + CASE WHEN entered >= rate_window_started_at THEN tokens ELSE 0 END
    WHERE id = window_id RETURNING * INTO kw;
    IF kw.closed_at IS NULL AND NOT spread_has_slots(kw) THEN
        step := ledger_record_state(
            kw, (SELECT k.limit_usd FROM api_key k WHERE k.id = kw.budget), settings, threshold_events, entry_id,
            statement_id);
        kw := step.w; threshold_events := step.threshold_events;
    END IF;
END $$;

-- Ends one reservation under its window's lock. An expired entry may be corrected afterwards by the caller who knows
-- better, unless an adjustment has taken its bound back already and the correction would take the window below 0.
-- Anything else that has ended stays as it is: then "repeated" is true, and the threshold events are those of its first
-- end.
CREATE OR REPLACE FUNCTION ledger_settle_entry(settlement jsonb, settings jsonb, OUT w budget_window,
                                               OUT kw budget_window, OUT e ledger, OUT threshold_events jsonb,
                                               OUT repeated boolean)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    was ledger;
    exceeds boolean; -- what it may add to its budgets beyond its bound
    frees numeric;
    spends numeric;
    calls integer;
BEGIN
    repeated := false;
    SELECT * INTO w FROM budget_window
    WHERE id = (SELECT l.window_id FROM ledger l WHERE l.id = (settlement->>'id')::uuid) FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN; END IF; -- another database than the one it was reserved in: the result's status is NULL
    SELECT * INTO was FROM ledger WHERE id = (settlement->>'id')::uuid; -- after it: the lock may have been waited for
    exceeds := (settlement->>'cost')::numeric > was.bound OR settlement ? 'allowance';
    IF w.closed_at IS NOT NULL AND (
        was.path_window_ids IS NOT NULL
        OR (was.key_window_id IS NOT NULL AND (exceeds OR spread_is_outdated(was, settings)))
    ) THEN
        PERFORM ledger_lock_out_paths();
        -- The key's window and the path's may be open still, and in slots.
        IF exceeds OR spread_is_outdated(was, settings) THEN
            PERFORM ledger_reclaim_slots(b) FROM budget_window b WHERE b.budget = 'global' AND b.closed_at IS NULL;
        END IF;
    END IF;
    -- A settlement at no more than the bound leaves the room that is allocated to slots as it is. One that raises an
    -- allowance takes it back, so that no reservation is made in a slot meanwhile; and so does one of an entry that is
    -- still in a slot, where it couldn't end (it was lowered meanwhile).
    IF exceeds OR spread_is_outdated(was, settings) OR EXISTS (
        SELECT FROM budget_slot s WHERE s.window_id = w.id AND s.allocated > 0
        AND (s.ceiling <> ledger_alert_of(ledger_limit_in_force(w.limit_usd, settings), settings)
             OR (s.slot = was.slot AND s.epoch = was.slot_epoch))
    ) THEN
        w := ledger_reclaim_slots(w);
    END IF;
    IF was.status = 'reserved' THEN e := ledger_settle_row(was, settlement, w, settings); END IF;
    IF e.id IS NULL THEN
        -- It has ended before, or it was ended or lowered in its slot as we looked.
        SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE;
        IF was.status <> 'reserved' AND (was.outcome IS DISTINCT FROM 'expired'
                                         OR w.spent < was.cost - COALESCE(ledger_cost(settlement, was.bound), 0)) THEN
            SELECT jsonb_agg(ledger_threshold_event_json(t) ORDER BY t.window_id, t.state)
            INTO threshold_events FROM budget_threshold_event t
            WHERE (t.window_id IN (w.id, was.key_window_id) OR t.window_id = ANY (was.path_window_ids))
                  AND t.entry_id = was.id;
            SELECT * INTO kw FROM budget_window WHERE id = was.key_window_id;
            e := was;
            repeated := true;
            RETURN;
        END IF;
        e := ledger_settle_row(was, settlement, w, settings);
    END IF;
    IF was.status = 'settled' THEN PERFORM ledger_roll_up(was, -1); END IF;
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1); END IF;
    spends := COALESCE(e.cost, 0) - COALESCE(was.cost, 0);
    frees := CASE was.status WHEN 'reserved' THEN e.bound ELSE 0 END;
    calls := (e.status = 'settled')::int - (was.status = 'settled')::int;
    UPDATE budget_window SET spent = spent + spends, reserved = reserved - frees, request_count = request_count + calls
    WHERE id = w.id RETURNING * INTO w;
    IF w.closed_at IS NULL THEN
        step := ledger_record_state(w, ledger_limit_in_force(w.limit_usd, settings), settings, threshold_events, e.id);
        w := step.w; threshold_events := step.threshold_events;
    END IF;
    IF was.key_window_id IS NOT NULL THEN
        -- In a slot, its tokens weren't counted.
        step := ledger_book_key(was.key_window_id, settings, spends, frees, calls,
                                CASE WHEN was.key_window_id = ANY (was.slotted_window_ids) THEN 0
                                     ELSE ledger_spare_tokens(e) END,
                                e.reserved_at, threshold_events, e.id);
        kw := step.kw; threshold_events := step.threshold_events;
    END IF;
    IF e.path_window_ids IS NOT NULL THEN
        PERFORM ledger_lock_stored_path(e);
        threshold_events := ledger_book_path(e.path_window_ids, settings, spends, frees, calls, threshold_events, e.id);
    END IF;
END $$;

-- Keeps everybody else from the windows of paths, for a caller who holds a closed window of the company's: whoever locks
-- several of them holds the open one.
CREATE OR REPLACE FUNCTION ledger_lock_out_paths() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        PERFORM 1 FROM budget_window WHERE budget = 'global' AND closed_at IS NULL FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        -- The one that was waited for was closed meanwhile: it has a successor, if there ever is one.
        EXIT WHEN NOT EXISTS (SELECT FROM budget_window WHERE budget = 'global' AND closed_at IS NULL);
    END LOOP;
END $$;

-- What the caller of ledger_settle gets. kw is NULL for an entry without a key.
CREATE OR REPLACE FUNCTION ledger_settled_json(e ledger, w budget_window, kw budget_window, threshold_events jsonb,
                                               cooldown_until timestamptz, settings jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object(
        'status', e.status, 'cost', e.cost, 'cost_basis', e.cost_basis, 'threshold_events', threshold_events,
        'cooldown_until', cooldown_until, 'budget', ledger_open_json(w, settings),
        'key', CASE WHEN kw.id IS NOT NULL THEN ledger_key_json(spread_whole(kw), settings) END)
$$;

-- As ledger_settle, under the window's lock.
CREATE OR REPLACE FUNCTION ledger_settle_on_row(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    kw budget_window;
    e ledger;
    threshold_events jsonb;
    cooldown_until timestamptz;
BEGIN
    PERFORM ledger_join_queue((p->'settlement'->>'id')::uuid);
    step := ledger_settle_entry(p->'settlement', settings);
    w := step.w; kw := step.kw; e := step.e;
    IF NOT step.repeated OR p ? 'resent' THEN threshold_events := step.threshold_events; END IF;
    IF p ? 'resent' AND p->'settlement'->>'outcome' = 'not_sent' THEN
        -- Nobody received the reservation's answer.
        threshold_events := ledger_add_threshold_events((p->'settlement'->>'id')::uuid, threshold_events);
    END IF;
    IF e.id IS NOT NULL AND NOT step.repeated THEN
        PERFORM output_size_record(ARRAY[e], ARRAY[p->'settlement']);
        PERFORM vendor_refusal_record(e, p->'settlement');
    END IF;
    IF p->'settlement' ? 'allowance' THEN PERFORM input_allowance_raise(e, p->'settlement'); END IF;
    IF p ? 'health_update' AND NOT step.repeated THEN
        cooldown_until := provider_health_record(p->'health_update', e.reserved_at);
    END IF;
    IF e.id IS NULL THEN
        RETURN jsonb_build_object(
            'status', NULL, 'threshold_events', threshold_events, 'cooldown_until', cooldown_until);
    END IF;
    IF NOT step.repeated THEN PERFORM admission_wake_after(e, settings); END IF;
    RETURN ledger_settled_json(e, w, kw, threshold_events, cooldown_until, settings);
END $$;

-- Waits for a reservation that may be under way in another session. That session's commit may wait for a standby, for
-- as long as there is none; until then nobody else sees what it has written. An entry of the same id meets it in the
-- index and waits for its end. Where there was none, the entry is taken back.
CREATE OR REPLACE FUNCTION ledger_await_entry(entry_id uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (id, window_id, request_id, attempt, operation, provider, model, status, bound, reserved_at,
                        expires_at)
    SELECT entry_id, w.id, '', 1, 'probe', '', '', 'reserved', 0, clock_timestamp(), clock_timestamp()
    FROM budget_window w WHERE w.budget = 'global' AND w.closed_at IS NULL;
    RAISE SQLSTATE 'FW002';
EXCEPTION WHEN unique_violation OR SQLSTATE 'FW002' THEN NULL;
END $$;

-- Ends an attempt for good: in the slot that holds it, or under its window's lock.
-- p: {settings, settlement, health_update?}
CREATE OR REPLACE FUNCTION ledger_settle(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    result jsonb;
    was ledger;
BEGIN
    SELECT * INTO was FROM ledger WHERE id = (p->'settlement'->>'id')::uuid;
    IF NOT FOUND AND p->'settlement'->>'outcome' = 'not_sent' THEN
        PERFORM ledger_await_entry((p->'settlement'->>'id')::uuid);
        SELECT * INTO was FROM ledger WHERE id = (p->'settlement'->>'id')::uuid;
    END IF;
    IF was.slot IS NOT NULL THEN
        BEGIN
            result := ledger_settle_in_slot(p, was);
            IF result IS NULL THEN RAISE SQLSTATE 'FW001'; END IF;
            RETURN result;
        EXCEPTION WHEN SQLSTATE 'FW001' THEN NULL;
        END;
    END IF;
    RETURN ledger_settle_on_row(p);
END $$;
