-- A slot is looked at, locked and changed in one statement instead of two, and a reservation that ends in a slot is read
-- once: who changed either meanwhile is seen by what the statement asks for, once it has the row. The rules are 0007's.

-- Ends an entry's own row, if it still is as it was seen; its sums are the caller's to book.
CREATE OR REPLACE FUNCTION ledger_end_row(was ledger, ending jsonb, w budget_window, settings jsonb) RETURNS ledger
LANGUAGE plpgsql AS $$
DECLARE
    e ledger;
    how text := ending->>'how';
BEGIN
    UPDATE ledger SET
        status = CASE how WHEN 'release' THEN 'released' ELSE 'settled' END,
        cost = CASE how WHEN 'actual' THEN (ending->>'cost')::numeric WHEN 'bound' THEN bound END,
        cost_basis = CASE how WHEN 'release' THEN NULL ELSE how END,
        outcome = ending->>'outcome',
        input_tokens = COALESCE((ending->>'input_tokens')::bigint, 0),
        output_tokens = COALESCE((ending->>'output_tokens')::bigint, 0),
        cached_input_tokens = COALESCE((ending->>'cached_input_tokens')::bigint, 0),
        cache_write_tokens = COALESCE((ending->>'cache_write_tokens')::bigint, 0),
        reasoning_tokens = COALESCE((ending->>'reasoning_tokens')::bigint, 0),
        ended_at = clock_timestamp(),
        day = CASE how WHEN 'release' THEN NULL ELSE ledger_day(w, settings) END
    WHERE id = was.id AND status = was.status RETURNING * INTO e;
    RETURN e;
END $$;

-- ledger_reserve in the slot of this session; NULL where that isn't simply possible, with nothing that the caller can't
-- take back.
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
    -- Not where it is gathered (the window may have been closed meanwhile), used up, or granted under another limit than ours.
    UPDATE budget_slot b SET reserved = b.reserved + bound
    WHERE b.window_id = w.id AND b.slot = 1 + pg_backend_pid() % (settings->>'slots')::integer AND b.granted > 0
      AND b.spent + b.reserved + bound <= b.granted
      AND b.ceiling = (settings->>'limit')::numeric * (settings->>'alert')::numeric
    RETURNING * INTO s;
    IF s.slot IS NULL THEN RETURN NULL; END IF;
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
    RETURN jsonb_build_object(
        'candidate', choice.place, 'probing', false, 'cooling', choice.cooling, 'budget', ledger_open_json(w, settings),
        'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
END $$;

-- ledger_end in the slot that holds the reservation; NULL where that isn't simply possible, with nothing that the caller
-- can't take back. was: the entry, read without a lock.
DROP FUNCTION ledger_end_in_slot(jsonb);
CREATE FUNCTION ledger_end_in_slot(p jsonb, was ledger) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    s budget_slot;
    e ledger;
    kw budget_window;
    crossings jsonb;
    cooled timestamptz;
    costs numeric := CASE p->'ending'->>'how' WHEN 'actual' THEN (p->'ending'->>'cost')::numeric WHEN 'bound' THEN was.bound END;
BEGIN
    IF was.status <> 'reserved' OR costs > was.bound THEN RETURN NULL; END IF;
    UPDATE budget_slot b SET
        spent = b.spent + COALESCE(costs, 0), reserved = b.reserved - was.bound,
        request_count = b.request_count + (costs IS NOT NULL)::int
    WHERE b.window_id = was.window_id AND b.slot = was.slot AND b.epoch = was.slot_epoch AND b.granted > 0
      AND b.reserved >= was.bound
    RETURNING * INTO s;
    IF s.slot IS NULL THEN RETURN NULL; END IF;
    SELECT * INTO w FROM budget_window WHERE id = was.window_id;
    -- Nobody else ends it while its slot is locked; somebody may have while we waited for that.
    e := ledger_end_row(was, p->'ending', w, settings);
    IF e.id IS NULL THEN RETURN NULL; END IF;
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1, s.slot); END IF;
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

-- Ends an attempt for good: in the slot that holds it, or under its window's lock. p: {settings, ending, health?}
CREATE OR REPLACE FUNCTION ledger_end(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    told jsonb;
    was ledger;
BEGIN
    SELECT * INTO was FROM ledger WHERE id = (p->'ending'->>'id')::uuid;
    IF was.slot IS NOT NULL THEN
        BEGIN
            told := ledger_end_in_slot(p, was);
            IF told IS NULL THEN RAISE SQLSTATE 'FW001'; END IF;
            RETURN told;
        EXCEPTION WHEN SQLSTATE 'FW001' THEN NULL;
        END;
    END IF;
    RETURN ledger_end_on_row(p);
END $$;
