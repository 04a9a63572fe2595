-- Past the one hot row: while the company's budget is CLOSED, parts of its headroom are granted to slots, and a call that
-- fits its slot's part locks that slot alone (AI_LEDGER_SLOTS; one: none of this). The cap stays as hard: what is granted,
-- spent and reserved together stays below the alert threshold, so no crossing can happen in a slot, and whatever doesn't
-- fit locks the window, gathers the slots back into it and is decided there as ever. So nothing is refused before every
-- slot was gathered.
--
-- A window's spent and reserved are its row's and its slots' together; a gathered slot holds nothing. Settlements know
-- by the epoch whether their reservation still is in the slot. Lock order: windows, slots by number, keys' windows, ...

CREATE TABLE budget_slot (
    window_id     bigint   NOT NULL REFERENCES budget_window,
    slot          smallint NOT NULL CHECK (slot >= 1),
    epoch         bigint   NOT NULL DEFAULT 1, -- counts its gatherings
    ceiling       numeric  NOT NULL, -- the alert threshold in USD that it was granted under
    granted       numeric  NOT NULL CHECK (granted >= 0), -- 0: gathered
    spent         numeric  NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved      numeric  NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    request_count bigint   NOT NULL DEFAULT 0,
    CHECK (spent + reserved <= granted),
    PRIMARY KEY (window_id, slot)
) WITH (fillfactor = 50);

ALTER TABLE ledger ADD COLUMN slot smallint, ADD COLUMN slot_epoch bigint;

-- The rollups' rows are as hot as the window's: each slot has rows of its own. 0: booked under the window's lock.
ALTER TABLE usage_rollup ADD COLUMN slot smallint NOT NULL DEFAULT 0;
ALTER TABLE usage_rollup DROP CONSTRAINT usage_rollup_pkey;
ALTER TABLE usage_rollup ADD PRIMARY KEY (window_id, day, provider, model, tier, key_id, slot);

DROP FUNCTION ledger_roll_up(ledger, integer);

-- Adds to the rollup row of an entry: +1 when it is booked, -1 when a booking is taken back.
CREATE FUNCTION ledger_roll_up(e ledger, sign integer, in_slot smallint DEFAULT 0::smallint) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO usage_rollup AS r
        (window_id, day, provider, model, tier, key_id, slot, cost, requests, input_tokens, output_tokens)
    VALUES (e.window_id, e.day, e.provider, e.model, COALESCE(e.tier, ''), COALESCE(e.key_id, ''), in_slot,
            sign * e.cost, sign, sign * e.input_tokens, sign * e.output_tokens)
    ON CONFLICT (window_id, day, provider, model, tier, key_id, slot) DO UPDATE SET
        cost = r.cost + EXCLUDED.cost, requests = r.requests + EXCLUDED.requests,
        input_tokens = r.input_tokens + EXCLUDED.input_tokens, output_tokens = r.output_tokens + EXCLUDED.output_tokens
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

-- Ends an entry's own row; its sums are the caller's to book.
CREATE FUNCTION ledger_end_row(was ledger, ending jsonb, w budget_window, settings jsonb) RETURNS ledger
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
    WHERE id = was.id RETURNING * INTO e;
    RETURN e;
END $$;

-- What an ended entry's bound took of its key's minute beyond what it really was, as a negative number; at its bound it
-- took what was reserved.
CREATE FUNCTION ledger_spare_tokens(e ledger) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN e.status = 'released' THEN 0 WHEN e.cost_basis = 'actual' THEN e.input_tokens + e.output_tokens
           ELSE e.tokens_bound END - e.tokens_bound
$$;

-- A budget's open window, locked, with all that it holds in its own row. Opens one at the first use; closes one whose month has ended (then "turned" tells it).
CREATE OR REPLACE FUNCTION ledger_lock_window(name text, settings jsonb, INOUT turned jsonb, OUT w budget_window)
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

