-- As in 0005, but every window's slots are gathered before the first is swept: sweeping locks keys' windows, and a call in
-- a slot holds that slot while it waits for its key's.
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
    PERFORM ledger_gather(b) FROM budget_window b WHERE b.id = ANY (stale);
    FOREACH each_id IN ARRAY stale LOOP
        SELECT * INTO w FROM budget_window WHERE id = each_id;
        SELECT * INTO step FROM ledger_expire(w, settings, expired, crossings);
        w := step.w; expired := step.expired; crossings := step.crossings;
        IF w.closed_at IS NULL THEN
            SELECT * INTO step FROM ledger_record_state(w, ledger_cap('global', settings), settings, crossings);
            w := step.w; crossings := step.crossings;
        END IF;
    END LOOP;
END $$;
