-- How calls avoid the hot row of a busy key, node or user, as slots.sql does for the company's. While the company's room
-- is in slots, such a budget's is too, in as many: a call that has taken a slot of the company's takes the same one of
-- each busy budget on its way, and locks the row of every other budget.
-- All of them are allocated and reclaimed together with the company's, under its row. So who has locked a slot of the
-- company's knows that the others of this number stay as they are, and needs no lock to look whether there are any; and
-- an entry that is in its slot still, by that slot's epoch, is in those that slotted_window_ids names.
-- Here too, what is allocated, spent and reserved together stays below the alert threshold of each budget. A budget
-- becomes busy when half of the last ten reservations or so have waited for its row, and stays so until its window ends.
-- A key with a limit of requests or tokens a minute is counted in its row.

-- The alert threshold of a budget in USD; infinite where it has no limit. limit_usd, thresholds: as they are now
CREATE OR REPLACE FUNCTION spread_ceiling(limit_usd numeric, thresholds jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT COALESCE(ledger_alert_of(limit_usd, thresholds), 'Infinity')
$$;

-- Whether a key's calls are counted by the minute, in its row.
CREATE OR REPLACE FUNCTION spread_counts_by_minute(k api_key) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT k.requests_per_minute IS NOT NULL OR k.tokens_per_minute IS NOT NULL
$$;

-- A locked window after a reservation has waited for its row, or hasn't. The caller writes it.
CREATE OR REPLACE FUNCTION spread_follow_load(INOUT b budget_window, waited boolean)
LANGUAGE plpgsql AS $$
BEGIN
    b.lock_waits := round(b.lock_waits * 0.9 + waited::int, 2);
    IF b.lock_waits > 5 AND b.slots = 1 THEN
        b.slots := 2; b.lock_waits := 0; b.slots_changed_at := clock_timestamp();
    END IF;
END $$;

-- Takes a call's bound from a budget, in the call's slot of it or in its row, which is locked then and left for the
-- caller to change. company_slot: which the caller has locked. has_fit: whether the candidate may have a smaller
-- cap. "taken" is NULL where the row is what counts; "serves" is false where this isn't for a slot of the company's.
CREATE OR REPLACE FUNCTION spread_take(INOUT b budget_window, company_slot budget_slot, bound numeric, has_fit boolean,
                                       company_slots integer, OUT taken budget_slot, OUT serves boolean)
LANGUAGE plpgsql AS $$
DECLARE
    of_window bigint := b.id;
    waited boolean := false;
BEGIN
    IF b.slots > 1 THEN
        SELECT * INTO taken FROM budget_slot s
        WHERE s.window_id = of_window AND s.slot = company_slot.slot AND s.allocated > 0;
    END IF;
    IF taken.slot IS NOT NULL THEN
        serves := taken.spent + taken.reserved + bound <= taken.allocated
            -- As for the company: a cap is fitted under the rows alone.
            AND NOT (has_fit AND bound > 0
                     AND bound * 10 >= (taken.allocated - taken.spent - taken.reserved) * company_slots);
        IF serves THEN
            UPDATE budget_slot s SET reserved = s.reserved + bound
            WHERE s.window_id = of_window AND s.slot = taken.slot RETURNING * INTO taken;
        END IF;
        RETURN;
    END IF;
    SELECT * INTO b FROM budget_window o WHERE o.id = of_window AND o.closed_at IS NULL FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        waited := true;
        SELECT * INTO b FROM budget_window o WHERE o.id = of_window AND o.closed_at IS NULL FOR NO KEY UPDATE;
    END IF;
    -- Not since it has become busy: it is spread by the next allocation.
    serves := b.id IS NOT NULL AND (b.slots > 1 AND b.slots_changed_at > company_slot.allocated_at) IS NOT TRUE;
    IF serves THEN b := spread_follow_load(b, waited); END IF;
END $$;

-- The same of each budget of a path, in the order of their ids. windows: in the path's order; those that were taken in
-- slots are as they are without a lock. slotted: the ids of these
CREATE OR REPLACE FUNCTION spread_take_path(path jsonb, company_slot budget_slot, bound numeric, has_fit boolean,
                                            company_slots integer, OUT windows budget_window[], OUT slotted bigint[],
                                            OUT ample boolean, OUT serves boolean)
LANGUAGE plpgsql AS $$
DECLARE
    names text[] := ARRAY(SELECT b.step->>'budget' FROM jsonb_array_elements(path) WITH ORDINALITY b (step, n) ORDER BY b.n);
    w budget_window;
    each jsonb;
    place integer;
    placed integer := 0;
    step record;
BEGIN
    windows := array_fill(NULL::budget_window, ARRAY[cardinality(names)]);
    serves := false; ample := true;
    FOR w IN SELECT * FROM budget_window b WHERE b.budget = ANY (names) AND b.closed_at IS NULL ORDER BY b.id LOOP
        place := array_position(names, w.budget);
        each := path->(place - 1);
        step := spread_take(w, company_slot, bound, has_fit, company_slots);
        IF NOT step.serves THEN RETURN; END IF;
        w := step.b;
        IF (step.taken).slot IS NOT NULL THEN
            IF (step.taken).ceiling <> spread_ceiling((each->>'limit')::numeric, each) THEN RETURN; END IF;
            slotted := slotted || w.id;
            ample := ample AND (step.taken).spent + 2 * (step.taken).reserved < (step.taken).allocated;
        ELSE
            IF w.state <> ledger_state(w.spent, (each->>'limit')::numeric, each) THEN RETURN; END IF;
            ample := ample AND (w.spent + 2 * (w.reserved + bound)
                                < (each->>'limit')::numeric * (each->>'alert')::numeric) IS NOT FALSE;
        END IF;
        IF w.resets_at <= clock_timestamp() THEN RETURN; END IF;
        windows[place] := w;
        placed := placed + 1;
    END LOOP;
    serves := placed = cardinality(names);
END $$;

-- The windows of a path with NULL for those that were taken in slots: what refuses nothing.
CREATE OR REPLACE FUNCTION spread_rows(windows budget_window[], slotted bigint[]) RETURNS budget_window[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(SELECT CASE WHEN ((windows[n]).id = ANY (slotted)) IS NOT TRUE THEN windows[n] END
                 FROM generate_subscripts(windows, 1) n ORDER BY n)
$$;

-- Allocates the room of each busy budget, for a caller who has allocated the company's to so many slots. A window that
-- somebody has locked (a settlement in an older window of the company's) is left out until the next time.
CREATE OR REPLACE FUNCTION spread_allocate(settings jsonb, bound numeric, company_slots integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    b budget_window;
    top numeric;
    part numeric;
BEGIN
    FOR b IN
        SELECT * FROM budget_window o
        WHERE o.closed_at IS NULL AND o.slots > 1 AND o.budget <> 'global' AND o.state = 'CLOSED'
              AND o.resets_at > clock_timestamp()
              AND NOT EXISTS (SELECT FROM api_key k WHERE k.id = o.budget AND spread_counts_by_minute(k))
        ORDER BY o.id DESC LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        top := spread_ceiling(ledger_limit(b.budget, settings), ledger_thresholds_of(b.budget, settings));
        part := trunc((top - b.spent - b.reserved) * 0.999 / company_slots, 12);
        CONTINUE WHEN part <= 8 * bound OR part <= 0;
        INSERT INTO budget_slot AS s (window_id, slot, ceiling, allocated, allocated_at)
        SELECT b.id, n, top, part, clock_timestamp() FROM generate_series(1, company_slots) n
        ON CONFLICT (window_id, slot) DO UPDATE
        SET ceiling = top, allocated = part, allocated_at = EXCLUDED.allocated_at;
    END LOOP;
END $$;

-- Takes back what the slots of all budgets below the company's hold, for a caller who has locked its window and all of
-- its slots.
CREATE OR REPLACE FUNCTION spread_reclaim(company_window bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE budget_window b
    SET spent = b.spent + held.spent, reserved = b.reserved + held.reserved, request_count = b.request_count + held.calls
    FROM (SELECT s.window_id, sum(s.spent) AS spent, sum(s.reserved) AS reserved, sum(s.request_count) AS calls
          FROM budget_slot s WHERE s.allocated > 0 AND s.window_id <> company_window GROUP BY s.window_id) held
    WHERE b.id = held.window_id;
    UPDATE budget_slot s SET allocated = 0, spent = 0, reserved = 0, request_count = 0, lock_waits = 0, epoch = s.epoch + 1
    WHERE s.allocated > 0 AND s.window_id <> company_window;
END $$;

-- Whether a window has slots that hold a part of its room. What it spends is below its threshold then, whatever its row
-- alone says of another limit: who takes them back and decides next records the state.
CREATE OR REPLACE FUNCTION spread_has_slots(b budget_window) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN b.slots > 1 AND EXISTS (SELECT FROM budget_slot s WHERE s.window_id = b.id AND s.slot = 1 AND s.allocated > 0);
END $$;

-- Whether the slots of a budget on an entry's way were allocated under another limit than the one in force.
CREATE OR REPLACE FUNCTION spread_is_outdated(e ledger, settings jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF e.key_window_id IS NULL THEN RETURN false; END IF;
    RETURN EXISTS ( -- the first stands for all of a window
        SELECT FROM budget_slot s JOIN budget_window b ON b.id = s.window_id
        WHERE s.window_id = ANY (ARRAY[e.key_window_id] || e.path_window_ids) AND s.slot = 1 AND s.allocated > 0
              AND s.ceiling <> spread_ceiling(
                  ledger_limit(b.budget, settings), ledger_thresholds_of(b.budget, settings)));
END $$;

-- Books in slots what an entry changed there. in_slot: the number of the company's, which the caller has locked
CREATE OR REPLACE FUNCTION spread_book(e ledger, in_slot smallint, spends numeric, frees numeric, calls integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF e.slotted_window_ids IS NULL THEN RETURN; END IF;
    UPDATE budget_slot s SET
        spent = s.spent + spends, reserved = s.reserved - frees, request_count = s.request_count + calls
    WHERE s.window_id = ANY (e.slotted_window_ids) AND s.slot = in_slot;
END $$;

-- A window with what its slots hold, as it is without a lock.
CREATE OR REPLACE FUNCTION spread_whole(INOUT w budget_window)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF w.slots = 1 THEN RETURN; END IF;
    SELECT w.spent + held.spent, w.reserved + held.reserved, w.request_count + held.request_count
    INTO w.spent, w.reserved, w.request_count FROM ledger_held_by_slots(w.id) held;
END $$;
