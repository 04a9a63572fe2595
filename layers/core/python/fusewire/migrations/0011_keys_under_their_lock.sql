-- A call is held to its key as the key is once its window is locked. It was read before: when it was changed while the lock
-- was waited for, the call was admitted under limits that others had already been refused by, and took back a state that
-- they had recorded, so that its crossing was told again. Both functions are those of 0006 and 0007 but for that, and but
-- for what the first does no more where there is no need: sweep, record a state, tell what was reserved by itself sent twice,
-- set a lock_timeout that its caller has set.

-- Reserves the worst case of the first candidate that isn't cooling down, in the company's budget and in the key's; with
-- "ending", ends the failed attempt before it, in the same transaction. p: {settings, ending?, health?,
-- entry: {id, request_id, attempt, operation, tier, key_id}, candidates: [{provider, model, bound, tokens}],
-- downgrade?: {tier, candidates}, introduce?, probe_seconds}
CREATE OR REPLACE FUNCTION ledger_reserve_on_row(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    sweep_id uuid := (p->'entry'->>'id')::uuid;
    candidates jsonb := p->'candidates';
    tier text := entry->>'tier';
    told jsonb := '{}';
    cap numeric := (p->'settings'->>'limit')::numeric;
    w budget_window;
    kw budget_window;
    k api_key;
    ended ledger;
    noting boolean := false; -- whether "health" is still to be noted
    turned jsonb;
    key_turned jsonb;
    expired jsonb;
    crossings jsonb;
    choice record;
    bound numeric;
    tokens bigint;
    refusal jsonb;
BEGIN
    IF p ? 'ending' THEN
        -- Its window first, which may be older than the open one.
        PERFORM 1 FROM budget_window
        WHERE id = (SELECT window_id FROM ledger WHERE id = (p->'ending'->>'id')::uuid) FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
    w := step.w; turned := step.turned;
    IF p ? 'ending' THEN
        SELECT * INTO step FROM ledger_end_entry(p->'ending', settings);
        ended := step.e;
        IF ended.window_id = w.id THEN w := step.w; END IF;
        IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;
        noting := p ? 'health' AND NOT step.repeated;
        told := told || jsonb_build_object('ended', jsonb_build_object(
            'status', ended.status, 'cost', ended.cost, 'cost_basis', ended.cost_basis));
    END IF;

    IF p ? 'resent' THEN crossings := ledger_swept(sweep_id, crossings); END IF;

    IF entry->>'key_id' IS NOT NULL THEN
        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id'; -- none for the bootstrap key, which has no limits
    END IF;
    IF k.id IS NOT NULL THEN
        SELECT * INTO step FROM ledger_lock_window(k.id, settings, NULL);
        kw := step.w; key_turned := step.turned;
    END IF;

    -- Sent twice, because the first answer was lost with its connection: the reservation stands.
    IF EXISTS (SELECT FROM ledger WHERE id = (entry->>'id')::uuid) THEN
        SELECT c.ordinality - 1 AS place, d.downgraded INTO step
        FROM ledger l, (VALUES (false, candidates), (true, p->'downgrade'->'candidates')) d (downgraded, candidates),
             jsonb_array_elements(d.candidates) WITH ORDINALITY c
        WHERE l.id = (entry->>'id')::uuid AND c.value->>'provider' = l.provider AND c.value->>'model' = l.model
              AND (NOT d.downgraded OR l.tier = p->'downgrade'->>'tier')
        ORDER BY d.downgraded DESC LIMIT 1;
        IF FOUND THEN
            RETURN told || jsonb_build_object(
                'candidate', step.place, 'downgraded', step.downgraded, 'turned', turned, 'key_turned', key_turned,
                'crossings', crossings, 'budget', ledger_budget_json(w, cap, settings),
                'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
        END IF;
    END IF;

    -- Most calls find nothing to sweep, and no state to record: looking is cheaper than the function.
    IF w.swept_until < clock_timestamp() - interval '5 seconds' OR EXISTS (
        SELECT FROM ledger l WHERE l.window_id = w.id AND l.status = 'reserved'
        AND l.expires_at > w.swept_until AND l.expires_at <= clock_timestamp()
    ) THEN
        SELECT * INTO step FROM ledger_expire(w, settings, sweep_id, NULL, crossings);
        w := step.w; expired := step.expired; crossings := step.crossings;
    END IF;
    IF w.state <> ledger_state(w.spent, cap, settings) THEN
        SELECT * INTO step FROM ledger_record_state(w, cap, settings, crossings, NULL, sweep_id);
        w := step.w; crossings := step.crossings;
    END IF;
    IF k.id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE id = kw.id; -- expired entries of its own may have been booked
        SELECT * INTO k FROM api_key WHERE id = k.id; -- again: its window's lock may have been waited for
        SELECT * INTO step FROM ledger_record_state(kw, k.monthly_budget_usd, settings, crossings, NULL, sweep_id);
        kw := step.w; crossings := step.crossings;
        IF COALESCE(kw.minute_at <= clock_timestamp() - interval '1 minute', true) THEN
            kw.minute_at := clock_timestamp(); kw.minute_requests := 0; kw.minute_tokens := 0;
        END IF;
    END IF;

    IF p ? 'downgrade' AND 'HALF_OPEN' IN (w.state, kw.state) THEN
        candidates := p->'downgrade'->'candidates';
        tier := p->'downgrade'->>'tier';
        told := told || jsonb_build_object('downgraded', true);
    END IF;
    SELECT * INTO choice FROM ledger_choose(candidates, entry->>'operation');
    bound := (choice.chosen->>'bound')::numeric;
    tokens := COALESCE((choice.chosen->>'tokens')::bigint, 0);
    refusal := CASE
        WHEN k.revoked_at IS NOT NULL OR k.expires_at <= clock_timestamp() THEN jsonb_build_object('refused', 'revoked')
        WHEN choice.chosen IS NULL THEN jsonb_build_object('refused', 'cooling_down')
        ELSE ledger_refusal(w, kw, k, settings, bound, tokens, NOT p ? 'ending')
    END;
    IF refusal->>'refused' = 'reserved' AND refusal->>'by' = k.id THEN
        -- By a call that crashed before the company's last reset, perhaps: then it is spent, and waiting is no use.
        SELECT * INTO step FROM ledger_expire_closed(settings, sweep_id, expired, crossings);
        expired := step.expired; crossings := step.crossings;
        SELECT b.spent, b.reserved, b.request_count, b.state
        INTO kw.spent, kw.reserved, kw.request_count, kw.state FROM budget_window b WHERE b.id = kw.id;
        refusal := ledger_refusal(w, kw, k, settings, bound, tokens, NOT p ? 'ending');
    END IF;

    IF refusal IS NULL THEN
        INSERT INTO ledger (id, window_id, key_window_id, request_id, attempt, operation, provider, model, tier, key_id,
                            status, bound, tokens_bound, reserved_at, expires_at)
        VALUES ((entry->>'id')::uuid, w.id, kw.id, entry->>'request_id', (entry->>'attempt')::integer,
                entry->>'operation', choice.chosen->>'provider', choice.chosen->>'model', tier, entry->>'key_id',
                'reserved', bound, tokens, clock_timestamp(), greatest(
                    clock_timestamp() + make_interval(secs => (settings->>'ttl_seconds')::double precision),
                    w.swept_until + interval '1 microsecond')); -- later, even if the server's clock was set back
        IF bound > 0 THEN
            UPDATE budget_window SET reserved = reserved + bound WHERE id = w.id RETURNING * INTO w;
        END IF;
        IF k.id IS NOT NULL THEN
            UPDATE budget_window SET
                reserved = reserved + bound, minute_at = kw.minute_at,
                minute_requests = kw.minute_requests + (NOT p ? 'ending')::int, minute_tokens = kw.minute_tokens + tokens
            WHERE id = kw.id RETURNING * INTO kw;
        END IF;
        told := told || jsonb_build_object('candidate', choice.place, 'probing', choice.probing);
    ELSE
        told := told || refusal || jsonb_build_object('bound', bound);
        choice.probing := false;
    END IF;

    -- Health rows come last and by name (see the lock order above).
    IF noting AND (NOT choice.probing OR p->'health'->>'provider' <= choice.chosen->>'provider') THEN
        told := told || jsonb_build_object('cooldown_until', ledger_note_health(p->'health', ended.reserved_at));
        noting := false;
    END IF;
    IF choice.probing THEN
        UPDATE provider_health
        SET cooldown_until = clock_timestamp() + make_interval(secs => (p->>'probe_seconds')::double precision)
        WHERE provider = choice.chosen->>'provider' AND cooldown_until <= clock_timestamp();
    END IF;
    IF noting THEN
        told := told || jsonb_build_object('cooldown_until', ledger_note_health(p->'health', ended.reserved_at));
    END IF;
    IF p ? 'introduce' THEN PERFORM settings_note(p->'introduce'); END IF;

    RETURN told || jsonb_build_object(
        'cooling', choice.cooling, 'turned', turned, 'key_turned', key_turned, 'expired', expired,
        'crossings', crossings, 'budget', ledger_budget_json(w, cap, settings),
        'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
END $$;

-- ledger_reserve in the slot of this session; NULL where that isn't simply possible, with nothing changed.
CREATE OR REPLACE FUNCTION ledger_reserve_in_slot(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    w budget_window;
    s budget_slot;
    k api_key;
    kw budget_window;
    choice record;
    bound numeric;
    tokens bigint;
BEGIN
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    IF w.id IS NULL OR w.resets_at <= clock_timestamp() THEN RETURN NULL; END IF;
    SELECT * INTO choice FROM ledger_choose(p->'candidates', entry->>'operation');
    bound := (choice.chosen->>'bound')::numeric;
    tokens := COALESCE((choice.chosen->>'tokens')::bigint, 0);
    IF choice.chosen IS NULL OR choice.probing THEN RETURN NULL; END IF;
    SELECT * INTO s FROM budget_slot
    WHERE window_id = w.id AND slot = 1 + pg_backend_pid() % (settings->>'slots')::integer FOR UPDATE;
    -- Gathered (the window may have been closed meanwhile), used up, or granted under another limit than ours.
    IF s.slot IS NULL OR s.granted = 0 OR s.spent + s.reserved + bound > s.granted
       OR s.ceiling <> (settings->>'limit')::numeric * (settings->>'alert')::numeric THEN
        RETURN NULL;
    END IF;
    IF entry->>'key_id' IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE budget = entry->>'key_id' AND closed_at IS NULL FOR NO KEY UPDATE;
        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id'; -- after it: the lock may have been waited for
    END IF;
    IF k.id IS NOT NULL THEN
        IF kw.id IS NULL OR kw.resets_at <= clock_timestamp() OR k.revoked_at IS NOT NULL
           OR k.expires_at <= clock_timestamp() OR kw.state <> ledger_state(kw.spent, k.monthly_budget_usd, settings)
           OR (p ? 'downgrade' AND kw.state = 'HALF_OPEN') THEN
            RETURN NULL;
        END IF;
        IF COALESCE(kw.minute_at <= clock_timestamp() - interval '1 minute', true) THEN
            kw.minute_at := clock_timestamp(); kw.minute_requests := 0; kw.minute_tokens := 0;
        END IF;
        -- Of the company's budget it is known already that the call fits.
        IF ledger_refusal(NULL, kw, k, settings, bound, tokens, true) IS NOT NULL THEN RETURN NULL; END IF;
        UPDATE budget_window SET
            reserved = reserved + bound, minute_at = kw.minute_at,
            minute_requests = kw.minute_requests + 1, minute_tokens = kw.minute_tokens + tokens
        WHERE id = kw.id RETURNING * INTO kw;
    END IF;
    INSERT INTO ledger (id, window_id, key_window_id, slot, slot_epoch, request_id, attempt, operation, provider, model,
                        tier, key_id, status, bound, tokens_bound, reserved_at, expires_at)
    VALUES ((entry->>'id')::uuid, w.id, kw.id, s.slot, s.epoch, entry->>'request_id', (entry->>'attempt')::integer,
            entry->>'operation', choice.chosen->>'provider', choice.chosen->>'model', entry->>'tier', entry->>'key_id',
            'reserved', bound, tokens, clock_timestamp(), greatest(
                clock_timestamp() + make_interval(secs => (settings->>'ttl_seconds')::double precision),
                -- The sweep of the window may be at work as we are: what it has passed must not expire before it.
                w.swept_until + interval '1 minute'));
    UPDATE budget_slot SET reserved = reserved + bound WHERE window_id = w.id AND slot = s.slot;
    RETURN jsonb_build_object(
        'candidate', choice.place, 'probing', false, 'cooling', choice.cooling, 'budget', ledger_open_json(w, settings),
        'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
END $$;
