-- Past the one hot row: while the company's budget is CLOSED, parts of its headroom are granted to slots, and a call that
-- fits its slot's part locks that slot alone (AI_LEDGER_SLOTS; one: none of this). The cap stays as hard: what is granted,
-- spent and reserved together stays below the alert threshold, so no crossing can happen in a slot, and whatever doesn't
-- fit locks the window, gathers the slots back into it and is decided there as ever. So nothing is refused before every
-- slot was gathered. Settlements know by the epoch whether their reservation still is in the slot.

-- Grants the room below the alert threshold to the slots of a locked and gathered window in equal parts, unless a part is
-- too small to be worth it: room for a few calls like this one.
CREATE FUNCTION ledger_grant(settings jsonb, bound numeric) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    slots integer := (settings->>'slots')::integer;
    top numeric := (settings->>'limit')::numeric * (settings->>'alert')::numeric;
    w budget_window;
    part numeric;
BEGIN
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    -- Below the threshold, not at it: spending the last of it must not be a crossing.
    part := trunc((top - w.spent - w.reserved) * 0.999 / slots, 12);
    IF part <= 8 * bound OR part <= 0 THEN RETURN; END IF;
    INSERT INTO budget_slot AS s (window_id, slot, ceiling, granted)
    SELECT w.id, n, top, part FROM generate_series(1, slots) n
    ON CONFLICT (window_id, slot) DO UPDATE SET ceiling = top, granted = part;
END $$;

-- ledger_reserve in the slot of this session; NULL where that isn't simply possible, with nothing changed.
CREATE FUNCTION ledger_reserve_in_slot(p jsonb) RETURNS jsonb
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
        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id';
    END IF;
    IF k.id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE budget = k.id AND closed_at IS NULL FOR NO KEY UPDATE;
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

-- ledger_end in the slot that holds the reservation; NULL where that isn't simply possible, with nothing changed.
CREATE FUNCTION ledger_end_in_slot(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    s budget_slot;
    was ledger;
    e ledger;
    kw budget_window;
    crossings jsonb;
    cooled timestamptz;
BEGIN
    SELECT * INTO was FROM ledger WHERE id = (p->'ending'->>'id')::uuid;
    IF was.slot IS NULL THEN RETURN NULL; END IF;
    SELECT * INTO s FROM budget_slot WHERE window_id = was.window_id AND slot = was.slot FOR UPDATE;
    IF s.epoch <> was.slot_epoch OR s.granted = 0 THEN RETURN NULL; END IF;
    -- Nobody else ends it while its slot is locked; what is read from here on is current.
    SELECT * INTO was FROM ledger WHERE id = was.id;
    IF was.status <> 'reserved' OR (p->'ending'->>'cost')::numeric > was.bound THEN RETURN NULL; END IF;
    SELECT * INTO w FROM budget_window WHERE id = was.window_id;
    e := ledger_end_row(was, p->'ending', w, settings);
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1, s.slot); END IF;
    UPDATE budget_slot SET
        spent = spent + COALESCE(e.cost, 0), reserved = reserved - e.bound,
        request_count = request_count + (e.status = 'settled')::int
    WHERE window_id = s.window_id AND slot = s.slot;
    IF e.key_window_id IS NOT NULL THEN
        SELECT * INTO step FROM ledger_book_key(
            e.key_window_id, settings, COALESCE(e.cost, 0), e.bound, (e.status = 'settled')::int, ledger_spare_tokens(e),
            e.reserved_at, NULL, e.id);
        kw := step.kw; crossings := step.crossings;
    END IF;
    IF p ? 'health' THEN cooled := ledger_note_health(p->'health', e.reserved_at); END IF;
    RETURN jsonb_build_object(
        'status', e.status, 'cost', e.cost, 'cost_basis', e.cost_basis, 'crossings', crossings, 'cooldown_until', cooled,
        'budget', ledger_open_json(w, settings), 'key', CASE WHEN kw.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
END $$;

-- As ledger_reserve_on_row, first in a slot where there are slots and nothing but a reservation is asked for. What can't be
-- done there gives up its locks before it goes on: the slot's may not be held while the window's is waited for.
CREATE FUNCTION ledger_reserve(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    told jsonb;
BEGIN
    IF COALESCE((p->'settings'->>'slots')::integer, 1) <= 1 THEN RETURN ledger_reserve_on_row(p); END IF;
    IF NOT p ?| ARRAY['ending', 'introduce', 'resent'] THEN
        BEGIN
            told := ledger_reserve_in_slot(p);
            IF told IS NULL THEN RAISE SQLSTATE 'FW001'; END IF;
            RETURN told;
        EXCEPTION WHEN SQLSTATE 'FW001' THEN NULL;
        END;
    END IF;
    told := ledger_reserve_on_row(p);
    IF NOT told ? 'refused' THEN
        PERFORM ledger_grant(p->'settings', (SELECT bound FROM ledger WHERE id = (p->'entry'->>'id')::uuid));
    END IF;
    RETURN told;
END $$;

-- Ends an attempt for good: in the slot that holds it, or under its window's lock. p: {settings, ending, health?}
CREATE FUNCTION ledger_end(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    told jsonb;
BEGIN
    IF EXISTS (SELECT FROM ledger WHERE id = (p->'ending'->>'id')::uuid AND slot IS NOT NULL) THEN
        BEGIN
            told := ledger_end_in_slot(p);
            IF told IS NULL THEN RAISE SQLSTATE 'FW001'; END IF;
            RETURN told;
        EXCEPTION WHEN SQLSTATE 'FW001' THEN NULL;
        END;
    END IF;
    RETURN ledger_end_on_row(p);
END $$;
