-- Reservations that expire, because their caller crashed or never came back. Each is settled at its bound: a crash
-- never loses a cent. statement_id is the id of the statement that finds them.

-- Expires the reservations of one locked window.
CREATE OR REPLACE FUNCTION ledger_expire(INOUT w budget_window, settings jsonb, statement_id uuid, INOUT expired jsonb,
                                         INOUT threshold_events jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    e ledger;
    sum_of_bounds numeric := 0;
    calls bigint := 0;
    until timestamptz := clock_timestamp();
BEGIN
    FOR e IN
        UPDATE ledger SET status = 'settled', cost = bound, cost_basis = 'bound', outcome = 'expired',
               ended_at = clock_timestamp(), day = ledger_day(w, settings)
        WHERE window_id = w.id AND status = 'reserved' AND expires_at > w.expired_until AND expires_at <= until
        RETURNING *
    LOOP
        PERFORM ledger_roll_up(e, 1);
        IF e.key_window_id IS NOT NULL THEN
            step := ledger_book_key(
                e.key_window_id, settings, e.bound, e.bound, 1, 0, e.reserved_at, threshold_events, NULL, statement_id);
            threshold_events := step.threshold_events;
        END IF;
        IF e.path_window_ids IS NOT NULL THEN
            threshold_events := ledger_book_path(
                e.path_window_ids, settings, e.bound, e.bound, 1, threshold_events, NULL, statement_id);
        END IF;
        sum_of_bounds := sum_of_bounds + e.bound;
        calls := calls + 1;
        expired := COALESCE(expired, '[]') || jsonb_build_array(jsonb_build_object(
            'request_id', e.request_id, 'attempt', e.attempt, 'provider', e.provider, 'model', e.model,
            'tier', e.tier, 'key_id', e.key_id, 'cost', e.cost));
    END LOOP;
    IF calls > 0 OR until > w.expired_until + interval '5 seconds' THEN
        UPDATE budget_window SET spent = spent + sum_of_bounds, reserved = reserved - sum_of_bounds,
               request_count = request_count + calls, expired_until = until
        WHERE id = w.id RETURNING * INTO w;
    END IF;
END $$;

-- Expires the reservations of every window, the oldest first, and deletes kept responses that have expired. The budget
-- API and the reset call it before they lock the open window. A reservation lives for a day at most (AI_RESERVATION_TTL_SECONDS), so a window is done with once it was
-- looked at a day after its end. All windows are locked and their slots reclaimed before the first is changed, because
-- expiring locks keys' windows, which come after them. The open window is among them, though a reset may open it while
-- an older one is waited for.
CREATE OR REPLACE FUNCTION ledger_expire_all(settings jsonb, statement_id uuid, INOUT expired jsonb,
                                             INOUT threshold_events jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    stale bigint[];
    each_id bigint;
    w budget_window;
BEGIN
    PERFORM response_sweep(1000);
    LOOP
        SELECT COALESCE(array_agg(l.id), '{}') INTO stale FROM (
            SELECT id FROM budget_window
            WHERE budget = 'global' AND (closed_at IS NULL OR expired_until <= closed_at + interval '1 day')
            ORDER BY id FOR NO KEY UPDATE) l;
        EXIT WHEN NOT EXISTS (
            SELECT FROM budget_window WHERE budget = 'global' AND closed_at IS NULL AND id <> ALL (stale));
    END LOOP;
    PERFORM ledger_reclaim_slots(b) FROM budget_window b WHERE b.id = ANY (stale);
    FOREACH each_id IN ARRAY stale LOOP
        SELECT * INTO w FROM budget_window WHERE id = each_id;
        step := ledger_expire(w, settings, statement_id, expired, threshold_events);
        w := step.w; expired := step.expired; threshold_events := step.threshold_events;
        IF w.closed_at IS NULL THEN
            step := ledger_record_state(
                w, ledger_limit_in_force(w.limit_usd, settings), settings, threshold_events, NULL, statement_id);
            w := step.w; threshold_events := step.threshold_events;
        END IF;
    END LOOP;
END $$;

-- Expires the reservations of the company's closed windows, for a caller who holds the open one. It waits for no lock,
-- since closed windows come first in the lock order.
CREATE OR REPLACE FUNCTION ledger_expire_closed(settings jsonb, statement_id uuid, INOUT expired jsonb,
                                                INOUT threshold_events jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    closed budget_window;
BEGIN
    FOR closed IN
        SELECT * FROM budget_window
        WHERE budget = 'global' AND closed_at IS NOT NULL AND expired_until <= closed_at + interval '1 day'
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        step := ledger_expire(closed, settings, statement_id, expired, threshold_events);
        expired := step.expired; threshold_events := step.threshold_events;
    END LOOP;
END $$;
