-- Reservations and settlements of one environment that come together, as one transaction: one wait for the company's row
-- and one commit for all of them (docs/decisions/0026-many-calls.md).
--
-- A group has the company's open window, with its slots reclaimed, and then the windows of all of its keys by ascending
-- id, before its first call is booked. So nobody else has locked a path, nor waits for one of these keys. Settlements
-- come before reservations, as they make room; what is counted beside the windows (sizes, refusals, health) comes after
-- all of them, kind by kind and by name, which is its place in the lock order (windows.sql).
-- What isn't plain isn't tried: an entry of a closed window, a probe of a provider, another answer than the first. Its
-- result is NULL: then its caller sends it by itself. Where Postgres refuses one call, nothing of the group is booked, and
-- each of its calls is sent by itself. A block with EXCEPTION around each call would spare the others that. But such a
-- block is a subtransaction, and several of them that change one row take several times the processor time.

-- The open window for a group, locked with its slots reclaimed; NULL where there is none, or where its period has ended.
CREATE OR REPLACE FUNCTION ledger_lock_for_group() RETURNS budget_window
LANGUAGE plpgsql AS $$
DECLARE
    w budget_window;
BEGIN
    PERFORM ledger_join_queue(NULL);
    PERFORM ledger_lock_out_paths();
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    IF w.id IS NULL OR w.resets_at <= clock_timestamp() THEN RETURN NULL; END IF;
    RETURN ledger_reclaim_slots(w);
END $$;

-- Whether a settlement is one that a group takes: of an entry that is pending in the company's open window, by an answer
-- that leaves its provider's health and its model's allowance as they are.
CREATE OR REPLACE FUNCTION ledger_settles_in_group(settlement jsonb, health_update jsonb, w budget_window)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN NOT settlement ?| ARRAY['allowance', 'refusal'] AND COALESCE(health_update->>'effect', 'ok') = 'ok'
           AND EXISTS (SELECT FROM ledger l WHERE l.id = (settlement->>'id')::uuid AND l.window_id = w.id
                       AND l.status = 'reserved');
END $$;

