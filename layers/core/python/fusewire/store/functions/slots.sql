-- How calls avoid the one hot row. While the company's budget is CLOSED, parts of its headroom are allocated to slots,
-- and a call that fits its slot's part locks that slot alone (AI_LEDGER_SLOTS; with one slot there is none of this).
-- The limit stays as hard: what is allocated, spent and reserved together stays below the alert threshold, so no
-- threshold can be crossed in a slot. What doesn't fit locks the window, reclaims the slots and is decided there. So
-- nothing is refused before every slot was reclaimed. A settlement knows by the epoch whether its reservation still is
-- in the slot.

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
    SELECT sum(s.spent) AS spent, sum(s.reserved) AS reserved, sum(s.request_count) AS calls INTO held
    FROM budget_slot s WHERE s.window_id = w.id;
    UPDATE budget_slot s SET allocated = 0, spent = 0, reserved = 0, request_count = 0, epoch = epoch + 1
    WHERE s.window_id = w.id AND s.allocated > 0;
    UPDATE budget_window b SET spent = b.spent + held.spent, reserved = b.reserved + held.reserved,
                               request_count = b.request_count + held.calls
    WHERE b.id = w.id RETURNING * INTO w;
END $$;

-- Allocates the room below the alert threshold to the slots of a locked window, which were reclaimed, in equal parts.
-- It does nothing when a part would be too small: it must have room for a few calls like this one.
CREATE OR REPLACE FUNCTION ledger_allocate_slots(settings jsonb, bound numeric) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    slots integer := (settings->>'slots')::integer;
    top numeric;
    w budget_window;
    part numeric;
BEGIN
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    top := ledger_alert_of(ledger_limit_in_force(w.limit_usd, settings), settings);
    -- Below the threshold, not at it: spending the last of it must cross nothing.
    part := trunc((top - w.spent - w.reserved) * 0.999 / slots, 12);
    IF part <= 8 * bound OR part <= 0 THEN RETURN; END IF;
    INSERT INTO budget_slot AS s (window_id, slot, ceiling, allocated)
    SELECT w.id, n, top, part FROM generate_series(1, slots) n
    ON CONFLICT (window_id, slot) DO UPDATE SET ceiling = top, allocated = part;
END $$;