-- The same for every window of the company, the oldest first; the budget API and the reset call it before they lock the
-- open one. A reservation lives a day at most (AI_RESERVATION_TTL_SECONDS), so a window that was swept a day after its
-- end is done. All are locked before the first is swept, the open one too, though a reset may open it while an older one
-- is waited for: sweeping locks keys' windows, which come after them.
CREATE OR REPLACE FUNCTION ledger_expire_all(settings jsonb, INOUT expired jsonb, INOUT crossings jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    stale bigint[];
    each_id bigint;
    w budget_window;
BEGIN
    LOOP
        SELECT COALESCE(array_agg(l.id), '{}') INTO stale FROM (
            SELECT id FROM budget_window
            WHERE budget = 'global' AND (closed_at IS NULL OR swept_until <= closed_at + interval '1 day')
            ORDER BY id FOR NO KEY UPDATE) l;
        EXIT WHEN NOT EXISTS (
            SELECT FROM budget_window WHERE budget = 'global' AND closed_at IS NULL AND id <> ALL (stale));
    END LOOP;
    FOREACH each_id IN ARRAY stale LOOP
        SELECT * INTO w FROM budget_window WHERE id = each_id;
        w := ledger_gather(w);
        SELECT * INTO step FROM ledger_expire(w, settings, expired, crossings);
        w := step.w; expired := step.expired; crossings := step.crossings;
        IF w.closed_at IS NULL THEN
            SELECT * INTO step FROM ledger_record_state(w, ledger_cap('global', settings), settings, crossings);
            w := step.w; crossings := step.crossings;
        END IF;
    END LOOP;
END $$;

-- Ends one reservation, exactly once: settled at cost, settled at its bound, or released.
-- ending: {id, how: actual|bound|release, cost, outcome, input_tokens, ...}. Only an expired entry may be corrected
-- afterwards, by the caller who knows better; anything else that has ended stays as it is: then "repeated" is true, and
-- the crossings are those of its first end.
CREATE OR REPLACE FUNCTION ledger_end_entry(ending jsonb, settings jsonb, OUT w budget_window, OUT kw budget_window, OUT e ledger,
                                 OUT crossings jsonb, OUT repeated boolean)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    was ledger;
    frees numeric;
    spends numeric;
    calls integer;
BEGIN
    repeated := false;
    SELECT * INTO was FROM ledger WHERE id = (ending->>'id')::uuid;
    IF NOT FOUND THEN RETURN; END IF; -- another database than the one it was reserved in; the caller is told: status null
    SELECT * INTO w FROM budget_window WHERE id = was.window_id FOR NO KEY UPDATE;
    -- Whatever ends at no more than its bound leaves the room that was granted to slots as it is.
    IF (ending->>'cost')::numeric > was.bound OR EXISTS (
        SELECT FROM budget_slot s WHERE s.window_id = w.id AND s.granted > 0
        AND s.ceiling <> (settings->>'limit')::numeric * (settings->>'alert')::numeric
    ) THEN
        w := ledger_gather(w);
    END IF;
    IF was.key_window_id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE id = was.key_window_id FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE; -- again: the lock may have been waited for
    IF was.status <> 'reserved' AND was.outcome IS DISTINCT FROM 'expired' THEN
        SELECT jsonb_agg(jsonb_build_object(
            'state', c.state, 'window_id', c.window_id, 'budget', b.budget, 'spent', c.spent, 'limit', c.limit_usd)
            ORDER BY c.window_id, c.state)
        INTO crossings FROM budget_crossing c JOIN budget_window b ON b.id = c.window_id
        WHERE c.window_id IN (w.id, kw.id) AND c.entry_id = was.id;
        e := was;
        repeated := true;
        RETURN;
    END IF;
    e := ledger_end_row(was, ending, w, settings);
    IF was.status = 'settled' THEN PERFORM ledger_roll_up(was, -1); END IF;
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1); END IF;
    spends := COALESCE(e.cost, 0) - COALESCE(was.cost, 0);
    frees := CASE was.status WHEN 'reserved' THEN was.bound ELSE 0 END;
    calls := (e.status = 'settled')::int - (was.status = 'settled')::int;
    UPDATE budget_window SET spent = spent + spends, reserved = reserved - frees, request_count = request_count + calls
    WHERE id = w.id RETURNING * INTO w;
    IF w.closed_at IS NULL THEN
        SELECT * INTO step FROM ledger_record_state(w, ledger_cap('global', settings), settings, crossings, e.id);
        w := step.w; crossings := step.crossings;
    END IF;
    IF kw.id IS NOT NULL THEN
        SELECT * INTO step FROM ledger_book_key(kw.id, settings, spends, frees, calls, ledger_spare_tokens(e), e.reserved_at,
                                            crossings, e.id);
        kw := step.kw; crossings := step.crossings;
    END IF;
END $$;

-- The company's budget with the slots' parts, as it stands without a lock.
CREATE FUNCTION ledger_open_json(w budget_window, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT w.spent + COALESCE(sum(s.spent), 0), w.reserved + COALESCE(sum(s.reserved), 0),
           w.request_count + COALESCE(sum(s.request_count), 0)
    INTO w.spent, w.reserved, w.request_count FROM budget_slot s WHERE s.window_id = w.id;
    RETURN ledger_budget_json(w, (settings->>'limit')::numeric, settings);
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

ALTER FUNCTION ledger_reserve(jsonb) RENAME TO ledger_reserve_on_row;
DROP FUNCTION ledger_end(jsonb);

-- Ends an attempt for good, under its window's lock. p: {settings, ending, health}
CREATE FUNCTION ledger_end_on_row(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    e ledger;
    crossings jsonb;
    cooled timestamptz;
BEGIN
    SELECT * INTO step FROM ledger_end_entry(p->'ending', settings);
    w := step.w; e := step.e;
    IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;
    IF p ? 'health' AND NOT step.repeated THEN cooled := ledger_note_health(p->'health', e.reserved_at); END IF;
    IF e.id IS NULL THEN
        RETURN jsonb_build_object('status', NULL, 'cooldown_until', cooled);
    END IF;
    RETURN jsonb_build_object(
        'status', e.status, 'cost', e.cost, 'cost_basis', e.cost_basis, 'crossings', crossings,
        'cooldown_until', cooled, 'budget', ledger_open_json(w, settings),
        'key', CASE WHEN e.key_window_id IS NOT NULL THEN ledger_key_json(step.kw, settings) END);
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