-- Whether a reservation is one that a group takes: a call's first, which waits for no room yet and probes no provider.
CREATE OR REPLACE FUNCTION ledger_reserves_in_group(reserve jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN NOT reserve ?| ARRAY['settlement', 'settings_snapshot'] AND (reserve->'wait' ? 'holds') IS NOT TRUE
           AND NOT (ledger_choose(reserve->'candidates', reserve->'entry'->>'operation')).probing
           AND (NOT reserve ? 'downgrade' OR NOT (ledger_choose(reserve->'downgrade'->'candidates',
                                                                reserve->'entry'->>'operation')).probing);
END $$;

-- The result of calls that are left to be sent by themselves.
CREATE OR REPLACE FUNCTION ledger_ungrouped(calls jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN jsonb_build_object('results', array_fill(NULL::jsonb, ARRAY[jsonb_array_length(calls)]));
END $$;

-- p: {settings, calls: [{settle: as ledger_settle's, or reserve: as ledger_reserve's, each without its settings}]}. The
-- results are theirs, in the order of the calls. slots: over how many rows a part of the room is spread after it, 0 for
-- none. Others book in them, and each group takes them back: then its environment sends no groups for a while.
CREATE OR REPLACE FUNCTION ledger_group(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    settings jsonb := p->'settings';
    calls jsonb[] := ARRAY(SELECT c.value FROM jsonb_array_elements(p->'calls') WITH ORDINALITY c ORDER BY c.ordinality);
    results jsonb[] := array_fill(NULL::jsonb, ARRAY[cardinality(calls)]);
    durable text := current_setting('synchronous_commit');
    must_last boolean := false; -- whether more was done than to draw tickets
    w budget_window;
    step record;
    settle jsonb;
    ended ledger[] := '{}';
    settlements jsonb[] := '{}';
BEGIN
    -- It was sent before, and its answer was lost: each call asks for its own result.
    IF p ? 'resent' THEN RETURN ledger_ungrouped(p->'calls') || '{"resent": true}'; END IF;
    w := ledger_lock_for_group();
    IF w.id IS NULL THEN RETURN ledger_ungrouped(p->'calls'); END IF;
    IF w.slots > 1 THEN
        w := ledger_follow_load(w, false);
        UPDATE budget_window b SET lock_waits = w.lock_waits, slots = w.slots, slots_changed_at = w.slots_changed_at
        WHERE b.id = w.id;
    END IF;
    -- Who else has locked one of the rows below keeps it for a moment. A statement that was forgotten holds up the calls
    -- that need its row, and the others for a second.
    PERFORM set_config('lock_timeout', '1s', true);
    PERFORM 1 FROM budget_window b WHERE b.closed_at IS NULL AND b.budget IN (
        SELECT c->'reserve'->'entry'->>'key_id' FROM unnest(calls) c
        UNION SELECT (SELECT l.key_id FROM ledger l WHERE l.id = (c->'settle'->'settlement'->>'id')::uuid)
        FROM unnest(calls) c) -- one by one: a plan for all of them at once may read the whole ledger
    ORDER BY b.id FOR NO KEY UPDATE;
    FOR n IN 1..cardinality(calls) LOOP
        settle := calls[n]->'settle';
        CONTINUE WHEN settle IS NULL OR NOT ledger_settles_in_group(settle->'settlement', settle->'health_update', w);
        step := ledger_settle_entry(settle->'settlement', settings);
        results[n] := ledger_settled_json(step.e, step.w, step.kw, step.threshold_events, NULL, settings);
        ended := array_append(ended, step.e); settlements := array_append(settlements, settle);
        must_last := true;
    END LOOP;
    FOR n IN 1..cardinality(calls) LOOP
        CONTINUE WHEN NOT calls[n] ? 'reserve' OR NOT ledger_reserves_in_group(calls[n]->'reserve');
        results[n] := ledger_reserve_on_row(
            (calls[n]->'reserve') || jsonb_build_object('settings', settings, 'grouped', true));
        must_last := must_last OR current_setting('synchronous_commit') = durable;
        PERFORM set_config('synchronous_commit', durable, true);
    END LOOP;
    IF NOT must_last THEN PERFORM admission_need_not_last(); END IF;
    PERFORM output_size_record(ended, ARRAY(
        SELECT settlements[n]->'settlement' FROM generate_subscripts(settlements, 1) n ORDER BY n));
    FOR n IN 1..cardinality(ended) LOOP
        PERFORM vendor_refusal_record(ended[n], settlements[n]->'settlement');
    END LOOP;
    FOR step IN
        SELECT DISTINCT ON (settlements[n]->'health_update'->>'provider')
               settlements[n]->'health_update' AS health_update, (ended[n]).reserved_at AS began
        FROM generate_subscripts(ended, 1) n WHERE settlements[n] ? 'health_update'
        ORDER BY settlements[n]->'health_update'->>'provider', (ended[n]).reserved_at DESC
    LOOP
        PERFORM provider_health_record(step.health_update, step.began);
    END LOOP;
    FOR n IN 1..cardinality(ended) LOOP
        PERFORM admission_wake_after(ended[n], settings);
    END LOOP;
    IF COALESCE(ledger_slots(settings), 1) > 1 THEN
        PERFORM ledger_allocate_slots(settings, made.most)
        FROM (SELECT max((SELECT l.bound FROM ledger l WHERE l.id = (calls[n]->'reserve'->'entry'->>'id')::uuid)) AS most
              FROM generate_subscripts(calls, 1) n) made
        WHERE made.most IS NOT NULL;
    END IF;
    RETURN jsonb_build_object('results', results, 'slots', (
        SELECT count(*) FROM budget_slot s WHERE s.window_id = w.id AND s.allocated > 0));
END $$;
