-- How calls avoid the one hot row. While the company's budget is CLOSED, parts of its headroom are allocated to slots,
-- and a call that fits a slot's part locks that slot alone. It takes one that nobody holds just now, so it is of no
-- matter how sessions and callers belong together: under transaction pooling, many callers share a session.
-- There is none of this while one row is enough. How many slots there are follows from how often reservations wait for
-- each other: 1 to 16. AI_LEDGER_SLOTS, where it is set, is the number instead.
-- The limit stays as hard: what is allocated, spent and reserved together stays below the alert threshold, so no
-- threshold can be crossed in a slot. What doesn't fit locks the window, reclaims the slots and is decided there. So
-- nothing is refused before every slot was reclaimed. A settlement knows by the epoch whether its reservation still is
-- in the slot. Other busy budgets have slots of their own beside these (spread.sql).

-- The alert threshold in USD. A slot that was allocated under another one serves nobody.
CREATE OR REPLACE FUNCTION ledger_alert_of(limit_usd numeric, settings jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT limit_usd * (settings->>'alert')::numeric
$$;

-- The same under the setting, for functions of the release before that are under way.
CREATE OR REPLACE FUNCTION ledger_alert_usd(settings jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT (settings->>'limit')::numeric * (settings->>'alert')::numeric
$$;

-- Takes back what the slots of a locked window hold.
CREATE OR REPLACE FUNCTION ledger_reclaim_slots(INOUT w budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    held record;
BEGIN
    PERFORM 1 FROM budget_slot s WHERE s.window_id = w.id AND s.allocated > 0 ORDER BY s.slot FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    PERFORM spread_reclaim(w.id);
    SELECT sum(s.spent) AS spent, sum(s.reserved) AS reserved, sum(s.request_count) AS calls,
           bool_or(ledger_slot_is_crowded(s)) AS crowded
    INTO held FROM budget_slot s WHERE s.window_id = w.id;
    UPDATE budget_slot s SET allocated = 0, spent = 0, reserved = 0, request_count = 0, lock_waits = 0, epoch = epoch + 1
    WHERE s.window_id = w.id AND s.allocated > 0;
    UPDATE budget_window b SET spent = b.spent + held.spent, reserved = b.reserved + held.reserved,
                               request_count = b.request_count + held.calls,
                               lock_waits = CASE WHEN held.crowded THEN 10 ELSE b.lock_waits END
    WHERE b.id = w.id RETURNING * INTO w;
END $$;

-- Whether so many reservations waited for a slot that there are too few: more than an eighth of its calls, and 8.
CREATE OR REPLACE FUNCTION ledger_slot_is_crowded(s budget_slot) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT s.lock_waits >= 8 AND s.lock_waits * 8 > s.request_count
$$;

-- A locked window after a reservation has waited for its turn, or hasn't: the number of slots doubles, up to 16, when
-- half of the last reservations had to wait, and is halved once a minute when next to none has. The caller writes it.
CREATE OR REPLACE FUNCTION ledger_follow_load(INOUT w budget_window, waited boolean)
LANGUAGE plpgsql AS $$
BEGIN
    w.lock_waits := round(w.lock_waits * 0.9 + waited::int, 2);
    IF w.lock_waits > 5 AND w.slots < 16 THEN
        w.slots := w.slots * 2; w.lock_waits := 0; w.slots_changed_at := clock_timestamp();
    ELSIF w.slots > 1 AND w.lock_waits < 0.5 AND w.slots_changed_at < clock_timestamp() - interval '1 minute' THEN
        w.slots := w.slots / 2; w.slots_changed_at := clock_timestamp();
    END IF;
END $$;

-- Over how many rows the room is to be spread: the setting, or what the load has made of it.
CREATE OR REPLACE FUNCTION ledger_slots(settings jsonb) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF settings->>'slots' IS NOT NULL THEN RETURN settings->>'slots'; END IF;
    RETURN (SELECT b.slots FROM budget_window b WHERE b.budget = 'global' AND b.closed_at IS NULL);
END $$;

-- Allocates the room below the alert threshold to the slots of a locked window, which were reclaimed, in equal parts, and
-- that of busy budgets below it to theirs.
-- It does nothing when a part would be too small: it must have room for a few calls like this one.
CREATE OR REPLACE FUNCTION ledger_allocate_slots(settings jsonb, bound numeric) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    slots integer;
    top numeric;
    w budget_window;
    part numeric;
BEGIN
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    slots := COALESCE((settings->>'slots')::integer, w.slots);
    top := ledger_alert_of(ledger_limit_in_force(w.limit_usd, settings), settings);
    -- Below the threshold, not at it: spending the last of it must cross nothing.
    part := trunc((top - w.spent - w.reserved) * 0.999 / slots, 12);
    IF part <= 8 * bound OR part <= 0 THEN RETURN; END IF;
    INSERT INTO budget_slot AS s (window_id, slot, ceiling, allocated, allocated_at)
    SELECT w.id, n, top, part, clock_timestamp() FROM generate_series(1, slots) n
    ON CONFLICT (window_id, slot) DO UPDATE
    SET ceiling = top, allocated = part, allocated_at = EXCLUDED.allocated_at;
    PERFORM spread_allocate(settings, bound, slots);
END $$;

-- As ledger_reserve, in a slot. Returns NULL where that isn't simply possible; what it has done by
-- then, the caller takes back.
CREATE OR REPLACE FUNCTION ledger_reserve_in_slot(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    own_slot integer := pg_backend_pid() % 64; -- where this session looks first, so that it mostly meets nobody
    w budget_window;
    s budget_slot;
    k api_key;
    kw budget_window;
    path jsonb;
    path_windows budget_window[];
    slotted bigint[];
    ample boolean := true; -- as far as the key and its path are concerned
    step record;
    choice record;
    bound numeric;
    alert numeric;
    slots integer;
    has_fit boolean;
BEGIN
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    IF w.id IS NULL OR w.resets_at <= clock_timestamp() THEN RETURN NULL; END IF;
    choice := ledger_choose(p->'candidates', entry->>'operation');
    bound := (choice.chosen->>'bound')::numeric;
    IF choice.chosen IS NULL OR choice.probing OR vendor_refusal_of(entry, choice.chosen) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    alert := ledger_alert_of(ledger_limit_in_force(w.limit_usd, settings), settings);
    -- Not in a slot that was reclaimed (the window may have been closed meanwhile), that is used up, or that was
    -- allocated under another limit than ours.
    UPDATE budget_slot b SET reserved = b.reserved + bound
    WHERE b.window_id = w.id AND b.slot = (
        SELECT f.slot FROM budget_slot f
        WHERE f.window_id = w.id AND f.allocated > 0 AND f.spent + f.reserved + bound <= f.allocated AND f.ceiling = alert
        ORDER BY (f.slot - 1) # own_slot LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING * INTO s;
    IF s.slot IS NULL THEN
        -- All of them are taken: it waits for the one that it would have had.
        UPDATE budget_slot b SET reserved = b.reserved + bound, lock_waits = b.lock_waits + 1
        WHERE b.window_id = w.id AND b.allocated > 0 AND b.spent + b.reserved + bound <= b.allocated AND b.ceiling = alert
          AND b.slot = (
            SELECT f.slot FROM budget_slot f
            WHERE f.window_id = w.id AND f.allocated > 0 AND f.spent + f.reserved + bound <= f.allocated
            ORDER BY (f.slot - 1) # own_slot LIMIT 1)
        RETURNING * INTO s;
    END IF;
    IF s.slot IS NULL OR price_is_stale(p) THEN RETURN NULL; END IF;
    -- Where calls wait, a slot's part isn't for those who come later. After the slot's lock: who draws a ticket has
    -- reclaimed every slot, so one that was drawn before this slot's allocation is seen here.
    IF bound > 0 AND EXISTS (SELECT FROM admission_wait t WHERE t.alive_until > clock_timestamp()) THEN
        RETURN NULL;
    END IF;
    IF settings->>'slots' IS NULL AND w.slots < 16 AND ledger_slot_is_crowded(s) THEN RETURN NULL; END IF;
    -- A cap is fitted under the window's lock alone. All slots together have about this one's room.
    slots := COALESCE((settings->>'slots')::integer, w.slots);
    has_fit := choice.chosen ? 'fit' AND bound > 0;
    IF has_fit AND bound * 10 >= (s.allocated - s.spent - s.reserved + bound) * slots THEN RETURN NULL; END IF;
    -- After the slot's lock: whoever raises an allowance takes every slot first.
    IF input_allowance_refusal(choice.chosen) IS NOT NULL THEN RETURN NULL; END IF;
    IF entry->>'key_id' IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE budget = entry->>'key_id' AND closed_at IS NULL;
        IF kw.id IS NOT NULL THEN
            step := spread_take(kw, s, bound, has_fit, slots);
            IF NOT step.serves THEN RETURN NULL; END IF;
            kw := step.b;
        END IF;
        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id'; -- after it: the lock may have been waited for
    END IF;
    IF k.id IS NOT NULL THEN
        IF kw.id IS NULL OR kw.resets_at <= clock_timestamp() OR NOT key_is_active(k) THEN RETURN NULL; END IF;
        IF (step.taken).slot IS NOT NULL THEN
            IF (step.taken).ceiling <> spread_ceiling(k.limit_usd, settings) OR spread_counts_by_minute(k) THEN
                RETURN NULL;
            END IF;
            slotted := ARRAY[kw.id];
            ample := (step.taken).spent + 2 * (step.taken).reserved < (step.taken).allocated;
        ELSIF kw.state <> ledger_state(kw.spent, k.limit_usd, settings) OR (p ? 'downgrade' AND kw.state = 'HALF_OPEN')
              OR (has_fit AND bound * 10 >= k.limit_usd - kw.spent - kw.reserved) THEN
            RETURN NULL;
        ELSE
            ample := (kw.spent + 2 * (kw.reserved + bound) < k.limit_usd * (settings->>'alert')::numeric) IS NOT FALSE;
        END IF;
        IF ledger_rate_window_ends_in(kw.rate_window_started_at) <= 0 THEN kw := ledger_begin_rate_window(kw); END IF;
        IF key_has_path(k) THEN
            IF ledger_lacks_user(k, entry) THEN RETURN NULL; END IF;
            path := ledger_path(k, entry, entry->>'tier', choice.chosen, settings);
            step := spread_take_path(path, s, bound, has_fit, slots);
            path_windows := step.windows;
            IF NOT step.serves OR (p ? 'downgrade' AND ledger_path_has_state(path_windows, 'HALF_OPEN')) THEN
                RETURN NULL;
            END IF;
            slotted := slotted || step.slotted;
            ample := ample AND step.ample;
            IF has_fit AND bound * 10 >= ledger_path_room(path, spread_rows(path_windows, slotted)) THEN
                RETURN NULL;
            END IF;
        END IF;
        -- It is known already that the call fits the company's budget.
        IF ledger_refusal(NULL, CASE WHEN (kw.id = ANY (slotted)) IS NOT TRUE THEN kw END, k, settings, choice.chosen, true,
                          path, spread_rows(path_windows, slotted)) IS NOT NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    kw := ledger_insert_reservation(
        entry, entry->>'tier', choice.chosen, w.id, kw, path_windows, s.slot, s.epoch, settings, true,
        -- The window's expired reservations may be looked for as we are at work: what the search has passed must not
        -- expire before its end.
        w.expired_until + interval '1 minute', slotted);
    RETURN jsonb_build_object(
        'candidate', choice.place, 'probing', false, 'cooling', choice.cooling, 'budget', ledger_open_json(w, settings),
        'ample', k.tokens_per_minute IS NULL AND s.spent + 2 * s.reserved < s.allocated AND ample,
        'key', ledger_budget_of_key_json(k, CASE WHEN slotted IS NULL THEN kw ELSE spread_whole(kw) END, settings));
END $$;

-- As ledger_settle, in the slot that holds the reservation. Returns NULL where that isn't simply possible; what it has
-- done by then, the caller takes back. was: the entry, read without a lock.
CREATE OR REPLACE FUNCTION ledger_settle_in_slot(p jsonb, was ledger) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    s budget_slot;
    e ledger;
    kw budget_window;
    threshold_events jsonb;
    in_rows bigint[];
    cooldown_until timestamptz;
    cost numeric := ledger_cost(p->'settlement', was.bound);
BEGIN
    IF was.status <> 'reserved' OR cost > was.bound OR p->'settlement' ? 'allowance'
       OR (was.slotted_window_ids IS NOT NULL AND spread_is_outdated(was, settings)) THEN
        RETURN NULL;
    END IF;
    UPDATE budget_slot b SET
        spent = b.spent + COALESCE(cost, 0), reserved = b.reserved - was.bound,
        request_count = b.request_count + (cost IS NOT NULL)::int
    WHERE b.window_id = was.window_id AND b.slot = was.slot AND b.epoch = was.slot_epoch AND b.allocated > 0
      AND b.reserved >= was.bound
    RETURNING * INTO s;
    IF s.slot IS NULL THEN RETURN NULL; END IF;
    SELECT * INTO w FROM budget_window WHERE id = was.window_id;
    -- Nobody else ends the entry while its slot is locked. Somebody may have ended it while we waited for the lock.
    e := ledger_settle_row(was, p->'settlement', w, settings);
    IF e.id IS NULL THEN RETURN NULL; END IF;
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1, s.slot); END IF;
    IF e.key_window_id = ANY (e.slotted_window_ids) THEN
        SELECT * INTO kw FROM budget_window WHERE id = e.key_window_id;
    ELSIF e.key_window_id IS NOT NULL THEN
        step := ledger_book_key(
            e.key_window_id, settings, COALESCE(e.cost, 0), e.bound, (e.status = 'settled')::int,
            ledger_spare_tokens(e), e.reserved_at, NULL, e.id);
        kw := step.kw; threshold_events := step.threshold_events;
    END IF;
    PERFORM spread_book(e, s.slot, COALESCE(e.cost, 0), e.bound, (e.status = 'settled')::int);
    IF e.path_window_ids IS NOT NULL THEN
        in_rows := ARRAY(SELECT i FROM unnest(e.path_window_ids) i WHERE (i = ANY (e.slotted_window_ids)) IS NOT TRUE);
        PERFORM 1 FROM budget_window b WHERE b.id = ANY (in_rows) ORDER BY b.id FOR NO KEY UPDATE;
        threshold_events := ledger_book_path(in_rows, settings, COALESCE(e.cost, 0), e.bound,
                                             (e.status = 'settled')::int, threshold_events, e.id);
    END IF;
    PERFORM output_size_record(ARRAY[e], ARRAY[p->'settlement'], s.slot);
    PERFORM vendor_refusal_record(e, p->'settlement');
    IF p ? 'health_update' THEN cooldown_until := provider_health_record(p->'health_update', e.reserved_at); END IF;
    PERFORM admission_wake_after(e, settings);
    RETURN ledger_settled_json(e, w, kw, threshold_events, cooldown_until, settings);
END $$;