-- As ledger_reserve, in the slot of this session. Returns NULL where that isn't simply possible; what it has done by
-- then, the caller takes back.
CREATE OR REPLACE FUNCTION ledger_reserve_in_slot(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    w budget_window;
    s budget_slot;
    k api_key;
    kw budget_window;
    path jsonb;
    path_windows budget_window[];
    choice record;
    bound numeric;
BEGIN
    SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;
    IF w.id IS NULL OR w.resets_at <= clock_timestamp() THEN RETURN NULL; END IF;
    choice := ledger_choose(p->'candidates', entry->>'operation');
    bound := (choice.chosen->>'bound')::numeric;
    -- Where calls wait, a slot's part isn't for those who come later.
    IF choice.chosen IS NULL OR choice.probing OR vendor_refusal_of(entry, choice.chosen) IS NOT NULL
       OR (bound > 0 AND EXISTS (SELECT FROM admission_wait)) THEN
        RETURN NULL;
    END IF;
    -- Not in a slot that was reclaimed (the window may have been closed meanwhile), that is used up, or that was
    -- allocated under another limit than ours.
    UPDATE budget_slot b SET reserved = b.reserved + bound
    WHERE b.window_id = w.id AND b.slot = 1 + pg_backend_pid() % (settings->>'slots')::integer AND b.allocated > 0
      AND b.spent + b.reserved + bound <= b.allocated
      AND b.ceiling = ledger_alert_of(ledger_limit_in_force(w.limit_usd, settings), settings)
    RETURNING * INTO s;
    IF s.slot IS NULL OR price_is_stale(p) THEN RETURN NULL; END IF;
    -- A cap is fitted under the window's lock alone. All slots together have about this one's room.
    IF choice.chosen ? 'fit' AND bound > 0
       AND bound * 10 >= (s.allocated - s.spent - s.reserved + bound) * (settings->>'slots')::integer THEN
        RETURN NULL;
    END IF;
    -- After the slot's lock: whoever raises an allowance takes every slot first.
    IF input_allowance_refusal(choice.chosen) IS NOT NULL THEN RETURN NULL; END IF;
    IF entry->>'key_id' IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE budget = entry->>'key_id' AND closed_at IS NULL FOR NO KEY UPDATE;
        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id'; -- after it: the lock may have been waited for
    END IF;
    IF k.id IS NOT NULL THEN
        IF kw.id IS NULL OR kw.resets_at <= clock_timestamp() OR NOT key_is_active(k)
           OR kw.state <> ledger_state(kw.spent, k.limit_usd, settings)
           OR (p ? 'downgrade' AND kw.state = 'HALF_OPEN') THEN
            RETURN NULL;
        END IF;
        IF ledger_rate_window_ends_in(kw.rate_window_started_at) <= 0 THEN kw := ledger_begin_rate_window(kw); END IF;
        IF key_has_path(k) THEN
            IF ledger_lacks_user(k, entry) THEN RETURN NULL; END IF;
            path := ledger_path(k, entry, entry->>'tier', choice.chosen, settings);
            path_windows := ledger_lock_open_path(path);
            IF NOT ledger_path_is_settled(path, path_windows)
               OR (p ? 'downgrade' AND ledger_path_has_state(path_windows, 'HALF_OPEN')) THEN
                RETURN NULL;
            END IF;
        END IF;
        IF choice.chosen ? 'fit' AND bound > 0
           AND bound * 10 >= least(k.limit_usd - kw.spent - kw.reserved, ledger_path_room(path, path_windows)) THEN
            RETURN NULL;
        END IF;
        -- It is known already that the call fits the company's budget.
        IF ledger_refusal(NULL, kw, k, settings, choice.chosen, true, path, path_windows) IS NOT NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    kw := ledger_insert_reservation(
        entry, entry->>'tier', choice.chosen, w.id, kw, path_windows, s.slot, s.epoch, settings, true,
        -- The window's expired reservations may be looked for as we are at work: what the search has passed must not
        -- expire before its end.
        w.expired_until + interval '1 minute');
    RETURN jsonb_build_object(
        'candidate', choice.place, 'probing', false, 'cooling', choice.cooling, 'budget', ledger_open_json(w, settings),
        'ample', k.tokens_per_minute IS NULL AND s.spent + 2 * s.reserved < s.allocated
            AND (kw.spent + 2 * kw.reserved < k.limit_usd * (settings->>'alert')::numeric) IS NOT FALSE
            AND (path IS NULL OR ledger_path_is_ample(path, path_windows, bound)),
        'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
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
    cooldown_until timestamptz;
    cost numeric := ledger_cost(p->'settlement', was.bound);
BEGIN
    IF was.status <> 'reserved' OR cost > was.bound OR p->'settlement' ? 'allowance' THEN RETURN NULL; END IF;
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
    IF e.key_window_id IS NOT NULL THEN
        step := ledger_book_key(
            e.key_window_id, settings, COALESCE(e.cost, 0), e.bound, (e.status = 'settled')::int,
            ledger_spare_tokens(e), e.reserved_at, NULL, e.id);
        kw := step.kw; threshold_events := step.threshold_events;
    END IF;
    IF e.path_window_ids IS NOT NULL THEN
        PERFORM ledger_lock_stored_path(e);
        threshold_events := ledger_book_path(e.path_window_ids, settings, COALESCE(e.cost, 0), e.bound,
                                             (e.status = 'settled')::int, threshold_events, e.id);
    END IF;
    PERFORM output_size_record(e, p->'settlement', s.slot);
    PERFORM vendor_refusal_record(e, p->'settlement');
    IF p ? 'health_update' THEN cooldown_until := provider_health_record(p->'health_update', e.reserved_at); END IF;
    PERFORM admission_wake_after(e, settings);
    RETURN ledger_settled_json(e, w, kw, threshold_events, cooldown_until, settings);
END $$;
