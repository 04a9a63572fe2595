-- No call without a reservation: the first provider that isn't cooling down, its worst case in every budget on the
-- call's way, and the end of the failed attempt before it.

-- The first candidate that isn't cooling down, and those before it that are. place is its index, from 0.
CREATE OR REPLACE FUNCTION ledger_choose(candidates jsonb, operation text, OUT place integer, OUT chosen jsonb,
                                         OUT probing boolean, OUT cooling jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    candidate jsonb;
    cooldown_until timestamptz;
    kind text;
BEGIN
    place := 0; cooling := '[]'; probing := false;
    LOOP
        candidate := candidates->place;
        EXIT WHEN candidate IS NULL;
        SELECT h.cooldown_until, h.last_failure_kind INTO cooldown_until, kind
        FROM provider_health h WHERE h.provider = candidate->>'provider';
        -- An operator's probe asks even a provider that is cooling down: that is what it is for.
        IF cooldown_until IS NULL OR cooldown_until <= clock_timestamp() OR operation = 'probe' THEN
            chosen := candidate;
            probing := cooldown_until IS NOT NULL; -- its cooldown has ended: this caller probes, the others keep off
            RETURN;
        END IF;
        cooling := cooling || jsonb_build_array(jsonb_build_object(
            'candidate', place, 'until', cooldown_until, 'kind', kind));
        place := place + 1;
    END LOOP;
END $$;

-- Seconds until a key's rate window is over, rounded up; 0 or less when it is. A rate window is the minute that a key's
-- first call begins.
CREATE OR REPLACE FUNCTION ledger_rate_window_ends_in(started_at timestamptz) RETURNS integer
LANGUAGE sql VOLATILE AS $$
    SELECT COALESCE(ceil(extract(epoch FROM started_at + interval '1 minute' - clock_timestamp())), 0)::integer
$$;

-- A key's window with a rate window that begins now, for one whose rate window is over or never began.
CREATE OR REPLACE FUNCTION ledger_begin_rate_window(INOUT kw budget_window)
LANGUAGE plpgsql AS $$
BEGIN
    kw.rate_window_started_at := clock_timestamp(); kw.rate_requests := 0; kw.rate_tokens := 0;
END $$;

-- A key's budget and what is left of its rate limits, for the caller's headers; NULL without a key.
CREATE OR REPLACE FUNCTION ledger_budget_of_key_json(k api_key, kw budget_window, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    ends_in integer := ledger_rate_window_ends_in(kw.rate_window_started_at);
BEGIN
    IF k.id IS NULL THEN RETURN NULL; END IF;
    RETURN ledger_budget_json(kw, k.limit_usd, settings) || jsonb_build_object(
        'requests_per_minute', k.requests_per_minute,
        'requests_left', k.requests_per_minute
            - least(CASE WHEN ends_in > 0 THEN kw.rate_requests ELSE 0 END, k.requests_per_minute),
        'tokens_per_minute', k.tokens_per_minute,
        'tokens_left', k.tokens_per_minute
            - least(CASE WHEN ends_in > 0 THEN kw.rate_tokens ELSE 0 END, k.tokens_per_minute),
        'rate_window_ends_in', greatest(ends_in, 0));
END $$;

-- The same for a caller who hasn't read the key.
CREATE OR REPLACE FUNCTION ledger_key_json(kw budget_window, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    k api_key;
BEGIN
    SELECT * INTO k FROM api_key WHERE id = kw.budget;
    RETURN ledger_budget_of_key_json(k, kw, settings);
END $$;

-- Why a call may not be reserved, NULL when it may: {refused, by, refused_by?, ...}; by is 'global', the key's id, or a
-- budget of the path, whose ledger_budget_json with its name is refused_by. The first that says no is named, from the key
-- up; without a path the company's before the key's.
--   exceeded      nothing changes until the window resets or an operator acts
--   rate_limited  the key's rate limit is used up, as far as this call is concerned
--   too_large     its worst case is more than the key may use in any minute
--   reserved      it would fit, but calls in flight hold the room
-- candidate: {bound, tokens, ...}; is_first: whether this is the call's first attempt, which alone counts as a request.
CREATE OR REPLACE FUNCTION ledger_refusal(w budget_window, kw budget_window, k api_key, settings jsonb, candidate jsonb,
                                          is_first boolean, path jsonb, path_windows budget_window[]) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    refusal jsonb;
    limit_usd numeric := ledger_limit_in_force(w.limit_usd, settings);
    bound numeric := (candidate->>'bound')::numeric;
    tokens bigint := COALESCE((candidate->>'tokens')::bigint, 0);
    rate_limit text; -- the one that is used up
BEGIN
    -- What costs nothing can't overrun anything: a budget never holds up a free local model.
    IF bound > 0 THEN
        IF ledger_state(w.spent, limit_usd, settings) = 'OPEN' OR w.spent + bound > limit_usd THEN
            refusal := jsonb_build_object('refused', 'exceeded', 'by', 'global');
        END IF;
        IF refusal IS NOT NULL AND path IS NULL THEN
            RETURN refusal;
        ELSIF ledger_state(kw.spent, k.limit_usd, settings) = 'OPEN' OR kw.spent + bound > k.limit_usd THEN
            RETURN jsonb_build_object('refused', 'exceeded', 'by', k.id);
        ELSIF path IS NOT NULL THEN
            refusal := COALESCE(ledger_path_refusal(path, path_windows, bound, 'exceeded'), refusal);
            IF refusal IS NOT NULL THEN RETURN refusal; END IF;
        END IF;
    END IF;
    rate_limit := CASE WHEN is_first AND kw.rate_requests >= k.requests_per_minute THEN 'requests'
                       WHEN kw.rate_tokens + tokens > k.tokens_per_minute THEN 'tokens' END;
    IF tokens > k.tokens_per_minute AND rate_limit IS DISTINCT FROM 'requests' THEN
        RETURN jsonb_build_object('refused', 'too_large', 'by', k.id, 'tokens', tokens, 'limit', k.tokens_per_minute);
    ELSIF rate_limit IS NOT NULL THEN
        RETURN jsonb_build_object('refused', 'rate_limited', 'by', k.id, 'limit', rate_limit, 'retry_after',
                                  ledger_rate_window_ends_in(kw.rate_window_started_at));
    END IF;
    IF bound > 0 THEN
        IF w.spent + w.reserved + bound > limit_usd THEN
            refusal := jsonb_build_object('refused', 'reserved', 'by', 'global');
        END IF;
        IF refusal IS NOT NULL AND path IS NULL THEN
            RETURN refusal;
        ELSIF kw.spent + kw.reserved + bound > k.limit_usd THEN
            RETURN jsonb_build_object('refused', 'reserved', 'by', k.id);
        ELSIF path IS NOT NULL THEN
            RETURN COALESCE(ledger_path_refusal(path, path_windows, bound, 'reserved'), refusal);
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- Writes a reservation that is admitted: its entry, and what it takes of its key's window, which is returned, and of its
-- path's. The caller books what it takes of the company's budget: in the window, or in the slot (NULL where it is in none),
-- and what it has taken in slots of the windows in slotted (spread.sql).
-- expires_after: the earliest time at which it may expire.
CREATE OR REPLACE FUNCTION ledger_insert_reservation(entry jsonb, tier text, candidate jsonb, in_window bigint,
                                                     INOUT kw budget_window, path_windows budget_window[],
                                                     in_slot smallint, in_epoch bigint,
                                                     settings jsonb, is_first boolean, expires_after timestamptz,
                                                     slotted bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    bound numeric := (candidate->>'bound')::numeric;
    tokens bigint := COALESCE((candidate->>'tokens')::bigint, 0);
    path_ids bigint[]; -- NULL without a path
BEGIN
    IF cardinality(path_windows) > 0 THEN
        path_ids := ARRAY(SELECT w.id FROM unnest(path_windows) WITH ORDINALITY w ORDER BY w.ordinality);
        UPDATE budget_window b SET reserved = b.reserved + bound, lock_waits = w.lock_waits, slots = w.slots,
                                   slots_changed_at = w.slots_changed_at
        FROM unnest(path_windows) w WHERE b.id = w.id AND bound > 0 AND (b.id = ANY (slotted)) IS NOT TRUE;
    END IF;
    INSERT INTO ledger (id, window_id, key_window_id, path_window_ids, slot, slot_epoch, slotted_window_ids, request_id,
                        attempt, operation, provider, model, tier, key_id, status, bound, tokens_bound, reserved_at,
                        expires_at)
    VALUES ((entry->>'id')::uuid, in_window, kw.id, path_ids, in_slot, in_epoch, slotted, entry->>'request_id',
            (entry->>'attempt')::integer, entry->>'operation', candidate->>'provider', candidate->>'model', tier, entry->>'key_id',
            'reserved', bound, tokens, clock_timestamp(), greatest(expires_after,
                clock_timestamp() + make_interval(secs => (settings->>'ttl_seconds')::double precision)));
    IF kw.id IS NOT NULL AND (kw.id = ANY (slotted)) IS NOT TRUE THEN
        UPDATE budget_window b SET
            reserved = b.reserved + bound, lock_waits = kw.lock_waits, slots = kw.slots,
            slots_changed_at = kw.slots_changed_at, rate_window_started_at = kw.rate_window_started_at,
            rate_requests = kw.rate_requests + is_first::int, rate_tokens = kw.rate_tokens + tokens
        WHERE b.id = kw.id RETURNING b.* INTO kw;
    END IF;
END $$;

-- As ledger_reserve, under the window's lock.
CREATE OR REPLACE FUNCTION ledger_reserve_on_row(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    statement_id uuid := (p->'entry'->>'id')::uuid;
    candidates jsonb := p->'candidates';
    tier text := entry->>'tier';
    is_first boolean := NOT p ? 'settlement' AND (p->'entry'->>'attempt')::integer = 1;
    wait jsonb := p->'wait';
    -- Sent again, it may have one that its caller wasn't told of.
    may_have_ticket boolean := wait ? 'holds' OR (wait IS NOT NULL AND p ? 'resent');
    result jsonb := '{}';
    limit_usd numeric;
    w budget_window;
    kw budget_window;
    k api_key;
    path jsonb; -- NULL where the key has none
    path_windows budget_window[];
    path_rolled_over jsonb;
    ended ledger;
    health_pending boolean := false; -- whether "health_update" is still to be recorded
    rolled_over jsonb;
    key_rolled_over jsonb;
    expired jsonb;
    threshold_events jsonb;
    choice record;
    offer record; -- the candidate as it may be reserved, and the room for it
    bound numeric;
    refusal jsonb;
    waiting jsonb;
    has_waited boolean := ledger_join_queue((p->'settlement'->>'id')::uuid);
BEGIN
    IF p ? 'settlement' THEN
        -- Its window first, which may be older than the open one.
        PERFORM 1 FROM budget_window
        WHERE id = (SELECT window_id FROM ledger WHERE id = (p->'settlement'->>'id')::uuid) FOR NO KEY UPDATE;
    END IF;
    step := ledger_lock_window('global', settings, NULL);
    w := step.w; rolled_over := step.rolled_over; limit_usd := ledger_limit_in_force(w.limit_usd, settings);
    IF settings->>'slots' IS NULL AND NOT p ? 'grouped' THEN w := ledger_follow_load(w, has_waited); END IF;
    -- Before anything is done, so that the caller sends all of it again. What stands already was made at its own prices.
    IF price_is_stale(p) AND NOT EXISTS (SELECT FROM ledger WHERE id = statement_id) THEN
        RETURN jsonb_build_object(
            'refused', 'stale_prices', 'prices', price_table(), 'rolled_over', rolled_over,
            'budget', ledger_budget_json(w, limit_usd, settings), 'key', NULL);
    END IF;
    IF p ? 'settlement' THEN
        step := ledger_settle_entry(p->'settlement', settings);
        ended := step.e;
        IF ended.window_id = w.id THEN w := step.w; END IF;
        IF NOT step.repeated OR p ? 'resent' THEN threshold_events := step.threshold_events; END IF;
        health_pending := p ? 'health_update' AND NOT step.repeated;
        result := result || jsonb_build_object('settled', jsonb_build_object(
            'status', ended.status, 'cost', ended.cost, 'cost_basis', ended.cost_basis));
    END IF;

    IF p ? 'resent' THEN threshold_events := ledger_add_threshold_events(statement_id, threshold_events); END IF;

    -- None for the bootstrap key, which has no limits.
    IF entry->>'key_id' IS NOT NULL AND EXISTS (SELECT FROM api_key WHERE id = entry->>'key_id') THEN
        step := ledger_lock_window(entry->>'key_id', settings, NULL);
        kw := step.w; key_rolled_over := step.rolled_over;
        SELECT * INTO k FROM api_key WHERE id = kw.budget; -- after it: the lock may have been waited for
    END IF;

    -- Sent twice, because the first answer was lost with its connection: the reservation stands.
    IF EXISTS (SELECT FROM ledger WHERE id = (entry->>'id')::uuid) THEN
        SELECT c.ordinality - 1 AS place, c.value AS candidate, d.downgraded INTO step
        FROM ledger l, (VALUES (false, candidates), (true, p->'downgrade'->'candidates')) d (downgraded, candidates),
             jsonb_array_elements(d.candidates) WITH ORDINALITY c
        WHERE l.id = (entry->>'id')::uuid AND c.value->>'provider' = l.provider AND c.value->>'model' = l.model
              AND (NOT d.downgraded OR l.tier = p->'downgrade'->>'tier')
        ORDER BY d.downgraded DESC LIMIT 1;
        IF FOUND THEN
            IF may_have_ticket THEN PERFORM admission_leave(wait, statement_id); END IF;
            RETURN result || jsonb_build_object(
                'candidate', step.place, 'cap', ledger_fitted_cap(step.candidate, statement_id), 'downgraded', step.downgraded, 'rolled_over', rolled_over,
                'key_rolled_over', key_rolled_over, 'threshold_events', threshold_events,
                'budget', ledger_budget_json(w, limit_usd, settings),
                'key', ledger_budget_of_key_json(k, kw, settings));
        END IF;
    END IF;

    -- Most calls find nothing that has expired, and no state to record: looking is cheaper than the function.
    IF w.expired_until < clock_timestamp() - interval '5 seconds' OR EXISTS (
        SELECT FROM ledger l WHERE l.window_id = w.id AND l.status = 'reserved'
        AND l.expires_at > w.expired_until AND l.expires_at <= clock_timestamp()
    ) THEN
        step := ledger_expire(w, settings, statement_id, NULL, threshold_events);
        w := step.w; expired := step.expired; threshold_events := step.threshold_events;
        SELECT * INTO kw FROM budget_window WHERE id = kw.id; -- expired entries of its own may have been booked
    END IF;
    IF w.state <> ledger_state(w.spent, limit_usd, settings) THEN
        step := ledger_record_state(w, limit_usd, settings, threshold_events, NULL, statement_id);
        w := step.w; threshold_events := step.threshold_events;
    END IF;
    IF k.id IS NOT NULL THEN
        IF kw.state <> ledger_state(kw.spent, k.limit_usd, settings) THEN
            step := ledger_record_state(kw, k.limit_usd, settings, threshold_events, NULL, statement_id);
            kw := step.w; threshold_events := step.threshold_events;
        END IF;
        IF ledger_rate_window_ends_in(kw.rate_window_started_at) <= 0 THEN kw := ledger_begin_rate_window(kw); END IF;
    END IF;

    IF p ? 'downgrade' AND 'HALF_OPEN' IN (w.state, kw.state) THEN
        candidates := p->'downgrade'->'candidates';
        tier := p->'downgrade'->>'tier';
        result := result || jsonb_build_object('downgraded', true);
    END IF;
    choice := ledger_choose(candidates, entry->>'operation');
    IF key_has_path(k) AND choice.chosen IS NOT NULL AND NOT ledger_lacks_user(k, entry) THEN
        path := ledger_path(k, entry, tier, choice.chosen, settings);
        step := ledger_lock_path(path, settings, statement_id, path_rolled_over, threshold_events);
        path_windows := step.windows; path_rolled_over := step.rolled_over; threshold_events := step.threshold_events;
        IF p ? 'downgrade' AND NOT result ? 'downgraded' AND ledger_path_has_state(path_windows, 'HALF_OPEN') THEN
            candidates := p->'downgrade'->'candidates';
            tier := p->'downgrade'->>'tier';
            result := result || jsonb_build_object('downgraded', true);
            choice := ledger_choose(candidates, entry->>'operation');
            -- Another model, which other budgets may count.
            path := ledger_path(k, entry, tier, choice.chosen, settings);
            step := ledger_lock_path(path, settings, statement_id, path_rolled_over, threshold_events);
            path_windows := step.windows; path_rolled_over := step.rolled_over;
            threshold_events := step.threshold_events;
        END IF;
    END IF;
    offer := admission_offer(p, choice.chosen, w, kw, k, path, path_windows);
    refusal := CASE
        WHEN NOT key_is_active(k) THEN jsonb_build_object('refused', 'revoked')
        WHEN ledger_lacks_user(k, entry) THEN jsonb_build_object('refused', 'no_user')
        WHEN choice.chosen IS NULL THEN jsonb_build_object('refused', 'cooling_down')
        -- Not the next candidate instead: each vendor might be paid for refusing the same.
        ELSE COALESCE(vendor_refusal_of(entry, choice.chosen),
                      input_allowance_refusal(choice.chosen),
                      ledger_refusal(w, kw, k, settings, offer.candidate, is_first, path, path_windows),
                      admission_refusal(offer.candidate, statement_id, offer.names, offer.rooms, path, path_windows))
    END;
    IF refusal->>'refused' = 'reserved' AND refusal->>'by' <> 'global' THEN
        -- A call that crashed before the company's last reset may hold the room: then it is spent, and waiting is no
        -- use.
        step := ledger_expire_closed(settings, statement_id, expired, threshold_events);
        expired := step.expired; threshold_events := step.threshold_events;
        SELECT b.spent, b.reserved, b.request_count, b.state
        INTO kw.spent, kw.reserved, kw.request_count, kw.state FROM budget_window b WHERE b.id = kw.id;
        IF path IS NOT NULL THEN
            step := ledger_lock_path(path, settings, statement_id, path_rolled_over, threshold_events);
            path_windows := step.windows; path_rolled_over := step.rolled_over;
            threshold_events := step.threshold_events;
        END IF;
        offer := admission_offer(p, choice.chosen, w, kw, k, path, path_windows);
        refusal := COALESCE(
            ledger_refusal(w, kw, k, settings, offer.candidate, is_first, path, path_windows),
            admission_refusal(offer.candidate, statement_id, offer.names, offer.rooms, path, path_windows));
    END IF;
    bound := (offer.candidate->>'bound')::numeric;

    IF refusal IS NULL THEN
        kw := ledger_insert_reservation(
            entry, tier, offer.candidate, w.id, kw, path_windows, NULL, NULL, settings, is_first,
            w.expired_until + interval '1 microsecond', -- later, even if the server's clock was set back
            NULL);
        IF bound > 0 THEN
            UPDATE budget_window SET reserved = reserved + bound, lock_waits = w.lock_waits, slots = w.slots,
                                     slots_changed_at = w.slots_changed_at
            WHERE id = w.id RETURNING * INTO w;
        END IF;
        result := result || jsonb_build_object(
            'candidate', choice.place, 'probing', choice.probing, 'cap', offer.candidate->'cap',
            'ample', NOT choice.probing AND k.tokens_per_minute IS NULL
                AND w.spent + 2 * w.reserved < limit_usd * (settings->>'alert')::numeric
                AND (kw.spent + 2 * kw.reserved < k.limit_usd * (settings->>'alert')::numeric) IS NOT FALSE
                AND (path IS NULL OR ledger_path_is_ample(path, path_windows, bound)));
    ELSE
        result := result || refusal || jsonb_build_object('bound', bound);
        choice.probing := false;
    END IF;
    IF refusal->>'refused' = 'reserved' THEN waiting := admission_take(wait, entry, refusal, bound); END IF;
    IF waiting IS NOT NULL THEN
        result := result || waiting;
    ELSIF may_have_ticket THEN
        PERFORM admission_leave(wait, statement_id);
    END IF;
    -- What was ended here, what has expired, and a call that has left the line may have made room for who is next.
    IF (ended.id IS NOT NULL OR expired IS NOT NULL OR (may_have_ticket AND waiting IS NULL))
       AND EXISTS (SELECT FROM admission_wait t WHERE t.listens) THEN
        PERFORM admission_wake(ARRAY['global', k.id]
                               || ARRAY(SELECT b->>'budget' FROM jsonb_array_elements(path) b), settings);
    END IF;

    IF p ? 'settlement' THEN PERFORM input_allowance_raise(ended, p->'settlement'); END IF;
    -- Health rows come last and by name: that is their place in the lock order (windows.sql).
    IF health_pending AND (NOT choice.probing OR p->'health_update'->>'provider' <= choice.chosen->>'provider') THEN
        result := result || jsonb_build_object(
            'cooldown_until', provider_health_record(p->'health_update', ended.reserved_at));
        health_pending := false;
    END IF;
    IF choice.probing THEN
        UPDATE provider_health
        SET cooldown_until = clock_timestamp() + make_interval(secs => (p->>'probe_seconds')::double precision)
        WHERE provider = choice.chosen->>'provider' AND cooldown_until <= clock_timestamp();
    END IF;
    IF health_pending THEN
        result := result || jsonb_build_object(
            'cooldown_until', provider_health_record(p->'health_update', ended.reserved_at));
    END IF;
    IF p ? 'settings_snapshot' THEN PERFORM settings_record(p->'settings_snapshot'); END IF;
    IF refusal->>'refused' = 'reserved' AND ended.id IS NULL AND NOT p ? 'settings_snapshot'
       AND COALESCE(expired, threshold_events, rolled_over, key_rolled_over, path_rolled_over) IS NULL THEN
        PERFORM admission_need_not_last();
    END IF;
    IF waiting IS NULL AND ledger_refusal_code(refusal) IS NOT NULL THEN
        PERFORM refused_call_record(
            entry->>'key_id', ledger_refusal_code(refusal), entry->>'request_id', p ? 'resent');
    END IF;

    RETURN result || jsonb_build_object(
        'cooling', choice.cooling, 'rolled_over', rolled_over, 'key_rolled_over', key_rolled_over,
        'path_rolled_over', path_rolled_over, 'expired', expired, 'threshold_events', threshold_events, 'budget', ledger_budget_json(w, limit_usd, settings),
        'key', ledger_budget_of_key_json(k, kw, settings));
END $$;

-- Reserves the worst case of the first candidate that isn't cooling down, in the company's budget, in the key's and in
-- those of the path.
-- With "settlement", it ends the failed attempt before it in the same transaction.
-- p: {settings, settlement?, health_update?, entry: {id, request_id, attempt, operation, tier, key_id,
-- user?},
-- candidates: [{provider, model, bound, tokens, allowance?, fit?}], downgrade?: {tier, candidates}, settings_snapshot?,
-- probe_seconds, prices?: {version, until}, with which the bounds were computed, wait?, grouped?}
-- "grouped" says that the environment sends what comes together as one: that it waits for the row calls for no slots.
-- "fit" is in fitting.sql: with it the result has the "cap" of a smaller reservation than the candidate's. "wait" is in
-- admission.sql: with it a call that only lacks room gets a "ticket", and asks again.
-- Where other prices are in force, it does nothing: "refused" is stale_prices, and "prices" are those in force.
-- "ample" says that nobody misses what the reservation holds until it is settled: in each budget on the way, twice what
-- is reserved would still leave it CLOSED; the key has no limit of tokens a minute, which are counted at the bound until
-- then; and it isn't the probe of a provider that the others keep off. Then the settlement may follow the answer
-- (docs/decisions/0025-settled-after-the-answer.md).
-- Where there are slots and nothing but a reservation is asked for, it tries one of them first. What can't be
-- done there gives up its locks before it goes on: the slot's may not be held while the window's is waited for.
CREATE OR REPLACE FUNCTION ledger_reserve(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    result jsonb;
BEGIN
    IF p->'wait' ? 'holds' THEN
        result := admission_look(p);
        IF result IS NOT NULL THEN RETURN result; END IF;
    END IF;
    IF COALESCE(ledger_slots(p->'settings'), 1) <= 1 THEN RETURN ledger_reserve_on_row(p); END IF;
    IF NOT p ?| ARRAY['settlement', 'settings_snapshot', 'resent'] AND (p->'wait' ? 'holds') IS NOT TRUE
       AND (p->'entry'->>'attempt')::integer = 1 THEN
        BEGIN
            result := ledger_reserve_in_slot(p);
            IF result IS NULL THEN RAISE SQLSTATE 'FW001'; END IF;
            RETURN result;
        EXCEPTION WHEN SQLSTATE 'FW001' THEN NULL;
        END;
    END IF;
    result := ledger_reserve_on_row(p);
    IF NOT result ? 'refused' THEN
        PERFORM ledger_allocate_slots(p->'settings', (SELECT bound FROM ledger WHERE id = (p->'entry'->>'id')::uuid));
    END IF;
    RETURN result;
END $$;
